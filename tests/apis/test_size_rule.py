"""The size of an exported file's input, and how an image gets to it."""
import json

import cv2
import numpy as np
import pytest
from tiny_models import picture, pipeline

from mmiformer.config import load_config
from mmiformer.kit.export import find_task
from mmiformer.kit.exported import ExportedModel
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


@pytest.mark.parametrize('config', [
    'imagenet/iformer_s_300e.py', 'imagenet/iformer_s_384_ft.py',
    'imagenet/iformer_s_shapes.py', 'fpn_ade20k/iformer_s_80k.py',
    'upernet_ade20k/iformer_s_160k.py'])
@pytest.mark.parametrize('size', [(480, 640), (641, 333), (200, 150)])
def test_images_are_resized_as_in_testing(config, size, configs, tmp_path):
    """Pixel by pixel, by the steps that a file for any size stores."""
    cfg = load_config(str(configs / config))
    task = find_task(cfg, 'model')
    steps = json.loads(json.dumps(resize_steps(cfg, task, None)))
    image = picture(*size)
    cv2.imwrite(str(tmp_path / 'image.png'), image)
    expected = pipeline(cfg)(dict(img_path=str(tmp_path / 'image.png')))
    model = ExportedModel.__new__(ExportedModel)
    model._steps = steps
    prepared = model.prepare(image)
    np.testing.assert_array_equal(
        prepared[0][::-1], expected['inputs'].numpy())
