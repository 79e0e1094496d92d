"""Exported files give the numbers of the frameworks, or are not written."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, needs_dynamo_export, run_tool
from mmengine.config import Config
from PIL import Image
from shapes import make_shapes
from tiny_models import BACKBONE, as_in_testing, build, picture

from mmiformer.config import load_config
from mmiformer.kit import export as exporting
from mmiformer.kit.export import OPSET, export, write
from mmiformer.kit.exported import ExportedModel, label_map
from mmiformer.kit.inference import load_model, read_meta
from mmiformer.kit.predict import Predictor

onnx = pytest.importorskip('onnx')
for name in ('onnxscript', 'onnxruntime'):
    pytest.importorskip(name)
pytestmark = [needs_dynamo_export,
              pytest.mark.filterwarnings('ignore')]  # of the exporter

CLASSES = ['circle', 'square', 'triangle']
SHALLOW = dict(BACKBONE, arch=dict(
    TINY, depths=(1, 1, 1, 1), attention_heads=(1, 2, 2, 5)))
SHALLOW_FPN = dict(
    backbone=dict(SHALLOW, out_indices=(0, 1)),
    neck=dict(in_channels=[16, 32], num_outs=2),
    decode_head=dict(in_channels=[128, 128], in_index=[0, 1],
                     feature_strides=[4, 8]))
UPERNET = dict(
    backbone=SHALLOW, data_preprocessor=dict(size=(64, 96)),
    decode_head=dict(in_channels=[16, 32, 32, 48], channels=16,
                     norm_cfg=dict(type='BN')),
    auxiliary_head=dict(in_channels=32, norm_cfg=dict(type='BN')))


def write_config(name, base, model, pipeline=()):
    """A config and weights; ``pipeline`` replaces the resizes of testing."""
    dataset = {}
    if 'shapes' in str(base):
        make_shapes('data/shapes', train=2, val=2, size=64)
    if pipeline:
        dataset['pipeline'] = [dict(type='LoadImageFromFile'), *pipeline,
                               dict(type='PackSegInputs')]
    Path(f'{name}.py').write_text(
        f'_base_ = {str(ROOT / "configs" / base)!r}\nmodel = {model}\n'
        f'test_dataloader = dict(dataset={dataset})\n')
    torch.save(build(Config.fromfile(f'{name}.py')).state_dict(),
               f'{name}.pth')
    return load_config(f'{name}.py'), f'{name}.pth'


def as_tested(cfg, checkpoint, image):
    """What the framework predicts for an array in BGR order."""
    cv2.imwrite('tested.png', image)
    return as_in_testing(cfg, checkpoint, 'tested.png')


def assert_same_labels(labels, sample):
    expected = sample.pred_sem_seg.data[0].numpy()
    assert labels.shape == expected.shape
    assert len(np.unique(expected)) > 1
    # Rounding decides where two classes are equal.
    assert (labels == expected).mean() >= 0.999


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Tests write here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('export')


@pytest.fixture(scope='module')
def classifier(folder):
    """By the command: a config, weights, the file and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cfg, weights = write_config(
            'cls', 'imagenet/iformer_s_shapes.py', dict(
                backbone=dict(SHALLOW, out_indices=(1, )),
                head=dict(in_channels=32)))
        printed = run_tool('export.py', 'cls.py', weights, '--out', 'cls.onnx')
    return cfg, folder / weights, folder / 'cls.onnx', printed


def test_scores_are_those_of_testing(classifier):
    cfg, weights, path, _ = classifier
    model = ExportedModel(path)
    image = picture(100, 80)
    scores = model(image)
    assert scores.shape == (3, ) and scores.dtype == np.float32
    expected = as_tested(cfg, str(weights), image).pred_score.numpy()
    assert np.ptp(expected) > 1e-4
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    # Not those of the image in the other channel order.
    assert np.abs(scores - model(image[..., ::-1])).max() > 1e-5


