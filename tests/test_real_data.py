"""The configs on real images, ours and the peers', on tiny data laid out
alike."""
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, MODELS, TASK_UTILS, init_default_scope
from mmengine.runner import Runner
from real_data import VOID, write_camvid, write_nucleus
from torch.nn.modules.batchnorm import _BatchNorm

from mmiformer.config import find_pretrained, load_config, walk
from mmiformer.kit.checks import check_data

PARAMETERS = {
    'fpn_camvid/iformer_s': 20_607_499,
    'peers/swin_t_fpn_camvid': 28_702_981,
    'peers/r50_fpn_camvid': 24_997_515,
    'mask_rcnn/iformer_s_nuclei': 24_189_654,
    'peers/swin_t_mask_rcnn_nuclei': 32_285_136,
    'peers/r50_mask_rcnn_nuclei': 28_579_670,
}
OURS = [name for name in PARAMETERS if not name.startswith('peers')]
SPLITS = ('train', 'val', 'test')


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    """Both data sets, where their configs look for them."""
    root = tmp_path_factory.mktemp('clone') / 'data'
    write_camvid(root / 'camvid')
    for name in 'abcde':
        write_nucleus(root / 'nuclei/stage1_train', name, *(
            np.s_[row:row + 12, 40:52] for row in range(0, 240, 20)))
    words = ['nuclei.py', f'{root}/nuclei/stage1_train', f'{root}/nuclei',
             '--train', '3']
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', words)
        runpy.run_path(str(ROOT / 'demo/nuclei.py'),
                       run_name='__main__')
    return root.parent


@pytest.fixture(autouse=True)
def go_there(files, monkeypatch):
    monkeypatch.chdir(files)


def read(name):
    cfg = load_config(name)
    init_default_scope(cfg.default_scope)
    return cfg


def train_a_step(cfg):
    """Returns the losses of one step, and the gradients."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.train()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    loader = Runner.build_dataloader(dict(
        cfg.train_dataloader, batch_size=2, num_workers=0,
        persistent_workers=False), seed=0)
    batch = model.data_preprocessor(next(iter(loader)), True)
    loss, losses = model.parse_losses(model(**batch, mode='loss'))
    wrapper.backward(loss)
    gradients = {name: parameter.grad
                 for name, parameter in model.named_parameters()}
    wrapper.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return {name: value.item() for name, value in losses.items()}, gradients


SLOW_PEERS = [
    name if name in OURS else pytest.param(name, marks=pytest.mark.slow)
    for name in PARAMETERS]


@pytest.mark.parametrize('name', SLOW_PEERS)
def test_random_weights_and_all_is_trained(name):
    cfg = read(name)
    assert find_pretrained(cfg) == []
    model = MODELS.build(cfg.model).train()
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]
    assert all(p.requires_grad for p in model.parameters())
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
    assert all(norm.training for norm in norms)
    assert norms or 'swin' in name and 'nuclei' in name


@pytest.mark.parametrize('name', OURS)
def test_the_check_passes(name):
    report = check_data(read(name), SPLITS)
    assert report.errors == 0
    assert [line.split(':')[0] for line in report.read] == [*SPLITS]


@pytest.mark.parametrize('name', SLOW_PEERS)
def test_a_step_reaches_every_parameter(name):
    losses, gradients = train_a_step(read(name))
    assert all(np.isfinite(value) and value > 0 for key, value in
               losses.items() if 'loss' in key)
    expected = {'decode.loss_ce', 'decode.loss_lovasz'} if (
        'camvid' in name) else {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls',
                                'loss_bbox', 'loss_mask'}
    assert {key for key in losses if 'loss_' in key} == expected
    for key, gradient in gradients.items():
        assert gradient is not None, key
        # The branches of a ResNet's blocks begin with a scale of 0.
        assert gradient.any() or 'r50' in name and '.layer' in key, key


def test_void_is_ignored_wherever_it_is_read():
    """In the loss, the crops, the padding and the metric."""
    cfg = read('fpn_camvid/iformer_s')
    found = {key: node['ignore_index'] for key, node in walk(cfg.to_dict())
             if isinstance(node, dict) and 'ignore_index' in node}
    assert found == dict.fromkeys([
        'dataset', 'train_pipeline.3',  # variables of the file
        'model.decode_head', 'train_dataloader.dataset.pipeline.3',
        *(f'{split}_dataloader.dataset' for split in SPLITS),
        'val_evaluator', 'test_evaluator'], VOID)
    assert cfg.model.data_preprocessor.seg_pad_val == VOID


def test_what_is_tested_on():
    """CamVid has images for tests alone; in both, tests take them whole."""
    cfg = read('fpn_camvid/iformer_s')
    for split in ('val', 'test'):
        dataset = DATASETS.build(cfg[f'{split}_dataloader'].dataset)
        samples = [sample['data_samples'] for sample in dataset]
        assert [Path(sample.img_path).name for sample in samples] == [
            f'{split}_0.png', f'{split}_1.png']
        assert {sample.img_shape for sample in samples} == {(360, 480)}
        assert set(samples[0].gt_sem_seg.data.unique().tolist()) == {
            *range(VOID + 1)}
    cfg = read('mask_rcnn/iformer_s_nuclei')
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    sample = dataset[0]['data_samples']
    assert (sample.img_shape, sample.ori_shape) == ((512, 512), (256, 256))
    assert len(dataset) == 2 and len(sample.gt_instances) == 12


def test_anchors_fit_the_nuclei():
    cfg = read('mask_rcnn/iformer_s_nuclei')
    generator = TASK_UTILS.build(cfg.model.rpn_head.anchor_generator)
    sides = [(anchors[:, 2:] - anchors[:, :2]).prod(1).sqrt().round().unique()
             for anchors in generator.base_anchors]
    assert [side.tolist() for side in sides] == [
        [16], [32], [64], [128], [256]]
