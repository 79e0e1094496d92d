"""Spectra of signals whose spectrum is known, and of layers."""
import math
import runpy

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, call, refusal
from tiny_models import build, child, save
from torch import nn

from mmiformer import IFormer
from mmiformer.paper import spectrum
from mmiformer.paper.layer_maps import to_maps
from mmiformer.paper.spectrum import (
    layer_spectra,
    log_amplitude,
    mixer_layers,
    relative_log_amplitude,
)


def wave(height, width, rows, columns, offset=0.):
    """A cosine of so many periods along each axis."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width),
                          indexing='ij')
    return offset + torch.cos(
        2 * math.pi * (rows * y / height + columns * x / width))[None, None]


def test_a_wave_has_two_peaks_of_half_its_height():
    """The mean over images and channels, of the logarithm."""
    maps = wave(16, 24, 3, 5, offset=2.)
    found = log_amplitude(torch.cat([maps, 9 * maps]).repeat(1, 2, 1, 1))
    peaks = {(8 + 3, 12 + 5): 0.5, (8 - 3, 12 - 5): 0.5, (8, 12): 2.}
    for (row, column), height in peaks.items():
        assert found[row, column].item() == pytest.approx(
            math.log(3 * height), abs=1e-4)
        found[row, column] = -20.
    assert found.max() < math.log(2 * spectrum.FLOOR)


def test_a_point_holds_all_frequencies_alike():
    maps = torch.zeros(1, 1, 16, 16)
    maps[..., 3, 7] = 256.
    frequencies, values = relative_log_amplitude(log_amplitude(maps))
    assert frequencies.tolist() == [0, *((i + .5) / 8 for i in range(8))]
    torch.testing.assert_close(values, torch.zeros(9).double(), atol=1e-5,
                               rtol=0)


@pytest.mark.parametrize('size, wave_of, ring', [
    ((16, 16), (3, 0), 3), ((16, 16), (0, 7), 7), ((16, 16), (3, 4), 5),
    ((16, 16), (8, 0), 8),
    # Half of a side's pixels is frequency 1, however long it is.
    ((16, 32), (0, 8), 4)])
def test_a_wave_is_in_the_ring_of_its_frequency(size, wave_of, ring):
    maps = wave(*size, *wave_of, offset=1.)
    frequencies, values = relative_log_amplitude(log_amplitude(maps))
    assert values.argmax() == 0 and values[0] == 0
    assert 1 + values[1:].argmax() == ring
    assert frequencies[ring] * 8 == ring - .5


def test_layouts():
    x, size = torch.rand(2, 5, 4, 6), (64, 96)
    tokens = x.flatten(2).transpose(1, 2)
    with_class = torch.cat([torch.rand(2, 1, 5), tokens], 1)
    for y, layout in ((x, 'NCHW'), (x.permute(0, 2, 3, 1), 'NHWC'),
                      (tokens, 'tokens'), (with_class, 'tokens')):
        assert torch.equal(to_maps(y, layout, size), x)
    for arguments, words in (
            ((x, 'tokens', size), r'\(2, 5, 4, 6\)'),
            ((x, 'CHWN', size), "'CHWN'.*NHWC"),
            ((tokens, 'tokens', (97, 89)), '24 tokens.*97x89')):
        with pytest.raises(ValueError, match=words):
            to_maps(*arguments)


def test_layers_of_a_model():
    model = nn.Sequential(nn.Identity(), nn.AvgPool2d(2), nn.Dropout(0.9))
    images = [wave(16, 16, 2, 0, 1.), wave(16, 16, 0, 2, 1.)]
    found = layer_spectra(model, images, {'0': 'NCHW', '2': 'NCHW'})
    assert model.training and not model[0]._forward_hooks
    expected = sum(map(log_amplitude, images)) / 2
    torch.testing.assert_close(found['0'], expected)
    expected = sum(log_amplitude(model[1](image)) for image in images) / 2
    torch.testing.assert_close(found['2'], expected)  # no dropout
    with pytest.raises(ValueError, match="'7'.*'1'"):
        layer_spectra(model, images, {'7': 'NCHW'})


def test_features_of_a_detector():
    """A detector is run up to its neck: its forward needs data samples."""
    model = nn.Sequential(nn.AvgPool2d(2))
    model.extract_feat, model.forward = (lambda x: model[0](x)), None
    image = wave(16, 16, 2, 0, 1.)
    found = layer_spectra(model, [image], {'0': 'NCHW'})['0']
    torch.testing.assert_close(found, log_amplitude(model[0](image)))


def test_branches_of_an_iformer():
    with torch.device('meta'):
        model = IFormer('small')
        layers = mixer_layers(model, [6, 12, 18])
    assert layers == {
        f'stages.{stage}.blocks.{block}.mixer.{branch}': 'NHWC'
        for stage, block in ((1, 2), (2, 5), (3, 2))
        for branch in ('max_pool_branch', 'depthwise_branch', 'low_mixer')}
    for numbers in ([0], [6, 19]):
        with pytest.raises(ValueError, match='1 to 18'):
            mixer_layers(model, numbers)
    layer = 'stages.0.blocks.0.mixer.low_mixer'
    found = layer_spectra(IFormer(TINY, 64), [torch.rand(1, 3, 64, 96)],
                          {layer: 'NHWC'})
    assert found[layer].shape == (16, 24)


def test_the_tool(tmp_path, configs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('a.png', np.random.default_rng(0).integers(
        256, size=(40, 60, 3)).astype(np.uint8))
    ours = save(configs, 'fpn_ade20k', 'ours')
    both = *ours, *save(configs, 'imagenet', 'vit', backbone=dict(
        _delete_=True, type='VisionTransformer', img_size=32, patch_size=8,
        out_type='avg_featmap',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                  feedforward_channels=16)), neck=None, head=dict(
                      in_channels=16))
    layer = 'backbone.stages.1.blocks.0.mixer.low_mixer'
    call('spectrum.py', *both, '--images', 'a.png', '--size', 64, 96, '--out',
         'two.png', '--layers', f'{layer}:NHWC', 'neck.fpn_convs.0:NCHW',
         'backbone.layers.1:tokens')
    assert cv2.imread('two.png').std() > 5
    for models, arguments, words in (
            (ours, ['--images', 'c.png'], 'c.png'),
            (both[:3], [], 'vit.py'),
            (ours, ['--layers', 'stages.7:NCHW'], "['stages.7']"),
            (both, ['--layers', f'{layer}:NHWC', 'backbone.layers.1:tokens',
                    'backbone.layers.2:tokens'], "['backbone.layers.2']"),
            (ours, ['--layers', layer], f'{layer}: give NAME:LAYOUT')):
        error = refusal('spectrum.py', *models, '--images', 'a.png', '--out',
                        'no.png', *arguments)
        assert words in error and '\n' not in error
    assert not (tmp_path / 'no.png').exists()


def test_padding_is_not_part_of_a_spectrum(configs, tmp_path):
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, np.full((9, 7, 3), (255, 0, 0), np.uint8))  # blue
    tool = runpy.run_path(str(ROOT / 'tools' / 'spectrum.py'))
    cfg = child(configs, 'mask_rcnn')
    model, settings = build(cfg), cfg.model.data_preprocessor
    seen = tool['read_resized'](path, (64, 96), model)
    expected = (np.array([0, 0, 255]) - settings.mean) / settings.std
    torch.testing.assert_close(seen, torch.tensor(expected).float().view(
        1, 3, 1, 1).expand(1, 3, 64, 96))
    with pytest.raises(ValueError, match=r'64 80.*\(64, 96\)'):
        tool['read_resized'](path, (64, 80), model)
