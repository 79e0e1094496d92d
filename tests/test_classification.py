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


def ablation(configs, name):
    """Parameters in M and FLOPs in G, with the head of 1000 classes."""
    cfg = Config.fromfile(configs / 'ablation' / f'{name}.py')
    size = count(MODELS.build(cfg.model.backbone), (224, 224))
    head = 1000 * cfg.model.head.in_channels
    return ((size.params + head + 1000) / 1e6,
            (size.flops_with_attention + head) / 1e9)


@pytest.mark.parametrize('name, params, flops', [  # paper: M and G, rounded
    ('mixer_attention', 21, 5.2), ('mixer_attention_max_pool', 20, 4.9),
    ('iformer_s_100e', 20, 4.8), ('ramp_falling', 19, 4.7),
    ('ramp_equal', 19, 4.7)])
def test_ablations_have_the_papers_counts(name, params, flops, configs):
    found = ablation(configs, name)
    assert (round(found[0]), round(found[1], 1)) == (params, flops)


@pytest.mark.parametrize('name, params, flops', [  # counted
    ('attention_unpooled', 19.866, 7.021), ('no_fusion', 19.812, 4.822)])
def test_ablations_without_published_counts(name, params, flops, configs):
    found = ablation(configs, name)
    assert tuple(round(x, 3) for x in found) == (params, flops)


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


@pytest.fixture(scope='module')
def trained(configs, tmp_path_factory):
    """A folder with a config and a classifier that has been trained by it."""
    folder = tmp_path_factory.mktemp('classifier')
    write_classifier(folder / 'small.py', 8, 4,
                     'train_cfg = dict(max_epochs=1)\n')
    call('train.py', 'small.py', '--work-dir', '.', cwd=folder)
    return folder


@pytest.mark.slow
def test_a_classifier_is_tested_and_drawn(trained):
    text = call('test.py', 'small.py', 'epoch_1.pth', '--show-dir', 'shown',
                '--out', 'found.pkl', cwd=trained)
    assert 'accuracy/top1' in text
    crops = list(trained.glob('shapes/crops/validation/*/*.jpg'))
    assert len(list(trained.glob('**/shown/**/*.png'))) == len(crops)
    assert (trained / 'found.pkl').is_file()
