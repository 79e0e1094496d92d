"""Learning rates that fall with the distance from the head, by value."""
import re

import pytest
from conftest import needs_version
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope
from mmpretrain.engine.optimizers import (
    LearningRateDecayOptimWrapperConstructor as Mmpretrains,
)
from tiny_models import build, child
from torch import nn

from mmiformer import IFormer, LayerDecayOptimWrapperConstructor

# Of the tiny backbone, whose stages have 1, 1, 2 and 1 blocks. All else, the
# output norms, necks and heads among it, is of the last depth.
DEPTHS = [
    r'stages\.0\.(patch_embed|pos_embed)',
    r'stages\.0\.blocks\.0|stages\.1\.(patch_embed|pos_embed)',
    r'stages\.1\.blocks\.0|stages\.2\.(patch_embed|pos_embed)',
    r'stages\.2\.blocks\.0',
    r'stages\.2\.blocks\.1|stages\.3\.(patch_embed|pos_embed)',
    r'stages\.3\.blocks\.0',
    '']
PARAMWISE = dict(layer_decay_rate=0.5, norm_decay_mult=0., bias_decay_mult=0.,
                 custom_keys={'pos_embed': dict(decay_mult=0.25)})


def config(constructor='mmiformer.LayerDecayOptimWrapperConstructor', lr=1e-4,
           **paramwise):
    optimizer = dict(type='AdamW', weight_decay=0.05)
    if lr is not None:
        optimizer['lr'] = lr
    return dict(type='OptimWrapper', optimizer=optimizer,
                constructor=constructor, paramwise_cfg=paramwise)


def groups(model, cfg):
    """{name: (learning rate, weight decay)} of what is optimised."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    optimizer = build_optim_wrapper(model, cfg).optimizer
    found = [(names[parameter], (group['lr'], group['weight_decay']))
             for group in optimizer.param_groups
             for parameter in group['params']]
    assert len(dict(found)) == len(found)
    return dict(found)


def expected(model, prefix='backbone.', base=1e-4):
    """What PARAMWISE says, told by names and types."""
    norms = {name for name, module in model.named_modules()
             if 'Norm' in type(module).__name__}
    result = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        depth = next(i for i, pattern in enumerate(DEPTHS)
                     if re.match(re.escape(prefix) + f'({pattern})', name)
                     or not pattern)
        module, _, last = name.rpartition('.')
        decay = 0.25 if 'pos_embed' in name else float(
            module not in norms and last != 'bias')
        result[name] = (base * 0.5 ** (6 - depth), 0.05 * decay)
    return result


@pytest.mark.parametrize('folder', ['mask_rcnn', 'fpn_ade20k', 'imagenet'])
def test_rates_and_decays(folder, configs):
    model = build(child(configs, folder))
    found = groups(model, config(**PARAMWISE))
    assert found == expected(model)
    assert sorted({rate for rate, _ in found.values()}) == [
        1e-4 * 0.5 ** i for i in range(6, -1, -1)]
    heads = [name for name in found if not name.startswith('backbone.')]
    assert heads and {found[name][0] for name in heads} == {1e-4}


def test_a_backbone_alone(tiny):
    model = IFormer(**tiny)
    assert groups(model, config(**PARAMWISE)) == expected(model, '')


@pytest.mark.parametrize('name', ['imagenet/iformer_s_shapes',
                                  'peers/vit_ti_imagenet_shapes'])
def test_a_classifiers_are_mmpretrains(name, configs):
    model = build(Config.fromfile(configs / f'{name}.py'))
    paramwise = dict(layer_decay_rate=0.8, norm_decay_mult=0.,
                     flat_decay_mult=0.)
    ours = groups(model, config(**paramwise))
    assert len(ours) == len(list(model.parameters()))
    assert ours == groups(model, config(Mmpretrains, **paramwise))


@needs_version('mmengine', '0.10')
def test_frozen_stages_are_skipped(tiny):
    model = IFormer(**tiny, frozen_stages=1)
    found = groups(model, config(**PARAMWISE))
    assert found == expected(model, '')
    assert not [name for name in found if name.startswith('stages.0.')]


def test_multipliers_of_the_rate_are_mmengines(configs):
    model = build(child(configs, 'fpn_ade20k'))
    found = groups(model, config(layer_decay_rate=0.5, custom_keys={
        'decode_head': dict(lr_mult=10), 'stages.0': dict(lr_mult=3)}))
    assert found['decode_head.conv_seg.weight'] == (1e-4 * 10, 0.05)
    assert found['backbone.stages.0.pos_embed'] == (1e-4 * 3 * 0.5 ** 6, 0.05)
    assert found['backbone.stages.3.blocks.0.norm1.bias'] == (1e-4 / 2, 0.05)


@pytest.mark.parametrize('scope', ['mmdet', 'mmseg', 'mmpretrain'])
def test_it_is_found_by_name(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert OPTIM_WRAPPER_CONSTRUCTORS.get(
            'mmiformer.LayerDecayOptimWrapperConstructor'
        ) is LayerDecayOptimWrapperConstructor


@pytest.mark.parametrize('rate', [None, 0, 1.5, -0.5, '0.8', True])
def test_rates_that_do_not_fit(rate, tiny):
    paramwise = {} if rate is None else dict(layer_decay_rate=rate)
    with pytest.raises(ValueError, match='layer_decay_rate') as error:
        groups(IFormer(**tiny), config(**paramwise))
    assert repr(rate) in str(error.value)


def test_what_it_needs(tiny):
    with pytest.raises(ValueError, match="'lr'.*None"):
        groups(IFormer(**tiny), config(lr=None, layer_decay_rate=0.5))
    with pytest.raises(ValueError, match='Linear.*get_layer_depth'):
        groups(nn.Linear(1, 1), config(layer_decay_rate=0.5))
