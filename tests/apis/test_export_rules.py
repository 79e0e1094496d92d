"""What is decided before an export, on any torch and without its packages: the
size of the input, how an image gets to it, and what is refused."""
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, refusal
from tiny_models import picture, pipeline

from mmiformer.config import load_config
from mmiformer.kit import export as exporting
from mmiformer.kit.export import default_size, resize_steps
from mmiformer.kit.exported import ExportedModel, change_size


@pytest.mark.parametrize('config, size', [
    ('imagenet/iformer_s_300e.py', (224, 224)),
    ('imagenet/iformer_s_384_ft.py', (384, 384)),
    ('imagenet/iformer_s_shapes.py', (64, 64)),
    ('fpn_ade20k/iformer_s_80k.py', (512, 512)),
    ('fpn_ade20k/iformer_s_shapes.py', (128, 128)),
    ('mask_rcnn/iformer_s_1x.py', (800, 1333))])
def test_the_default_size(config, size, configs):
    assert default_size(load_config(str(configs / config))) == size


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
    (dict(type='Pad'), 'Pad'),
    (dict(type='ResizeEdge', scale=9, edge='long'), 'long'),
    (dict(type='Resize', scale_factor=0.5), 'scale_factor'),
    (dict(type='CenterCrop', crop_size=9, auto_pad=True), 'auto_pad')])
def test_other_steps_are_refused(step, named, configs):
    cfg = load_config(str(configs / 'imagenet/iformer_s_300e.py'))
    cfg.test_dataloader.dataset.pipeline.insert(1, step)
    with pytest.raises(ValueError, match=f'{named}.*ResizeToMultiple'):
        resize_steps(cfg, 'classification', None)


def refused(config, name, *options):
    line = refusal('export.py', ROOT / 'configs' / config, 'none.pth', '--out',
                   name, *options)
    assert not Path(name).exists()
    return line


@pytest.mark.parametrize('name, found', [
    ('model.pt2', "'.pt2'"), ('model', "''"), ('model.onnx.gz', "'.gz'")])
def test_another_kind_of_file(name, found, tmp_path):
    line = refused('imagenet/iformer_s_300e.py', tmp_path / name)
    assert name in line and found in line and "'.onnx'" in line


def test_a_torch_without_the_exporter(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, 'TORCH', (2, 4))
    line = refused('imagenet/iformer_s_300e.py', tmp_path / 'model.onnx')
    assert '2.5' in line and torch.__version__ in line


@pytest.mark.parametrize('missing', ['onnxruntime', 'onnxscript'])
def test_missing_packages_are_named(missing, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, 'TORCH', (2, 5))
    for name in ('onnxruntime', 'onnxscript'):
        monkeypatch.setitem(
            sys.modules, name, None if name == missing else sys)
    assert missing in refused(
        'imagenet/iformer_s_300e.py', tmp_path / 'model.onnx')
    if missing == 'onnxruntime':
        with pytest.raises(ImportError, match=missing):
            ExportedModel('x.onnx')


@pytest.mark.parametrize('part, found', [
    ('model', "'mmdet'"), ('neck', "'neck'")])
def test_what_is_no_classifier_or_segmentor(part, found, tmp_path,
                                            monkeypatch):
    monkeypatch.setattr(exporting, 'TORCH', (3, 0))
    for name in ('onnxruntime', 'onnxscript'):
        monkeypatch.setitem(sys.modules, name, sys)
    cfg = load_config(str(ROOT / 'configs/mask_rcnn/iformer_s_1x.py'))
    with pytest.raises(ValueError) as error:
        exporting.export(cfg, 'none.pth', tmp_path / 'x.onnx', part=part)
    line = str(error.value)
    assert found in line and '--part backbone' in line
    assert 'mmseg' in line and 'onedl-mmdeploy' in line
