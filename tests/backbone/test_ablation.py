"""Networks with other mixers: what each argument changes, and nothing else."""
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY
from torch import nn

from mmiformer import IFormer
from mmiformer.backbone.arch import PRESETS, resolve_arch
from mmiformer.backbone.mixer import InceptionMixer

ARCHS = {
    'attention': dict(branches=('attention', )),
    'no attention': dict(branches=('depthwise', 'max_pool')),
    'max_pool': dict(branches=('max_pool', 'attention')),
    'other kinds': dict(branches=('conv', 'avg_pool', 'attention')),
    'kernel': dict(kernel_size=5),
    'no fusion': dict(fusion=False),
    'unpooled': dict(pool_strides=(1, 1, 1, 1)),
}


@pytest.mark.parametrize('name', ARCHS)
def test_trains_deploys_and_takes_any_size(name):
    torch.manual_seed(0)
    model = IFormer(dict(TINY, **ARCHS[name]), pretrain_img_size=64)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=.2)
    x = torch.rand(2, 3, 33, 57)
    sum(out.square().sum() for out in model(x)).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
    model.eval()
    with torch.no_grad():
        plain = model(x)
        model.switch_to_deploy()
        for one, other in zip(plain, model(x)):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_a_mixer_computes():
    """Other kinds and kernels, written out."""
    torch.manual_seed(0)
    mixer = InceptionMixer(12, 4, 2, 1, kernel_size=5, fusion=False,
                           branches=('attention', 'avg_pool', 'conv'))
    x = torch.randn(2, 7, 6, 12)
    nchw = x.permute(0, 3, 1, 2)
    conv = mixer.conv_branch
    assert conv.depthwise.weight.shape == (8, 8, 5, 5)
    ones = torch.ones(1, 1, 7, 6)
    kernel = torch.ones(4, 1, 5, 5)
    average = (F.conv2d(nchw[:, :4], kernel, padding=2, groups=4) /
               F.conv2d(ones, kernel[:1], padding=2))
    pointwise = mixer.avg_pool_branch.pointwise
    parts = [
        F.gelu(F.conv2d(average, pointwise.weight, pointwise.bias)),
        F.gelu(F.conv2d(F.conv2d(nchw[:, 4:8], conv.pointwise.weight),
                        conv.depthwise.weight, padding=2)),
        mixer.low_mixer(x[..., 8:]).permute(0, 3, 1, 2)]
    expected = F.conv2d(torch.cat(parts, 1), mixer.proj.weight,
                        mixer.proj.bias)
    torch.testing.assert_close(mixer(x).permute(0, 3, 1, 2), expected)


def test_base_names_what_differs():
    arch = resolve_arch(dict(base='small', fusion=False))
    assert arch == dict(resolve_arch('small'), fusion=False)
    assert 'base' not in PRESETS['small']
    arch = resolve_arch(dict(base='large', branches=('attention', )))
    assert arch['attention_heads'] == tuple(
        (heads, ) * depth for heads, depth in zip(
            arch['num_heads'], PRESETS['large']['depths']))
