"""Spectra of signals whose spectrum is known, and of layers."""
import math
import runpy

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, call, refusal
from tiny_models import build, child, save

from mmiformer import IFormer
from mmiformer.paper import spectrum
from mmiformer.paper.spectrum import (
    log_amplitude,
    mixer_spectra,
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


def test_branches_of_an_iformer():
    """Averaged over the images; what they give is channels last."""
    with torch.device('meta'):
        small = IFormer('small')
    for number in ([0], [6, 19]):
        with pytest.raises(ValueError, match='1 to 18'):
            mixer_spectra(small, [], number)
    model, images = IFormer(TINY, 64).eval(), torch.rand(2, 1, 3, 64, 96)
    found = mixer_spectra(model, [*images], [1, 3])
    blocks = [f'stages.{stage}.blocks.{block}' for stage in range(4)
              for block in range(len(model.stages[stage].blocks))]
    assert [*found] == [
        f'{blocks[number - 1]}.mixer.{branch}' for number in (1, 3)
        for branch in ('depthwise_branch', 'max_pool_branch', 'low_mixer')]
    name, kept = f'{blocks[0]}.mixer.low_mixer', []
    model.get_submodule(name).register_forward_hook(
        lambda module, args, out: kept.append(out))
    with torch.no_grad():
        for image in images:
            model(image)
    expected = sum(log_amplitude(maps.permute(0, 3, 1, 2))
                   for maps in kept) / 2
    torch.testing.assert_close(found[name], expected)
    assert expected.shape == (16, 24)
    assert not model.stages[0].blocks[0].mixer.max_pool_branch._forward_hooks


def test_the_tool(tmp_path, configs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cv2.imwrite('a.png', np.random.default_rng(0).integers(
        256, size=(40, 60, 3)).astype(np.uint8))
    ours = save(configs, 'fpn_ade20k', 'ours')
    vit = save(configs, 'imagenet', 'vit', backbone=dict(
        _delete_=True, type='VisionTransformer', img_size=32, patch_size=8,
        out_type='avg_featmap',
        arch=dict(embed_dims=16, num_layers=2, num_heads=2,
                  feedforward_channels=16)), neck=None, head=dict(
                      in_channels=16))
    call('spectrum.py', *ours, '--images', 'a.png', '--size', 64, 96, '--out',
         'two.png', '--blocks', 2, 4)
    assert cv2.imread('two.png').std() > 5
    for models, arguments, words in (
            (ours, ['--images', 'c.png'], 'c.png'),
            (ours, ['--blocks', 40], '[40]'),
            (vit, [], 'VisionTransformer')):
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
