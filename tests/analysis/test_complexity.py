"""FLOPs by hand, by any kernel, and as the paper's dense tables have them."""
from contextlib import nullcontext

import pytest
from conftest import TINY, math_attention
from mmengine.registry import MODELS
from tiny_models import load_in_scope
from torch import nn

from mmiformer import IFormer
from mmiformer.paper import count


class Attention(nn.Module):

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)

    def train(self, mode=True):
        """Returns nothing, as mmdet's ResNet and Swin do."""
        super().train(mode)

    def forward(self, x):
        x = self.conv(x).view(1, 2, 4, -1).transpose(2, 3).contiguous()
        return nn.functional.scaled_dot_product_attention(x, x, x)


@pytest.mark.parametrize('kernel', [math_attention, nullcontext])
def test_counts_by_hand_whatever_kernel_runs(kernel):
    model = Attention()
    with kernel():
        result = count(model, (6, 5))
    assert result.params == 3 * 8 + 8
    assert result.flops == 30 * 3 * 8
    # 2 heads, 30 x 30 pairs, 4 channels, twice.
    assert result.flops_with_attention == result.flops + 2 * 30 * 30 * 4 * 2
    assert model.training


def test_images_of_one_channel():
    """The first convolution has two channels less to count: 3x3, 8 outputs."""
    one, three = (count(IFormer(TINY, in_channels=number), (32, 32))
                  for number in (1, 3))
    assert three.flops - one.flops == 2 * 9 * 8 * 16 * 16


# The paper's rounded figures, and to 10 megaflops those that a stock model of
# the same shapes gave without the output norms.
@pytest.mark.parametrize('config, shape, params, flops, paper, attention', [
    ('mask_rcnn/iformer_s_1x', (800, 1280), 39.64, 263.20, 263, 399),
    pytest.param('mask_rcnn/iformer_b_1x', (800, 1280), 67.56, None, 351, 570,
                 marks=pytest.mark.slow),
    ('fpn_ade20k/iformer_s_80k', (512, 2048), 23.74, 181.40, 181, 323),
    pytest.param('upernet_ade20k/iformer_s_160k', (512, 2048), 49.17, None,
                 938, 1080, marks=pytest.mark.slow),
])
def test_dense_flops(config, shape, params, flops, paper, attention, configs):
    cfg = load_in_scope(configs / f'{config}.py')
    result = count(MODELS.build(cfg.model), shape)
    assert round(result.params / 1e6, 2) == params
    assert abs(result.flops / 1e9 - paper) < 1
    assert abs(result.flops_with_attention / 1e9 - attention) < 1
    if flops:
        norms = 5 * sum(
            dim * -(-shape[0] // stride) * -(-shape[1] // stride)
            for dim, stride in zip((96, 192, 320, 384), (4, 8, 16, 32)))
        assert round((result.flops - norms) / 1e9, 2) == flops


def test_the_count_does_not_depend_on_what_the_detector_finds(configs):
    """The box head is counted for each of the 100 proposals allowed, though
    the suppression here would leave a handful."""
    cfg = load_in_scope(configs / 'mask_rcnn/iformer_s_shapes.py')
    cfg.model.test_cfg.rpn.nms.iou_threshold = 0.01
    model = MODELS.build(cfg.model)
    linear = (count(model, (32, 32)).operators['linear'] -
              count(model.backbone, (32, 32)).operators['linear'])
    assert linear == 100 * 512 * (128 * 7 * 7 + 512 + 4 + 4 * 3)
    assert model.training and 'predict' not in vars(model.rpn_head)
