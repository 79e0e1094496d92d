"""switch_to_deploy(): the same network, folded; and the identities that need
no folding."""
import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmiformer import IFormer
from mmiformer.backbone.channels_last import Linear, Pointwise
from mmiformer.backbone.layers import Block, LayerScale, Stem
from mmiformer.backbone.mixer import Fusion, InceptionMixer, max_pool


@pytest.fixture
def model(tiny):
    """With norms, scales and kernels that folding can get wrong."""
    torch.manual_seed(0)
    model = IFormer(**tiny)
    for name, parameter in model.named_parameters():
        if 'layer_scale' in name or 'norm' in name:
            nn.init.uniform_(parameter, .5, 1.5)
        elif parameter.dim() > 1:
            nn.init.normal_(parameter, std=.2)
        else:
            nn.init.normal_(parameter)
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_()
        elif name.endswith('running_var'):
            buffer.uniform_(.5, 2)
    return model.eval()


def folded(model):
    model = copy.deepcopy(model)
    model.switch_to_deploy()
    return model


@pytest.mark.parametrize('size', [(64, 64), (33, 57), (1, 1)])
def test_deployed_equals_plain(model, size):
    deployed = folded(model)
    x = torch.rand(2, 3, *size)
    with torch.no_grad():
        pairs = zip(model(x), deployed(x))
    for plain, fast in pairs:
        error = (plain - fast).abs().max()
        assert 0 < error < 1e-5 * max(plain.std(), 1)  # 0: nothing was folded


def test_what_is_folded(model):
    deployed = folded(model)
    kinds = {type(module) for module in deployed.modules()}
    assert not kinds & {nn.BatchNorm2d, LayerScale}
    plain = model.stages[0].blocks[0].mixer.fuse
    fuse = deployed.stages[0].blocks[0].mixer.fuse
    centre = torch.zeros(3, 3)
    centre[1, 1] = 1
    torch.testing.assert_close(fuse.folded - plain.weight,
                               centre.expand_as(plain.weight))
    assert not any(p.requires_grad for p in deployed.parameters())


def test_deployed_is_for_inference(model):
    state = model.state_dict()
    model.switch_to_deploy()
    model.switch_to_deploy()  # again does nothing
    model.eval()
    with pytest.raises(RuntimeError, match='folded .*: train a model on'):
        model.train()
    with pytest.raises(RuntimeError, match='folded .*: load before'):
        model.load_state_dict(state)


def test_a_deployed_backbone_gives_gradients_of_the_image(model):
    """As class activation maps need them."""
    deployed = folded(model)
    x = torch.rand(1, 3, 40, 24, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    sum(out.square().sum() for out in deployed(x)).backward()
    sum(out.square().sum() for out in model(y)).backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-3)


def test_the_fusion_keeps_its_kernel_in_bf16():
    """1 + w in bf16 has lost w where it is below 1/256."""
    torch.manual_seed(0)
    plain = Fusion(4)
    nn.init.normal_(plain.weight, std=1e-3)
    fuse = copy.deepcopy(plain)
    with torch.no_grad():
        fuse.switch_to_deploy()
        x = torch.rand(1, 8, 8, 4)
        with torch.autocast('cpu', torch.bfloat16):
            assert torch.equal(fuse(x), plain(x))
        x = x.bfloat16()
        assert torch.equal(fuse.bfloat16()(x), plain.bfloat16()(x))


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (2, 2), (7, 4), (9, 1)])
def test_max_pool_is_torchs(size):
    torch.manual_seed(0)
    x = torch.randn(2, *size, 6)
    part = x[..., 1:4]  # as the mixer has it: some of the channels
    for side in (3, 5):  # of the paper, of an ablation
        expected = F.max_pool2d(part.permute(0, 3, 1, 2), side, 1, side // 2)
        for tensor in (part, part.clone().requires_grad_()):
            assert torch.equal(
                max_pool(tensor, side).permute(0, 3, 1, 2), expected)


def test_folding_leaves_the_training_mode(tiny):
    model = IFormer(**tiny).train()
    model.switch_to_deploy()
    assert not model.training


def test_each_part_folds_alone():
    """So that a network of other parts can call them one by one."""
    torch.manual_seed(0)
    x = torch.rand(1, 3, 9, 9)
    stem = Stem(3, 8, dict(type='BN')).eval()
    nn.init.normal_(stem.norm1.running_mean)
    block = Block(8, InceptionMixer(8, 4, 1, 2), 4., 0., .5).eval()
    with torch.no_grad():
        before = block(stem(x).permute(0, 2, 3, 1))
        for part in (stem, block, block.mixer.fuse):
            part.switch_to_deploy()
        after = block(stem(x).permute(0, 2, 3, 1))
    torch.testing.assert_close(after, before)
    assert isinstance(block.scale1, nn.Identity)


@pytest.mark.parametrize('build', [Linear, Pointwise])
def test_layers_of_channels_last_maps(build):
    """Of a slice of the channels, as the mixer gives it, with gradients."""
    torch.manual_seed(0)
    layer = build(6, 4)
    wide = torch.randn(2, 3, 5, 9, requires_grad=True)
    expected = F.linear(wide[..., 2:8], layer.weight.flatten(1), layer.bias)
    layer(wide[..., 2:8]).square().sum().backward()
    torch.testing.assert_close(layer(wide[..., 2:8]), expected)
    found = [wide.grad.clone(), layer.weight.grad.clone()]
    wide.grad = layer.weight.grad = None
    expected.square().sum().backward()
    for one, other in zip(found, (wide.grad, layer.weight.grad)):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_a_deployed_network_can_be_copied_saved_and_cast(model):
    """The fusion's folded kernel goes along, though no state dict has it."""
    deployed = folded(model)
    x = torch.rand(1, 3, 40, 24)
    expected = deployed(x)
    saved = io.BytesIO()
    torch.save(deployed, saved)
    saved.seek(0)
    for other in (copy.deepcopy(deployed),
                  torch.load(saved, weights_only=False)):
        assert all(map(torch.equal, other(x), expected))
    for out, single in zip(deployed.double()(x.double()), expected):
        assert out.dtype == torch.float64
        assert (out - single).abs().max() < 1e-5 * max(single.std(), 1)
    assert all(map(torch.equal, deployed.float()(x), expected))
