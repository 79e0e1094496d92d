"""The backbone in one line, in any program."""
import sys

import pytest
import torch
from conftest import assert_parity, golden_image

from mmiformer import IFormer

SIX = ['iformer_small', 'iformer_base', 'iformer_large', 'iformer_small_384',
       'iformer_base_384', 'iformer_large_384']
CASE = 'iformer_small_224x224'
DENSE = ('mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'torchvision')


@pytest.fixture
def weights(monkeypatch, tmp_path):
    """A folder in which the authors' files are looked up."""
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(tmp_path))
    for name in DENSE:  # none of them is needed
        monkeypatch.setitem(sys.modules, name, None)
    return tmp_path


def test_a_released_name(weights, released_small):
    torch.save(released_small, weights / 'iformer_small.pth')
    model = IFormer.from_pretrained('iformer_small', out_norms=False)
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        assert_parity(model(golden_image(CASE)), CASE)


@pytest.mark.parametrize('name, scheme', [
    *((name, '') for name in SIX), ('iformer_base_384', 'mmiformer://')])
def test_the_arguments_of_a_released_name(name, scheme, released_keys,
                                          monkeypatch):
    loaded = []
    monkeypatch.setattr('mmiformer.backbone.iformer.load_pretrained',
                        lambda model, source: loaded.append(source))
    with torch.device('meta'):
        model = IFormer.from_pretrained(scheme + name, out_indices=(0, 3))
    assert loaded == [f'mmiformer://{name}'] and model.out_indices == (0, 3)
    for i, stage in enumerate(model.stages, 1):
        shape = tuple(released_keys[name][f'pos_embed{i}'])
        assert stage.pos_embed.shape == shape
        assert len(stage.blocks) == len({
            key.split('.')[1] for key in released_keys[name]
            if key.startswith(f'blocks{i}.')})


def test_a_path(weights, tiny):
    trained = IFormer(**tiny)
    torch.save(trained.state_dict(), weights / 'mine.pth')
    model = IFormer.from_pretrained(
        str(weights / 'mine.pth'), **tiny, out_indices=(1, ))
    image = torch.rand(1, 3, 64, 64)
    expected = trained.eval()(image)[1]
    assert torch.equal(model(image)[0], expected)


def test_what_is_not_known(tiny):
    with pytest.raises(ValueError, match='iformer_tiny.*iformer_small'):
        IFormer.from_pretrained('iformer_tiny')
    for path in ('iformer_tiny.pth', './iformer_small'):
        with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
            IFormer.from_pretrained(path, **tiny)
    with pytest.raises(TypeError, match='dropout'):
        IFormer.from_pretrained('iformer_small', dropout=0.1)
    with pytest.raises(TypeError, match='init_cfg'):  # there are weights
        IFormer.from_pretrained('iformer_small', init_cfg=None)


def test_feature_info(tiny):
    model = IFormer(**tiny, out_indices=(1, 3)).eval()
    assert model.feature_info == [
        dict(num_chs=32, reduction=8, module='stages.1'),
        dict(num_chs=48, reduction=32, module='stages.3')]
    for info, out in zip(model.feature_info, model(torch.rand(1, 3, 64, 96))):
        assert out.shape == (1, info['num_chs'], 64 // info['reduction'],
                             96 // info['reduction'])
        assert model.get_submodule(info['module']) in model.stages


@pytest.mark.parametrize('out_indices, name, depth', [
    ((0, 3), 'stages.0.patch_embed.proj1.weight', (0, 7)),
    ((0, 3), 'stages.0.pos_embed', (0, 7)),
    ((0, 3), 'stages.0.blocks.0.norm1.weight', (1, 7)),
    ((0, 3), 'stages.1.patch_embed.norm.bias', (1, 7)),
    ((0, 3), 'stages.2.pos_embed', (2, 7)),
    ((0, 3), 'stages.2.blocks.1.mixer.proj.bias', (4, 7)),
    ((0, 3), 'stages.3.blocks.0.scale1.layer_scale', (5, 7)),
    ((0, 3), 'stages.0.out_norm.weight', (6, 7)),
    ((0, 3), 'stages.3.out_norm.weight', (6, 7)),
    # the stages that are built
    ((0, 1), 'stages.1.blocks.0.norm1.weight', (2, 4))])
def test_the_depth_of_a_parameter(out_indices, name, depth, tiny):
    model = IFormer(**tiny, out_indices=out_indices)
    model.get_parameter(name)  # there is one
    assert model.get_layer_depth(name) == depth
    assert model.get_layer_depth(f'backbone.{name}', 'backbone.') == depth
    last = (depth[1] - 1, depth[1])
    assert model.get_layer_depth('neck.weight', 'backbone.') == last
