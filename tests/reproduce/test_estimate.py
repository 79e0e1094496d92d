"""What a reproduction costs, before it starts."""
import pytest
import torch
from plans import make_plan
from torch import nn

from mmiformer import IFormer
from mmiformer.analysis import count
from mmiformer.reproduce import (
    estimate,
)


def test_saved_bytes_of_a_network_by_hand():
    """Linear keeps its input, ReLU its output, which the next layer shares;
    the weights are not counted."""
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7))
    assert estimate.saved_bytes(network, torch.rand(2, 3)) == 4 * (
        2 * 3 + 2 * 5)


def test_flops_and_activations_from_small_images(tiny):
    """The extrapolations against the whole."""
    class Model(nn.Module):
        with_neck = False

        def __init__(self):
            super().__init__()
            self.backbone = IFormer(**tiny)
            self.head = nn.Linear(48, 1000000)  # the same at any size

        def forward(self, x):
            x = self.backbone(x)[-1]
            return x, self.head(x.mean((2, 3)))

    model = Model()
    backbone = model.backbone
    assert estimate.count_flops(model, (512, 512)) == pytest.approx(
        count(model, (512, 512)).flops_with_attention, rel=1e-3)
    whole = estimate.saved_bytes(backbone.train(), torch.rand(1, 3, 512, 512))
    assert estimate.activation_bytes(model, (512, 512)) == pytest.approx(
        whole, rel=0.02)


@pytest.mark.parametrize('name, images, checkpoints', [
    ('coco/iformer_s', 12 * 118287, 12),
    ('ade20k/iformer_s', 80000 * 32, 10),
    ('upernet/iformer_s', 160000 * 16, 10),
    ('shapes/mask_rcnn', 2 * 240, 2),
    ('shapes/two_iterations', 2 * 4, 1),
])
def test_schedules(name, images, checkpoints):
    assert estimate.schedule(make_plan(name)) == (images, checkpoints)


def test_an_estimate(monkeypatch):
    """1.5e9 FLOPs x 6 x 80000 x 32 images over 8 GPUs of 10 TFLOP/s."""
    model = nn.Linear(9, 10)  # 100 parameters
    monkeypatch.setattr(estimate, 'build', lambda cfg: model)
    monkeypatch.setattr(estimate, 'count_flops', lambda *args: int(1.5e9))
    monkeypatch.setattr(estimate, 'activation_bytes', lambda *args: 1000)
    cost = estimate.estimate(make_plan('ade20k/iformer_s'), tflops=10)
    assert cost.hours == pytest.approx(0.08)
    assert cost.memory_bytes == 16 * 100 + 4 * 1000
    assert cost.disk_bytes == 12 * 100 * 10
    assert 'about 5 min of training' in cost.lines()[0]
    half = estimate.estimate(
        make_plan('coco/iformer_s', available=4), tflops=10)
    assert half.hours == pytest.approx(
        6 * 1.5e9 * 12 * 118287 / 4 / 1e13 / 3600)
