"""Classification through mmpretrain: the released networks, head included."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import GOLDENS, call, golden_image, golden_state
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import load_state_dict
from small_configs import write_classifier
from tiny_models import load_in_scope

from mmiformer.backbone.load_hook import LoadBackboneHook
from mmiformer.paper import count

SIZES = {'small': 's', 'base': 'b', 'large': 'l'}


def build(configs, name):
    cfg = load_in_scope(configs / 'imagenet' / f'{name}.py')
    return MODELS.build(cfg.model).eval()


def load_from(model, state):
    """As mmengine does it: the hook, then what fits."""
    checkpoint = dict(state)
    LoadBackboneHook().after_load_checkpoint(
        SimpleNamespace(model=model), checkpoint)
    load_state_dict(model, checkpoint['state_dict'], strict=True)


@pytest.mark.parametrize('case', [
    'iformer_small_224x224', 'iformer_small_256x256', 'iformer_small_192x320',
    'iformer_base_224x224'])
def test_logits_are_those_of_the_authors_network(case, configs, released_keys):
    arch = case.split('_')[1]
    model = build(configs, f'iformer_{SIZES[arch]}_300e')
    load_from(model, golden_state(arch, released_keys))
    with torch.no_grad():
        logits = model(golden_image(case)).numpy()
    golden = np.load(GOLDENS / f'{case}.npz')['logits']
    assert logits.shape == golden.shape
    assert np.abs(logits - golden).max() < 1e-4 * golden.std()


@pytest.mark.parametrize('arch, params, flops', [  # facts: released, counted
    ('small', 19.866, 4.848), ('base', 47.866, 9.378),
    ('large', 86.637, 14.047)])
def test_parameters_and_macs_are_the_released_ones(arch, params, flops,
                                                   configs):
    model = build(configs, f'iformer_{SIZES[arch]}_300e')
    size = count(model, (224, 224))
    assert round(size.params / 1e6, 3) == params
    assert size.flops_with_attention / 1e9 == pytest.approx(flops, abs=6e-4)


@pytest.mark.parametrize('name, params, flops, digits', [
    # paper: M and G, rounded
    ('mixer_attention', 21, 5.2, (0, 1)),
    ('mixer_attention_max_pool', 20, 4.9, (0, 1)),
    ('iformer_s_100e', 20, 4.8, (0, 1)), ('ramp_falling', 19, 4.7, (0, 1)),
    ('ramp_equal', 19, 4.7, (0, 1)),
    # counted
    ('attention_unpooled', 19.866, 7.021, (3, 3)),
    ('no_fusion', 19.812, 4.822, (3, 3))])
def test_ablations(name, params, flops, digits, configs):
    """With the head of 1000 classes."""
    cfg = Config.fromfile(configs / 'ablation' / f'{name}.py')
    size = count(MODELS.build(cfg.model.backbone), (224, 224))
    head = 1000 * cfg.model.head.in_channels
    found = (size.params + head + 1000, size.flops_with_attention + head)
    assert (round(found[0] / 1e6, digits[0]),
            round(found[1] / 1e9, digits[1])) == (params, flops)


def test_weights_of_224_start_the_fine_tuning(configs, released_keys, log):
    model = build(configs, 'iformer_s_384_ft')
    state = golden_state('small', released_keys)
    load_from(model, state)
    assert torch.equal(model.head.fc.weight, state['head.weight'])
    pos_embed = model.backbone.stages[0].pos_embed
    assert pos_embed.shape == (1, 96, 96, 96)
    assert 'resized stages.0.pos_embed from 56x56 to 96x96' in log[-1]


def test_a_head_of_other_classes_is_skipped(configs, released_keys, log):
    model = build(configs, 'iformer_s_shapes')
    before = model.head.fc.weight.clone()
    checkpoint = golden_state('small', released_keys)
    LoadBackboneHook().after_load_checkpoint(
        SimpleNamespace(model=model), checkpoint)
    load_state_dict(model, checkpoint['state_dict'], strict=False)
    assert torch.equal(model.head.fc.weight, before)
    assert any('1000 classes' in line and '3' in line for line in log)
    norm = golden_state('small', released_keys)['norm.weight']
    assert torch.equal(model.backbone.stages[3].out_norm.weight, norm)


@pytest.mark.slow
def test_a_classifier_is_tested_and_drawn(tmp_path):
    write_classifier(tmp_path / 'small.py', 8, 4,
                     'train_cfg = dict(max_epochs=1)\n')
    call('train.py', 'small.py', '--work-dir', '.', cwd=tmp_path)
    text = call('test.py', 'small.py', 'epoch_1.pth', '--show-dir', 'shown',
                '--out', 'found.pkl', cwd=tmp_path)
    assert 'accuracy/top1' in text
    crops = list(tmp_path.glob('shapes/crops/validation/*/*.jpg'))
    assert len(list(tmp_path.glob('**/shown/**/*.png'))) == len(crops) > 0
    assert (tmp_path / 'found.pkl').is_file()
