"""The size of an exported file's input, and how an image gets to it."""
import json

import cv2
import numpy as np
import pytest
from tiny_models import picture, pipeline

from mmiformer.config import load_config
from mmiformer.kit.exported import change_size
from mmiformer.kit.size_rule import default_size, resize_steps


def test_the_default_size(configs):
    sizes = {str(path): default_size(load_config(str(path)))
             for path in map(configs.joinpath, (
                 'imagenet/iformer_s_300e.py', 'imagenet/iformer_s_384_ft.py',
                 'imagenet/iformer_s_shapes.py', 'fpn_ade20k/iformer_s_80k.py',
                 'fpn_ade20k/iformer_s_shapes.py',
                 'mask_rcnn/iformer_s_1x.py'))}
    assert [*sizes.values()] == [(224, 224), (384, 384), (64, 64), (512, 512),
                                 (128, 128), (800, 1344)]


@pytest.mark.parametrize('config, size', [
    ('imagenet/iformer_s_300e.py', (480, 640)),
    ('imagenet/iformer_s_384_ft.py', (641, 333)),
    ('imagenet/iformer_s_shapes.py', (200, 150)),
    ('fpn_ade20k/iformer_s_80k.py', (480, 640)),
    ('fpn_ade20k/iformer_s_80k.py', (641, 333)),
    ('upernet_ade20k/iformer_s_160k.py', (200, 150))])
def test_images_are_resized_as_in_testing(config, size, configs, tmp_path):
    """Pixel by pixel, by the steps that a file for any size stores."""
    cfg = load_config(str(configs / config))
    steps = json.loads(json.dumps(resize_steps(cfg, 'of a head', None)))
    image = picture(*size)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    expected = pipeline(cfg)(dict(img_path=str(tmp_path / 'image.png')))
    np.testing.assert_array_equal(
        change_size(image, steps).transpose(2, 0, 1),
        expected['inputs'].numpy())


def test_a_file_of_a_fixed_size(configs):
    """It tests as the config does where that gives the size."""
    cfg = load_config(str(configs / 'imagenet/iformer_s_300e.py'))
    assert [step['type'] for step in resize_steps(
        cfg, 'classification', (224, 224))] == ['ResizeEdge', 'CenterCrop']
    steps = resize_steps(cfg, 'classification', (96, 160))
    assert steps == [dict(type='Resize', scale=(160, 96))]
    assert change_size(picture(50, 70), steps).shape == (96, 160, 3)
    assert resize_steps(cfg, 'backbone', None) == []


@pytest.mark.parametrize('step, named', [
    (dict(type='Pad', size_divisor=32), 'Pad'),
    (dict(type='ResizeEdge', scale=9, edge='long'), 'long'),
    (dict(type='Resize', scale_factor=0.5), 'scale_factor'),
    (dict(type='CenterCrop', crop_size=9, auto_pad=True), 'auto_pad')])
def test_other_steps_are_refused(step, named, configs):
    cfg = load_config(str(configs / 'imagenet/iformer_s_300e.py'))
    cfg.test_dataloader.dataset.pipeline.insert(1, step)
    with pytest.raises(ValueError, match=f'{named}.*ResizeToMultiple'):
        resize_steps(cfg, 'classification', None)
