"""The networks that are timed, and their weights."""
from pathlib import Path

import pytest
import torch
from conftest import TINY
from fakes import FAKES
from torch import nn

from mmiformer import IFormer
from mmiformer.analysis import benchmark
from mmiformer.analysis.benchmark.models import Network

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / 'tests/reference.py'


@pytest.mark.parametrize('text, words', [
    ('Swin-X', ['Swin-X', 'Swin-T', 'tests/']),
    ('iFormer-S+fast', ['fast', 'deploy', 'compiled']),
])
def test_an_unknown_variant_is_named(text, words):
    with pytest.raises(ValueError) as error:
        benchmark.parse_variant(text, benchmark.networks())
    assert all(word in str(error.value) for word in words)


def test_what_is_left_out():
    known = {
        'here': Network(dict(arch=None), (1, ), nn.Identity),
        'ours': FAKES['plain'],
        'gone': Network(dict(type='mmiformer.Nothing'), (1, )),
        'far': Network(dict(type='nopackage.Nothing'), (1, ))}
    known['resnet'] = Network(dict(type='mmdet.ResNet', depth=18), (1, ))
    known['fpn'] = Network(dict(type='mmdet.FPN', in_channels=[8, 8],
                                out_channels=8, num_outs=2), (8, ))
    variants = [benchmark.parse_variant(name, known) for name in (
        'here', 'here+deploy', 'ours+deploy', 'gone', 'far+compiled',
        'ours+cp', 'resnet+cp', 'fpn+cp')]
    reasons = benchmark.left_out(variants, known)
    assert "unexpected keyword argument 'with_cp'" in reasons.pop('fpn+cp')
    assert reasons == {
        'ours+cp': 'the network has no with_cp',
        'here+deploy': 'the network has no switch_to_deploy()',
        'gone': 'not in the installed packages',
        'far+compiled': 'not in the installed packages'}


def test_ours_and_the_reference_get_the_same_weights():
    reference = benchmark.networks('small', REFERENCE)['reference']
    models = IFormer(TINY, pretrain_img_size=64), reference.replacement(
        TINY, pretrain_img_size=64)
    for model in models:
        benchmark.fill(model)
    ours, plain = (model.state_dict() for model in models)
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        assert torch.equal(value, plain[name]), name
        if 'layer_scale' in name:
            assert value.min() >= 0.1
        elif name.endswith('running_var'):
            assert value.min() >= 0.5
        elif value.is_floating_point():
            assert value.std() > 0.01, name
    # Each name has values of its own, and kernels keep a map's deviation.
    assert not torch.equal(*(ours[f'stages.0.blocks.0.norm{i}.weight']
                             for i in (1, 2)))
    kernel = ours['stages.3.blocks.0.mlp.fc1.weight']
    assert abs(kernel.std() * 48 ** 0.5 - 1) < 0.05
    with torch.no_grad():
        outs = [model.eval()(torch.rand(
            1, 3, 64, 48, generator=torch.Generator().manual_seed(0)))
            for model in models]
    assert benchmark.worst_error(*outs) < 1e-5


@pytest.mark.parametrize('name', ['ResNet50', 'Swin-T', 'PVT-S', 'PVTv2-B2'])
@torch.no_grad()
def test_peers(name):
    network = benchmark.networks()[name]
    model = benchmark.BackboneTask().build(network)
    model.eval()
    outs = model(torch.randn(1, 3, 64, 32))
    assert [out.shape[1] for out in outs] == list(network.channels)
    assert [out.shape[2:] for out in outs] == [
        (64 // stride, 32 // stride) for stride in (4, 8, 16, 32)]
    # Neither vanishing nor overflowing: that would change the timing.
    assert all(1e-2 < out.std() < 1e4 for out in outs)
