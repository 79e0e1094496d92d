"""The network: exact, of any size, trainable, and clear about bad input."""
import copy
import functools
import json
from functools import partial

import pytest
import torch
from conftest import (
    GOLDENS,
    TINY,
    assert_parity,
    golden_image,
    golden_state,
    golden_weights,
    math_attention,
)
from mmengine.model import PretrainedInit
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from mmiformer import IFormer, compat
from mmiformer.backbone.layers import DropPath

CASES = [
    'iformer_base_224x224', 'iformer_small_192x320', 'iformer_small_224x224',
    'iformer_small_256x256']


@functools.lru_cache(maxsize=1)  # the cases of a size follow each other
def state_of(arch):
    keys = json.loads((GOLDENS / 'released_keys.json').read_text())
    return golden_state(arch, keys)


def authors_network(arch):
    with torch.device('meta'):  # the initial values are not needed
        model = IFormer(arch, out_norms=False)
    model.to_empty(device='cpu').load_state_dict(
        {name: value.clone() for name, value in state_of(arch).items()})
    return model.eval()


@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_parity_with_the_authors_network(case):
    model, image = authors_network(case.split('_')[1]), golden_image(case)
    assert_parity(model(image), case)
    model.switch_to_deploy()
    assert_parity(model(image), case)
    assert_parity(model(image.contiguous(memory_format=torch.channels_last)),
                  case)


class LargestSquare(TorchDispatchMode):
    """Watches every tensor that an operator makes for (..., n, n)."""

    def __init__(self, n):
        super().__init__()
        self.n, self.found = n, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(value, torch.Tensor) and value.shape[-2:] == (
                    self.n, self.n):
                self.found.append(str(func))
        return out


@pytest.mark.skipif(compat.TORCH < (2, 1), reason='needs torch 2.1')
def test_no_attention_map_is_held(tiny):
    model = IFormer(**tiny)
    tokens = (136 // 8) * (200 // 8)  # of stage 1, after its pooling
    image = torch.rand(1, 3, 136, 200)
    with LargestSquare(tokens) as watch:
        sum(out.sum() for out in model(image)).backward()
    assert not watch.found
    with LargestSquare(tokens) as watch, math_attention():
        model(image)  # the watch does see a map where there is one
    assert watch.found


def test_output_norms(tiny):
    model = IFormer(**tiny, out_indices=(1, 3))
    names = [name for name, _ in model.named_parameters() if 'out_norm' in name]
    assert names == ['stages.1.out_norm.weight', 'stages.1.out_norm.bias',
                     'stages.3.out_norm.weight', 'stages.3.out_norm.bias']
    outs = model.eval()(torch.rand(2, 3, 64, 64))
    assert [out.shape[1] for out in outs] == [32, 48]
    for out in outs:
        assert out.mean(1).abs().max() < 1e-4
        assert (out.var(1, unbiased=False) - 1).abs().max() < 1e-1
    without = IFormer(**tiny, out_norms=False)
    assert not any('out_norm' in name for name in without.state_dict())


def test_initial_values(tiny):
    torch.manual_seed(0)
    model = IFormer('small')
    for name, parameter in model.named_parameters():
        if 'layer_scale' in name:
            assert (parameter == 1e-6).all()
        elif name.endswith('bias'):
            assert (parameter == 0).all()
        elif 'norm' in name:
            assert (parameter == 1).all()
        elif parameter.numel() > 5000:
            assert abs(parameter.std() - .02) < 1e-3, name
    scaled = {name.split('.')[1] for name, _ in model.named_parameters()
              if 'layer_scale' in name}
    assert scaled == {'2', '3'}  # the last two stages only


@pytest.mark.parametrize('out_indices', [(0, 1, 2, 3), (0, 1, 2), (1, )])
def test_every_parameter_gets_a_gradient(tiny, out_indices):
    model = IFormer(**tiny, drop_path_rate=0.1, out_indices=out_indices)
    outs = model(torch.rand(4, 3, 64, 64))
    sum(out.square().sum() for out in outs).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if not name.endswith('proj1.bias'):  # BatchNorm takes it away again
            assert parameter.grad.abs().max() > 0, name


def keep(sizes, tensor):
    sizes.append(tensor.numel())
    return tensor


@pytest.mark.parametrize('with_cp', [True, (True, False, True, False)])
def test_checkpointed_equals_plain(tiny, with_cp):
    torch.manual_seed(0)
    plain = IFormer(**tiny, drop_path_rate=0.5)
    checkpointed = IFormer(**tiny, drop_path_rate=0.5, with_cp=with_cp)
    checkpointed.load_state_dict(plain.state_dict())
    image, results, saved = torch.rand(4, 3, 64, 64), [], []
    for model in (plain, checkpointed):
        torch.manual_seed(1)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
                partial(keep, kept), lambda x: x):
            outs = model(image)
        sum(out.square().sum() for out in outs).backward()
        results.append([*outs, *(p.grad for p in model.parameters())])
        saved.append(sum(kept))
    for first, second in zip(*results):
        torch.testing.assert_close(first, second)
    assert saved[1] < 0.7 * saved[0]


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    drop_path = DropPath(0.25)
    x = torch.ones(4000, 2, 3)
    out = drop_path(x)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (out.flatten(1).std(1) == 0).all()
    assert abs((out[:, 0, 0] == 0).float().mean() - 0.25) < 0.03
    assert drop_path.eval()(x) is x


