"""A training step, and whole models."""
from pathlib import Path

import pytest
import torch
from conftest import TINY
from fakes import run_fakes
from mmengine.config import Config

from mmiformer.analysis import benchmark
from mmiformer.analysis.benchmark.models import Network

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / 'tests/reference.py'


def test_a_training_step_trains():
    bench, (case, ), _ = run_fakes(['plain'], 'train')
    model = bench.build(bench.variants[0], case)
    before = model.conv.weight.detach().clone()
    bench.step(model, case, torch.rand(2, 3, 8, 6))()
    # The first step of AdamW is of the size of the learning rate.
    moved = (model.conv.weight - before).abs()
    assert moved.max().item() == pytest.approx(1e-4, rel=0.2)
    assert model.conv.weight.grad is None
    assert model.training
    bench, (case, ), _ = run_fakes(['plain'])
    model = bench.build(bench.variants[0], case)
    assert not model.training


@pytest.mark.parametrize('config', ['fpn_ade20k/iformer_s_shapes.py',
                                    'mask_rcnn/iformer_s_shapes.py'])
def test_whole_models(config, configs):
    task = benchmark.ModelTask(Config.fromfile(configs / config), 'x')
    reference = benchmark.networks('small', REFERENCE)['reference']
    cfg = dict(type='mmiformer.IFormer', arch=TINY, pretrain_img_size=64)
    ours = Network(cfg, TINY['embed_dims'])
    plain = Network(cfg, TINY['embed_dims'], lambda arch:
                    reference.replacement(arch, 64), 'ours')
    images = torch.rand(2, 3, 48, 64)
    losses, maps = [], []
    for network in (ours, plain):
        model = task.build(network).train()
        torch.manual_seed(1)  # dropout, and the regions that are sampled
        losses.append(task.loss(model, images))
        losses[-1].backward()
        for name, parameter in task.backbone(model).named_parameters():
            assert parameter.grad is not None, name
        model.eval()
        with torch.no_grad():
            maps.append(task.maps(model, images))
            assert len(task.forward(model, images)) == 2  # one per image
    assert isinstance(task.backbone(model), reference.replacement)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-3)
    assert benchmark.worst_error(*maps) < 1e-4