def test_the_predictor_of_a_file(classifier):
    model, image = ExportedModel(classifier[2]), picture(100, 80)
    cv2.imwrite('a.png', image)
    predictor = Predictor(str(classifier[2]), None, out=Path('out'))
    summary = predictor.predict('a.png', 'a')
    scores = model(image)
    assert summary == f'80x100: {scores.max():.2f} {CLASSES[scores.argmax()]}'
    drawn = cv2.imread('out/vis/a.png')
    assert drawn.shape == image.shape
    assert (drawn[30:] == image[30:]).all() and (drawn != image).any()


def test_what_the_file_says(classifier):
    _, _, path, printed = classifier
    model = ExportedModel(path)
    assert (model.task, model.classes, model.palette) == (
        'classification', CLASSES, None)
    entry, = model.session.get_inputs()
    assert (entry.name, entry.type, entry.shape) == (
        'image', 'tensor(uint8)', [1, 3, 64, 64])
    assert [x.name for x in model.session.get_outputs()] == ['logits']
    stored = onnx.load(path)
    assert {x.domain: x.version for x in stored.opset_import}[''] == OPSET
    onnx.checker.check_model(stored, full_check=True)
    lines = printed.strip().splitlines()
    assert re.fullmatch(r'written: cls.onnx, 0\.\d MiB, largest difference '
                        r'\d\.\de-0[5-9] of a deviation', lines[-1])
    assert sum('proved at 1x64x64' in line for line in lines) == 1
    assert [file.name for file in path.parent.glob('*.onnx*')] == ['cls.onnx']


def test_other_arrays_are_refused(classifier, tmp_path):
    model = ExportedModel(classifier[2])
    for image in (np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3))):
        with pytest.raises(ValueError, match=r'uint8'):
            model(image)
    (tmp_path / 'bad.onnx').write_text('no model')
    for name in ('none.onnx', 'bad.onnx'):
        with pytest.raises(ValueError, match=name):
            ExportedModel(tmp_path / name)
    stored = onnx.load(classifier[2])
    del stored.metadata_props[:]
    onnx.save(stored, tmp_path / 'plain.onnx')
    with pytest.raises(ValueError, match='plain.onnx.*mmiformer export'):
        ExportedModel(tmp_path / 'plain.onnx')


