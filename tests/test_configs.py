"""Every config parses and builds without data, and holds its recipe."""
import copy

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, PARAM_SCHEDULERS, init_default_scope

CLASSIFICATION = ('imagenet', 'ablation')  # see test_classification.py
ALL = [str(path.relative_to(ROOT / 'configs').with_suffix(''))
       for path in sorted(ROOT.glob('configs/[!_]*/*.py'))
       if path.parent.name not in (*CLASSIFICATION, 'peers')]
PEERS = {  # of ours, to look at side by side
    'vit_ti_imagenet_shapes': 'imagenet', 'swin_t_imagenet_shapes': 'imagenet',
    'swin_t_fpn_shapes': 'fpn_ade20k', 'swin_t_mask_rcnn_shapes': 'mask_rcnn',
}


def load(configs, name):
    cfg = Config.fromfile(configs / f'{name}.py')
    init_default_scope(cfg.default_scope)
    return cfg


def build(cfg):
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


@pytest.mark.parametrize('name', PEERS)
def test_peers_differ_from_ours_by_the_backbone_alone(name, configs):
    ours = load(configs, f'{PEERS[name]}/iformer_s_shapes')
    peer = load(configs, f'peers/{name}')
    assert type(build(copy.deepcopy(peer)).backbone).__name__ == (
        'VisionTransformer' if name.startswith('vit') else 'SwinTransformer')
    for cfg in (ours, peer):
        for part in ('backbone', 'neck', 'head'):
            cfg.model.pop(part, None)
        cfg.pop('work_dir')
    if name.startswith('vit'):  # it learns more slowly
        for key in ('train_cfg', 'param_scheduler'):
            assert peer.pop(key) != ours.pop(key)
    assert peer.to_dict() == ours.to_dict()


@pytest.mark.parametrize('name', ALL)
def test_parses_and_builds_without_data(name, configs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no data set anywhere near
    cfg = load(configs, name)
    model = build(cfg)
    assert type(model.backbone).__name__ == 'IFormer'
    maps = model.extract_feat(torch.rand(1, 3, 64, 96))
    assert [m.shape[2:] for m in maps[:4]] == [
        (16, 24), (8, 12), (4, 6), (2, 3)]
    assert cfg.auto_scale_lr.base_batch_size > 0
    assert not cfg.auto_scale_lr.get('enable')


def learning_rates(cfg, iterations, epoch_length):
    """The rate at chosen iterations, by the real schedulers."""
    model = torch.nn.Linear(1, 1)
    optimizer = build_optim_wrapper(model, dict(
        type='OptimWrapper', optimizer=cfg.optim_wrapper.optimizer)).optimizer
    schedulers = [PARAM_SCHEDULERS.build(
        dict(s, optimizer=optimizer)) for s in cfg.param_scheduler]
    rates = {}
    for step in range(max(iterations) + 1):
        rates[step] = optimizer.param_groups[0]['lr']
        optimizer.step()
        for scheduler in schedulers:
            if not scheduler.by_epoch or (step + 1) % epoch_length == 0:
                scheduler.step()
    return [rates[i] for i in iterations]


def test_detection_schedule(configs):
    cfg = load(configs, 'mask_rcnn/iformer_s_1x')
    rates = learning_rates(cfg, [0, 250, 500, 700, 801, 1101, 1199], 100)
    assert rates == pytest.approx(
        [1e-7, 5.01e-5, 1e-4, 1e-4, 1e-5, 1e-6, 1e-6], rel=1e-2)
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size == 2


def test_segmentation_schedule(configs):
    cfg = load(configs, 'fpn_ade20k/iformer_s_80k')
    assert cfg.train_cfg.max_iters == 80000
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.auto_scale_lr.base_batch_size == 32
    for scheduler in cfg.param_scheduler:  # the same curve, 100 times faster
        for key in ('begin', 'end', 'T_max'):
            if key in scheduler:
                scheduler[key] //= 100
    rates = learning_rates(cfg, [0, 10, 405, 800], 1)
    assert rates == pytest.approx([2e-5, 2e-4, 1e-4, 0], rel=2e-2, abs=1e-6)


def test_three_times_schedule_and_sizes(configs):
    from mmdet.registry import TRANSFORMS
    cfg = load(configs, 'mask_rcnn/iformer_b_3x_ms')
    assert cfg.train_cfg.max_epochs == 36
    rates = learning_rates(cfg, [600, 2699, 2701, 3301, 3599], 100)
    assert rates == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6, 1e-6], rel=1e-2)
    resize = TRANSFORMS.build(
        cfg.train_dataloader.dataset.pipeline[2])
    image = torch.zeros(480, 640, 3).numpy()
    sides = {min(resize(dict(img=image))['img'].shape[:2])
             for _ in range(200)}
    assert sides == set(range(480, 801, 32))


