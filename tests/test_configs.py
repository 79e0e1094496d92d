"""Every config parses and builds without data, and holds its recipe."""
import re

import pytest
import torch
from conftest import ROOT
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS
from tiny_models import load_in_scope

CLASSIFICATION = ('imagenet', 'ablation')  # see test_classification.py
ALL = [str(path.relative_to(ROOT / 'configs').with_suffix(''))
       for path in sorted(ROOT.glob('configs/[!_]*/*.py'))
       if path.parent.name not in (*CLASSIFICATION, 'peers')]
CAMVID, NUCLEI = 'fpn_camvid/iformer_s', 'mask_rcnn/iformer_s_nuclei'
PEERS = {  # of ours, to compare with
    'swin_t_fpn_shapes': 'fpn_ade20k/iformer_s_shapes',
    'swin_t_mask_rcnn_shapes': 'mask_rcnn/iformer_s_shapes',
    'swin_t_fpn_camvid': CAMVID, 'r50_fpn_camvid': CAMVID,
    'swin_t_mask_rcnn_nuclei': NUCLEI, 'r50_mask_rcnn_nuclei': NUCLEI,
}
CLASSES = dict(swin='SwinTransformer', r50='ResNet')


def build(cfg):
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', PEERS)
def test_peers_differ_from_ours_by_the_backbone_alone(name, configs):
    ours = load_in_scope(configs / f'{PEERS[name]}.py')
    peer = load_in_scope(configs / f'peers/{name}.py')
    peer.model.backbone.pop('init_cfg', None)
    assert type(MODELS.build(peer.model.backbone)).__name__ == CLASSES[
        name.split('_')[0]]
    for cfg in (ours, peer):
        cfg.model.pop('backbone')
        cfg.pop('work_dir', None)
        if 'imagenet' in name:  # with another neck, or none
            cfg.model.pop('neck')
            cfg.model.pop('head')
        else:
            cfg.model.neck.pop('in_channels')
    if name.startswith('vit'):  # it learns more slowly
        for key in ('train_cfg', 'param_scheduler'):
            assert peer.pop(key) != ours.pop(key)
    assert peer.to_dict() == ours.to_dict()


@pytest.mark.parametrize('name', ALL)
def test_parses_and_builds_without_data(name, configs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no data set anywhere near
    cfg = load_in_scope(configs / f'{name}.py')
    model = build(cfg)
    assert type(model.backbone).__name__ == 'IFormer'
    maps = model.extract_feat(torch.rand(1, 3, 64, 96))
    assert [m.shape[2:] for m in maps[:4]] == [
        (16, 24), (8, 12), (4, 6), (2, 3)]
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert not cfg.auto_scale_lr.get('enable')


def test_custom_templates_follow_their_first_lines(configs):
    cfg = load_in_scope(configs / 'mask_rcnn/iformer_s_custom.py')
    head = cfg.model.roi_head
    assert head.bbox_head.num_classes == head.mask_head.num_classes == 2
    assert cfg.test_evaluator.ann_file == 'data/custom/annotations/val.json'
    assert cfg.test_dataloader.dataset.metainfo.classes == ('cat', 'dog')
    cfg = load_in_scope(configs / 'faster_rcnn/iformer_s_custom.py')
    assert not build(cfg).roi_head.with_mask
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == 'bbox'
    assert cfg.test_dataloader.dataset.ann_file == 'annotations/val.json'
    cfg = load_in_scope(configs / 'fpn_ade20k/iformer_s_custom.py')
    assert build(cfg).decode_head.conv_seg.out_channels == 3
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert loader.dataset.type == 'BaseSegDataset'
        (labels, ) = [t for t in loader.dataset.pipeline
                      if t.type == 'LoadAnnotations']
        assert labels.reduce_zero_label is False


@pytest.mark.parametrize('file, setting, length, batches, rates', [
    # The rate is reached within the training, however short that is, and falls
    # at its end.
    ('mask_rcnn', 'max_epochs', 12, 6, {6: 1e-4, 47: 1e-4, 48: 1e-5, 66: 1e-6}),
    ('mask_rcnn', 'max_epochs', 2, 6, {6: 1e-5, 11: 1e-5}),
    ('mask_rcnn', 'max_epochs', 1, 6, {4: 8e-5, 5: 1e-4}),
    ('fpn_ade20k', 'max_iters', 20000, 1, {1000: 1.9877e-4}),
    ('fpn_ade20k', 'max_iters', 50, 1, {5: 1.951e-4, 49: 1.97e-7}),
    ('fpn_ade20k', 'max_iters', 5, 1, {1: 1.809e-4})])
def test_the_schedule_of_a_template_follows_its_length(
        file, setting, length, batches, rates, configs, tmp_path):
    template = configs / file / 'iformer_s_custom.py'
    text, count = re.subn(rf'(?m)^{setting} = \d+$', f'{setting} = {length}',
                          template.read_text())
    assert count == 1
    child = tmp_path / 'own.py'
    child.write_text(text.replace(
        "_base_ = '", f"_base_ = '{template.parent}/"))
    cfg = load_in_scope(child)
    assert cfg.train_cfg.get('val_interval', 1) >= 1
    optimizer = torch.optim.SGD([torch.zeros(1)],
                                lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = []
    for settings in cfg.param_scheduler:
        kind = PARAM_SCHEDULERS.get(settings.pop('type'))
        build = (kind.build_iter_from_epoch if settings.pop(
            'convert_to_iter_based', False) else kind)
        more = {} if build is kind else dict(epoch_length=batches)
        schedulers.append(build(optimizer=optimizer, **settings, **more))
    optimizer.step()
    found = []
    for iteration in range(length * batches):
        found.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            if not scheduler.by_epoch or (iteration + 1) % batches == 0:
                scheduler.step()
    assert {at: found[at] for at in rates} == pytest.approx(rates, rel=1e-2)


def is_vector(name, parameter):
    return parameter.dim() < 2


def is_named(*words):
    return lambda name, parameter: any(word in name for word in words)


@pytest.mark.parametrize('name, decay, is_free', [
    ('imagenet/iformer_s_300e', 0.05, is_vector),
    ('imagenet/iformer_l_384_ft', 1e-8, is_vector),
    ('mask_rcnn/iformer_s_1x', 0.05,
     is_named('norm', 'pos_embed', 'layer_scale')),
    ('upernet_ade20k/iformer_s_160k', 0.01, is_named('norm', 'pos_embed')),
    ('fpn_ade20k/iformer_s_80k', 1e-4, is_named())])
def test_weight_decay(name, decay, is_free, configs):
    cfg = load_in_scope(configs / f'{name}.py')
    with torch.device('meta'):
        model = build(cfg)
    parameters = dict(model.named_parameters())
    names = {id(parameter): name for name, parameter in parameters.items()}
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    found = {names[id(p)]: group['weight_decay']
             for group in wrapper.param_groups for p in group['params']
             if id(p) in names}  # mmengine adds a placeholder
    assert found == {
        name: 0. if is_free(name, parameter) else decay
        for name, parameter in parameters.items() if parameter.requires_grad}