def test_it_runs_without_a_framework(classifier):
    """In a process that has neither torch nor an mm package."""
    file = exporting.__file__.replace('export.py', 'exported.py')
    code = f'''
import runpy, sys
for name in ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain',
             'mmiformer'):
    sys.modules[name] = None
names = runpy.run_path({file!r})
import numpy
print(names['ExportedModel']({str(classifier[2])!r})(
    numpy.full((90, 70, 3), 99, numpy.uint8)).tolist())
'''
    out = subprocess.run([sys.executable, '-c', code], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    np.testing.assert_allclose(json.loads(out), ExportedModel(classifier[2])(
        np.full((90, 70, 3), 99, np.uint8)), rtol=1e-5)


def test_the_lines_in_the_docs(classifier, capsys):
    text = (ROOT / 'docs' / 'export.md').read_text()
    block, = re.findall(r'```python\n(import json.*?)```', text, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) == 10
    Path('model.onnx').write_bytes(classifier[2].read_bytes())
    image = picture(64, 64)  # of the file's size, since Pillow resizes others
    Image.fromarray(image[..., ::-1].copy()).save('photo.jpg', format='png')
    names = {}
    exec(block, names)
    expected = ExportedModel('model.onnx')(image).argmax()
    assert names['labels'] == expected
    assert CLASSES[expected] in capsys.readouterr().out


def test_label_maps_are_those_of_testing():
    """At the size of the image, which is resized before and after."""
    cfg, weights = write_config(
        'seg', 'fpn_ade20k/iformer_s_shapes.py',
        SHALLOW_FPN, [dict(type='Resize', scale=(90, 67), keep_ratio=False)])
    differences = export(cfg, weights, Path('seg.onnx'), size=(67, 90))
    assert [*differences] == ['1x67x90'] and 0 < differences['1x67x90'] < 1e-4
    model = ExportedModel('seg.onnx')
    assert (model.task, model.classes) == (
        'segmentation', ['background', *CLASSES])
    assert model.palette == [
        list(colour) for colour in read_meta(cfg)['palette']]
    assert len(model.palette) == 4
    image = picture(100, 141)
    labels = model(image)
    assert labels.dtype == np.uint8
    assert_same_labels(labels, as_tested(cfg, weights, image))
    Predictor('seg.onnx', None, out=Path('out')).predict('tested.png', 'a')
    assert (cv2.imread('out/preds/a.png', 0) == labels).all()
    assert cv2.imread('out/vis/a.png').shape == image.shape


def test_maps_of_a_backbone_at_any_size():
    """Of a detector, whose preprocessor would pad them."""
    cfg, weights = write_config(
        'det', 'mask_rcnn/iformer_s_shapes.py', dict(
            backbone=dict(SHALLOW, out_indices=(0, )),
            neck=dict(in_channels=[16], num_outs=5)))
    assert [*export(cfg, weights, Path('det.onnx'), dynamic=True,
                    part='backbone')] == ['1x128x128', '2x97x131', '1x200x61']
    model = ExportedModel('det.onnx')
    assert (model.task, model.classes) == ('backbone', [])
    assert [x.name for x in model.session.get_outputs()] == ['map0']
    network = load_model(cfg, weights).cpu()
    for height, width in ((64, 64), (33, 118)):
        image = picture(height, width)
        rgb = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)
        x = (rgb - torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)) / (
            torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1))
        with torch.no_grad():
            maps = network.backbone(x[None])
        outs = model(image)
        assert len(outs) == len(maps)
        for out, expected in zip(outs, maps):
            assert out.shape == expected.shape
            assert np.abs(out - expected.numpy()).max() < (
                1e-4 * expected.std())


@pytest.mark.parametrize('name', [
    'shallow', *(pytest.param(name, marks=pytest.mark.slow)
                 for name in ('fpn', 'upernet'))])
def test_segmentors_at_any_size(name, monkeypatch):
    steps = [dict(type='Resize', scale=(200, 96), keep_ratio=True)]
    cfg, weights = write_config(*dict(
        shallow=('shallow', 'fpn_ade20k/iformer_s_shapes.py', SHALLOW_FPN,
                 steps),
        fpn=('fpn', 'fpn_ade20k/iformer_s_shapes.py',
             dict(backbone=SHALLOW, neck=dict(in_channels=[16, 32, 32, 48])),
             [*steps, dict(type='ResizeToMultiple', size_divisor=32)]),
        upernet=('upernet', 'upernet_ade20k/iformer_s_160k.py', UPERNET,
                 steps))[name])
    export(cfg, weights, Path('any.onnx'), dynamic=True)
    model = ExportedModel('any.onnx')
    for size in ((100, 141), (333, 120), (50, 50)):
        image = picture(*size)
        assert_same_labels(model(image), as_tested(cfg, weights, image))
    if name == 'fpn':  # mmseg's upsampling makes a constant of its size
        monkeypatch.setattr(exporting, 'make_exportable', lambda model: None)
        with pytest.raises((RuntimeError, ValueError)):
            export(cfg, weights, Path('wrong.onnx'), dynamic=True)
        assert not Path('wrong.onnx').exists()


@pytest.mark.slow
def test_upernet_and_windows_at_a_fixed_size():
    model = dict(UPERNET, backbone=dict(
        SHALLOW, window_size=(4, 2, 2, None)))
    cfg, weights = write_config(
        'upernet', 'upernet_ade20k/iformer_s_160k.py', model,
        [dict(type='Resize', scale=(96, 64), keep_ratio=False)])
    export(cfg, weights, Path('fixed.onnx'))
    image = picture(90, 120)
    assert_same_labels(ExportedModel('fixed.onnx')(image),
                       as_tested(cfg, weights, image))