def test_upernet_schedule(configs):
    cfg = load(configs, 'upernet_ade20k/iformer_s_160k')
    assert cfg.train_cfg.max_iters == 160000
    assert cfg.train_dataloader.batch_size == 2
    for scheduler in cfg.param_scheduler:  # the same curve, 100 times faster
        for key in ('begin', 'end'):
            scheduler[key] //= 100
    rates = learning_rates(cfg, [0, 15, 807, 1599], 1)
    assert rates == pytest.approx([6e-11, 6e-5, 3e-5, 0], rel=2e-2, abs=1e-7)


@pytest.mark.parametrize('name', ['fpn_ade20k/iformer_s_80k',
                                  'upernet_ade20k/iformer_b_160k'])
def test_segmentation_training_sizes(name, configs):
    """The crop is 512, of images whose short side is 256 to 1024."""
    from mmseg.registry import TRANSFORMS
    cfg = load(configs, name)
    resize, crop = (TRANSFORMS.build(t) for t in
                    cfg.train_dataloader.dataset.pipeline[2:4])
    sides = []
    for _ in range(40):
        results = resize(dict(img=torch.zeros(300, 400, 3).numpy()))
        sides.append(min(results['img'].shape[:2]))
        results['gt_seg_map'] = results['img'][..., 0]
        results['seg_fields'] = []
        height, width = crop(results)['img'].shape[:2]
        assert height <= 512 and width <= 512
    assert 256 <= min(sides) < 500 and 600 < max(sides) <= 1024


def test_custom_templates_follow_their_first_lines(configs):
    cfg = load(configs, 'mask_rcnn/iformer_s_custom')
    head = cfg.model.roi_head
    assert head.bbox_head.num_classes == head.mask_head.num_classes == 2
    assert cfg.test_evaluator.ann_file == 'data/custom/annotations/val.json'
    assert cfg.test_dataloader.dataset.metainfo.classes == ('cat', 'dog')
    cfg = load(configs, 'faster_rcnn/iformer_s_custom')
    assert not build(cfg).roi_head.with_mask
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == 'bbox'
    assert cfg.test_dataloader.dataset.ann_file == 'annotations/val.json'
    cfg = load(configs, 'fpn_ade20k/iformer_s_custom')
    assert build(cfg).decode_head.conv_seg.out_channels == 3
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        assert loader.dataset.type == 'BaseSegDataset'
        (labels, ) = [t for t in loader.dataset.pipeline
                      if t.type == 'LoadAnnotations']
        assert labels.reduce_zero_label is False


def decays(configs, name):
    cfg = load(configs, name)
    wrapper = build_optim_wrapper(model := build(cfg), cfg.optim_wrapper)
    names = {id(p): n for n, p in model.named_parameters()}
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    return {names[id(p)]: group['weight_decay']
            for group in wrapper.param_groups for p in group['params']
            if id(p) in names}  # mmengine adds a placeholder


def test_detection_decay(configs):
    rates = decays(configs, 'mask_rcnn/iformer_s_1x')
    free = ('norm', 'pos_embed', 'layer_scale')
    for name, rate in rates.items():
        assert rate == (0. if any(f in name for f in free) else 0.05), name
    assert rates['backbone.stages.2.blocks.0.scale1.layer_scale'] == 0
    assert rates['backbone.stages.0.patch_embed.norm1.bias'] == 0
    assert rates['backbone.stages.0.blocks.0.mlp.fc1.bias'] == 0.05


def test_segmentation_decay(configs):
    assert set(decays(configs, 'fpn_ade20k/iformer_s_80k').values()) == {1e-4}
    for name, rate in decays(configs, 'upernet_ade20k/iformer_s_160k').items():
        free = 'norm' in name or 'pos_embed' in name
        assert rate == (0. if free else 0.01), name


def test_segmentation_test_size_is_a_multiple_of_32(configs):
    from mmseg.registry import TRANSFORMS
    cfg = load(configs, 'fpn_ade20k/iformer_s_80k')
    results = dict(img=torch.zeros(300, 451, 3).numpy())
    for transform in cfg.test_dataloader.dataset.pipeline[1:3]:
        results = TRANSFORMS.build(transform)(results)
    assert results['img'].shape == (512, 800, 3)  # 512 x 770 before