@pytest.mark.parametrize('last', [3, 2, 0])
def test_drop_path_rises_linearly(tiny, last):
    """Over all blocks of the arch, whether they are built or not."""
    model = IFormer(**tiny, drop_path_rate=0.4, out_indices=(last, ))
    rates = [block.drop_path.rate for stage in model.stages
             for block in stage.blocks]
    expected = [0, .1, .2, .3, .4]
    assert rates == pytest.approx(expected[:sum(TINY['depths'][:last + 1])])


@torch.no_grad()
def test_stages_after_the_last_output_are_not_built(tiny):
    whole = IFormer(**tiny).eval()
    model = IFormer(**tiny, out_indices=(0, 2), frozen_stages=4,
                    with_cp=(True, ) * 4, window_size=(None, 8, 8, 8)).eval()
    model.load_state_dict(whole.state_dict())
    assert len(model.stages) == 3
    assert not any(p.requires_grad for p in model.parameters())
    x = torch.rand(1, 3, 64, 40)
    outs, expected = model(x), whole(x)
    assert len(outs) == 2
    assert torch.equal(outs[0], expected[0])
    assert torch.equal(outs[1], expected[2])


def test_bf16_autocast_is_finite_and_close(released_small):
    model = IFormer('small').eval()
    model.load_state_dict(dict(released_small))
    image = torch.from_numpy(golden_weights.image(96, 160))
    with torch.no_grad():
        exact = model(image)
        with torch.autocast('cpu', torch.bfloat16):
            outs = model(image)
    for out, reference in zip(outs, exact):
        assert torch.isfinite(out).all()
        error = (out.float() - reference).pow(2).mean().sqrt()
        assert error < 0.03 * reference.std()


@pytest.mark.parametrize('frozen', [-1, 0, 1, 3, 4])
def test_frozen_stages(tiny, frozen):
    model = IFormer(**tiny, frozen_stages=frozen, drop_path_rate=0.1).train()
    for i, stage in enumerate(model.stages):
        for name, parameter in stage.named_parameters():
            stem = i == 0 and name.startswith(('patch_embed', 'pos_embed'))
            is_frozen = i < frozen or (stem and frozen >= 0)
            assert parameter.requires_grad != is_frozen, (i, name)
        assert stage.blocks[0].training != (i < frozen)
        assert stage.patch_embed.training != (
            i < frozen or (i == 0 and frozen == 0))
    image, before = torch.rand(2, 3, 64, 64), copy.deepcopy(model.state_dict())
    if frozen < 4:
        sum(out.sum() for out in model(image)).backward()
    for name, value in model.state_dict().items():
        if frozen >= 0 and name.startswith('stages.0.patch_embed'):
            assert torch.equal(value, before[name]), name