@pytest.mark.slow
def test_the_published_size(released_small):
    """iFormer-S with the head and the goldens' weights: 224, the crop."""
    torch.save(released_small, 'iformer_small.pth')
    cfg = load_config(str(ROOT / 'configs/imagenet/iformer_s_300e.py'))
    export(cfg, 'iformer_small.pth', Path('small.onnx'))
    model = ExportedModel('small.onnx')
    assert model.classes[:1] == ['tench, Tinca tinca']
    image = picture(300, 401)
    expected = as_tested(cfg, 'iformer_small.pth', image)
    np.testing.assert_allclose(
        model(image), expected.pred_score.numpy(), rtol=1e-3, atol=1e-7)


def refused(cfg, weights, **options):
    with pytest.raises(ValueError) as error:
        export(cfg, weights, Path('refused.onnx'), **options)
    assert not Path('refused.onnx').exists()
    return str(error.value)


def test_segmentors_that_are_refused(configs):
    cfg, weights = write_config(
        'seg', configs / 'fpn_ade20k/iformer_s_shapes.py', dict(
            backbone=dict(SHALLOW, window_size=4),
            neck=dict(in_channels=[16, 32, 32, 48])))
    cfg.model.backbone.compile = True
    message = refused(cfg, weights, dynamic=True)
    assert '[4]' in message and '--size' in message
    assert cfg.model.backbone.pop('compile')  # the caller's stays as it was
    cfg.model.test_cfg = dict(
        mode='slide', crop_size=(64, 64), stride=(32, 32))
    assert "'slide'" in refused(cfg, weights)
    cfg.model.decode_head.align_corners = True
    assert 'align_corners' in refused(cfg, weights)


def test_a_head_without_softmax_is_refused(configs):
    cfg, weights = write_config(
        'multi', configs / 'imagenet/iformer_s_shapes.py', dict(
            backbone=dict(SHALLOW, out_indices=(3, )),
            head=dict(_delete_=True, type='MultiLabelLinearClsHead',
                      num_classes=3, in_channels=48)))
    assert 'MultiLabelLinearClsHead' in refused(cfg, weights)


def test_label_maps():
    logits = np.float32([[[-1., -0.8], [0., 2.]]])  # sigmoid: .27 .31 .5 .88
    assert label_map(logits, (2, 2), 0.3).tolist() == [[0, 1], [1, 1]]
    assert label_map(np.float32([[[1, 1]], [[1, 2]], [[0, 2]]]),
                     (1, 2)).tolist() == [[0, 1]]  # the first if equal
    assert label_map(np.zeros((257, 1, 1), np.float32),
                     (1, 1)).dtype == np.uint16


@pytest.fixture
def program():
    """A program of one layer, an image for it and its output."""
    torch.manual_seed(0)

    class Layer(torch.nn.Conv2d):
        def forward(self, image):
            return super().forward(image.float())

    layer = Layer(3, 4, 3)
    image = torch.randint(256, (1, 3, 8, 9), dtype=torch.uint8)
    exported = torch.onnx.export(
        layer, (image, ), dynamo=True, input_names=['image'], verbose=False)
    return exported, [image], layer(image).detach().numpy()


@pytest.mark.parametrize('damage', [
    lambda x: x + 2e-4 * x.std(),
    lambda x: np.full_like(x, np.nan),
    lambda x: x[..., :1]])
def test_a_file_that_fails_its_proof_is_not_written(damage, program):
    exported, images, out = program
    path = Path('model.onnx')
    before = os.umask(0o077)  # others may not read
    try:
        assert write(exported, path, images, [[out]])['1x8x9'] < 1e-5
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.read_bytes()
    path.write_bytes(b'of before')
    with pytest.raises(RuntimeError, match='1x8x9'):
        write(exported, path, images, [[damage(out)]])
    assert path.read_bytes() == b'of before'
    assert [file.name for file in Path().iterdir()] == ['model.onnx']
    write(exported, path, images, [[out]])
    assert path.read_bytes() == written
