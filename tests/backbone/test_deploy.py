"""switch_to_deploy(): the same network, folded; and the identities that need
no folding."""
import copy
import io

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmiformer import IFormer
from mmiformer.backbone import products
from mmiformer.backbone.layers import Block, Stem
from mmiformer.backbone.mixer import Fusion, InceptionMixer, max_pool
from mmiformer.backbone.products import Convolution, Pointwise


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
    assert not kinds & {nn.BatchNorm2d}
    assert not any('layer_scale' in name
                   for name, _ in deployed.named_parameters())
    # The residuals are taken along by the products.
    assert all(module.deployed for module in deployed.modules()
               if isinstance(module, Block))
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
    expected = F.max_pool2d(part.permute(0, 3, 1, 2), 3, 1, 1)
    for tensor in (part, part.clone().requires_grad_()):
        assert torch.equal(max_pool(tensor).permute(0, 3, 1, 2), expected)


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


def test_fused_products_only_where_nobody_would_miss_a_gradient(monkeypatch):
    """Fused kernels know neither gradients nor autocast nor tracers."""
    torch.manual_seed(0)
    layer = Pointwise(6, 4)
    layer(torch.randn(2, 3, 5, 6)).sum().backward()
    assert layer.weight.grad.abs().min() > 0
    layer.switch_to_deploy()
    layer.requires_grad_(False)
    assert layer.fused  # torch of the tested stacks has oneDNN
    calls = []
    dtype_of = products._fused_dtype
    monkeypatch.setattr(products, '_fused_dtype', lambda x: calls.append(
        dtype_of(x)) or calls[-1])
    wide = torch.randn(2, 3, 5, 9)
    x, add = wide[..., 2:8], torch.randn(2, 3, 5, 4)
    expected = F.conv2d(x.permute(0, 3, 1, 2), layer.weight,
                        layer.bias).permute(0, 2, 3, 1)
    before = add.clone()
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer(x, gelu=True), F.gelu(expected))
    torch.testing.assert_close(layer(x, add=add), expected + add)
    assert torch.equal(add, before) and calls == [torch.float32] * 3
    calls.clear()
    layer(x.clone().requires_grad_())
    layer.double()(x.double())
    layer.float()
    with torch.autocast('cpu', torch.float16):
        assert layer(x).dtype == torch.float16
    torch.jit.trace(layer, (x, ), check_trace=False)
    assert calls == [None] * 4


@torch.no_grad()
def test_fused_products_in_bf16():
    """Autocast's own rounding, and fp32 for the residual."""
    torch.manual_seed(0)
    plain = Pointwise(64, 32)
    fast = copy.deepcopy(plain)
    fast.switch_to_deploy()
    x, add = torch.randn(2, 9, 7, 64), 1e-3 * torch.randn(2, 9, 7, 32)
    for kwargs in (dict(), dict(gelu=True), dict(add=add + 1e3)):
        exact = plain(x, **kwargs)
        with torch.autocast('cpu', torch.bfloat16):
            expected, out = plain(x, **kwargs), fast(x, **kwargs)
        assert out.dtype == expected.dtype == (
            torch.float32 if 'add' in kwargs else torch.bfloat16)
        error = (out - exact).abs().max()
        assert 0 < error <= 1.5 * (expected - exact).abs().max()
    out = fast.bfloat16()(x.bfloat16(), add=add.bfloat16())
    assert out.dtype == torch.bfloat16
    assert (out - plain.float()(x, add=add)).abs().max() < 0.02


@torch.no_grad()
@pytest.mark.parametrize('geometry', [
    dict(kernel_size=3, stride=2, padding=1), dict(kernel_size=1),
    dict(kernel_size=5, padding=2, groups=4, bias=False)])
def test_fused_convolutions(geometry, monkeypatch):
    torch.manual_seed(0)
    layer = Convolution(4, 8, **geometry).requires_grad_(False)
    x = torch.randn(2, 4, 9, 7).to(memory_format=torch.channels_last)
    expected = nn.Conv2d.forward(layer, x)
    torch.testing.assert_close(layer(x, gelu=True), F.gelu(expected))
    layer.switch_to_deploy()
    # Public paths raise, so that the fused kernel is what answers.
    with monkeypatch.context() as patch:
        patch.setattr(F, 'conv2d', None)
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer(x, gelu=True), F.gelu(expected))
        part = x[:1, :, 2:6, :5]  # of another size, and not dense
        whole = layer(part)
        with torch.autocast('cpu', torch.bfloat16):
            half = layer(x)
    torch.testing.assert_close(whole, nn.Conv2d.forward(layer, part))
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.03)


@torch.no_grad()
def test_a_deployed_network_that_has_run_can_be_copied_saved_and_cast(model):
    """The reordered weights stay behind, and follow the others."""
    deployed = folded(model)
    x = torch.rand(1, 3, 40, 24)
    expected = deployed(x)
    saved = io.BytesIO()
    torch.save(deployed, saved)
    saved.seek(0)
    for other in (copy.deepcopy(deployed),
                  torch.load(saved, weights_only=False)):
        assert all(map(torch.equal, other(x), expected))
    deployed.half().float()
    rounded = copy.deepcopy(deployed)  # has packed nothing yet
    assert all(map(torch.equal, deployed(x), rounded(x)))
    assert not torch.equal(deployed(x)[0], expected[0])