def test_norm_eval(tiny):
    model = IFormer(**tiny, norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 5 and not any(norm.training for norm in norms)
    assert model.stages[0].blocks[0].training
    assert IFormer(**tiny).train().stages[0].patch_embed.norm1.training


def test_norm_cfg(tiny):
    cfg = dict(type='SyncBN', requires_grad=False, eps=1e-3, momentum=0.2)
    model = IFormer(**tiny, norm_cfg=cfg)
    norms = [m for m in model.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(norms) == 5
    assert (norms[0].eps, norms[0].momentum) == (1e-3, 0.2)
    assert not norms[0].weight.requires_grad
    assert cfg == dict(type='SyncBN', requires_grad=False, eps=1e-3,
                       momentum=0.2)  # not written to


@pytest.mark.parametrize('argument, value, choices', [
    ('arch', 'tiny', 'base'),
    ('arch', 3, 'dict'),
    ('arch', dict(embed_dims=(32, ) * 4), 'attention_heads'),
    ('arch', {**TINY, 'dims': 3}, 'embed_dims'),
    ('arch', {**TINY, 'depths': (1, 1, 2)}, 'depths'),
    ('arch', {**TINY, 'attention_heads': (1, 2, (2, ), 5)}, '2 positive ints'),
    ('arch', {**TINY, 'attention_heads': (2, 2, 2, 5)}, 'high mixer'),
    ('arch', {**TINY, 'num_heads': (3, 4, 4, 6)}, 'multiple'),
    ('arch', {**TINY, 'mlp_ratio': 0}, 'mlp_ratio'),
    ('arch', {**TINY, 'layer_scale_init_values': 1e-6}, 'layer_scale'),
    ('arch', dict(base='tiny'), "['base', 'large', 'small']"),
    ('arch', dict(base='small', branches=('attn', )), 'max_pool'),
    ('arch', dict(base='small', branches=()), 'each once'),
    ('arch', dict(base='small', branches=('conv', 'conv')), 'each once'),
    ('arch', dict(base='small', branches='attention'), 'each once'),
    ('arch', dict(base='small', kernel_size=4), 'odd'),
    ('arch', dict(base='small', fusion=None), 'True or False'),
    ('arch', dict(base='small', branches=(
        'conv', 'depthwise', 'max_pool', 'attention')), '3 branches'),
    ('pretrain_img_size', 0, 'positive'),
    ('pretrain_img_size', (224, ), 'positive'),
    ('in_channels', '3', 'positive'),
    ('out_indices', (0, 4), '0 to 3'),
    ('out_indices', (2, 1), 'increasing'),
    ('out_indices', (), '0 to 3'),
    ('out_norms', 1, 'True or False'),
    ('frozen_stages', 5, '-1'),
    ('frozen_stages', True, '-1'),
    ('norm_eval', None, 'True or False'),
    ('norm_cfg', dict(type='GN'), 'SyncBN'),
    ('norm_cfg', dict(type='BN', groups=3), 'momentum'),
    ('drop_path_rate', 1., 'including, 1'),
    ('drop_path_rate', '0.1', 'number'),
    ('with_cp', (True, ), 'per stage'),
    ('window_size', 0, 'per stage'),
    ('window_size', (8, 8), 'per stage'),
    ('window_size', (8, 8, 8, 7.), 'per stage'),
    ('compile', 'yes', 'True, False or a dict'),
    ('compile', dict(speed=9), 'dynamic'),
    ('init_cfg', 'iformer_small.pth', 'dict'),
    ('init_cfg', dict(type='Pretrained'), 'checkpoint'),
    ('init_cfg', dict(type=PretrainedInit), 'checkpoint'),
])
def test_a_wrong_argument_is_named(argument, value, choices):
    with pytest.raises(ValueError) as error:
        IFormer(**{argument: value})
    assert argument in str(error.value) and choices in str(error.value)
