"""Predictions of files: the same as in testing, and what is written."""
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import refusal, run_tool
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from tiny_models import as_in_testing, save

import mmiformer
from mmiformer.config import load_config
from mmiformer.kit import predict
from mmiformer.kit.predict import (
    Source,
    find_sources,
    load_predictor,
    refuse_panoptic,
)


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Two images of one name, one that is none, and a hidden file."""
    monkeypatch.chdir(tmp_path)
    random = np.random.RandomState(0)
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    for name in ('a.png', 'sub/a.png'):
        cv2.imwrite(f'in/{name}', random.randint(0, 255, (60, 80, 3), np.uint8))
    Path('in/._a.png').touch()
    Path('in/notes.txt').touch()
    return tmp_path / 'in'


@pytest.fixture
def video(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter(
        'clip.avi', cv2.VideoWriter_fourcc(*'MJPG'), 10, (80, 64))
    for shade in range(0, 250, 50):
        writer.write(np.full((64, 80, 3), shade, np.uint8))
    writer.release()
    return 'clip.avi'


def test_boxes_and_masks_are_those_of_testing(configs, images):
    config, weights = save(configs, 'mask_rcnn', 'det')
    expected = as_in_testing(
        Config.fromfile(config), weights, 'in/a.png').pred_instances
    inferencer = mmiformer.inferencer(config, weights)
    assert type(inferencer).__name__ == 'DetInferencer'
    found = inferencer.model.test_step(next(iter(
        inferencer.preprocess(['in/a.png'])))[1])[0]
    assert len(expected.scores) > 1
    for key in ('bboxes', 'labels', 'scores', 'masks'):
        assert torch.equal(torch.as_tensor(expected[key]),
                           torch.as_tensor(found.pred_instances[key]))
    # As the command writes them, from the file and from an array in BGR.
    predictor = load_predictor(
        config, weights, out=Path('out'), threshold=0., draw=False)
    summary = predictor.predict(Source('in/a.png', 'a'))
    assert (summary.width, summary.height) == (80, 60)
    content = json.loads(Path('out/preds/a.json').read_text())
    assert content['file'] == 'in/a.png'
    np.testing.assert_array_equal(
        np.float32(content['bboxes']), expected.bboxes)
    assert content['names'] == [
        ('circle', 'square', 'triangle')[label] for label in expected.labels]
    counts = sorted((content['names'].count(name), name)
                    for name in set(content['names']))[::-1]
    assert sorted(summary.text.split(', ')) == sorted(
        f'{number} {name}' for number, name in counts)


def test_label_maps_are_those_of_testing(configs, images):
    config, weights = save(configs, 'fpn_ade20k', 'seg')
    sample = as_in_testing(Config.fromfile(config), weights, 'in/a.png')
    expected = sample.pred_sem_seg.data[0].numpy()
    inferencer = mmiformer.inferencer(config, weights)
    assert type(inferencer).__name__ == 'MMSegInferencer'
    np.testing.assert_array_equal(
        inferencer('in/a.png')['predictions'], expected)
    predictor = load_predictor(config, weights, out=Path('out'))
    summary = predictor.predict(Source('in/a.png', 'a'))
    np.testing.assert_array_equal(
        cv2.imread('out/preds/a.png', cv2.IMREAD_UNCHANGED), expected)
    names = ('background', 'circle', 'square', 'triangle')
    share, name = summary.text.split(', ')[0].split()
    number = (expected == names.index(name)).mean()
    assert share == f'{number:.0%}'
    # Drawn in the data set's colours, four parts of five; the names of the
    # classes are on top, how large depends on OpenCV.
    drawn, image = cv2.imread('out/vis/a.png'), cv2.imread('in/a.png')
    palette = np.array(inferencer.model.dataset_meta['palette'])[:, ::-1]
    blend = 0.8 * palette[expected] + 0.2 * image
    assert np.mean(np.abs(drawn - blend).max(2) < 3) > 0.2


def test_scores_are_those_of_testing(configs, images):
    config, weights = save(configs, 'imagenet', 'cls')
    expected = as_in_testing(
        Config.fromfile(config), weights, 'in/a.png').pred_score.numpy()
    inferencer = mmiformer.inferencer(config, weights)
    assert type(inferencer).__name__ == 'ImageClassificationInferencer'
    found = inferencer('in/a.png')[0]
    np.testing.assert_array_equal(found['pred_scores'], expected)
    names = np.array(('circle', 'square', 'triangle'))
    assert found['pred_class'] == names[expected.argmax()]
    predictor = load_predictor(config, weights, out=Path('out'))
    summary = predictor.predict(Source('in/a.png', 'a'))
    assert summary.text == f'{expected.max():.2f} {found["pred_class"]}'
    content = json.loads(Path('out/preds/a.json').read_text())['classes']
    order = np.argsort(-expected)
    assert [item['name'] for item in content] == [*names[order]]
    assert np.float32([item['score'] for item in content]).tolist() == [
        *expected[order]]
    assert cv2.imread('out/vis/a.png').shape == (60, 80, 3)


def test_names_and_settings_are_not_the_files(configs, images):
    """As mmengine stores a checkpoint: curves, and the config as a program."""
    config, weights = save(configs, 'mask_rcnn', 'det')
    torch.save(dict(
        state_dict=torch.load(weights),
        meta=dict(dataset_meta=dict(CLASSES=('x', 'y', 'z')),
                  cfg='open("run", "w")', config='open("run", "w")'),
        message_hub=dict(log_scalars=dict(loss=HistoryBuffer([1.], [1])))),
        'full.pth')
    meta = mmiformer.inferencer(config, 'full.pth').model.dataset_meta
    assert meta['classes'] == ['circle', 'square', 'triangle']
    assert not Path('run').exists()


def test_what_cannot_be_an_inferencer(configs, images):
    config, weights = save(configs, 'fpn_ade20k', 'seg')
    cfg = Config.fromfile(config)
    cfg.default_scope = 'mmpose'
    with pytest.raises(ValueError, match="'mmpose'.*'mmdet', 'mmseg'"):
        mmiformer.inferencer(cfg, weights)
    with pytest.raises(FileNotFoundError, match='none.pth'):
        mmiformer.inferencer(config, 'none.pth')


def stock(name):
    return str(Path(__import__('mmdet').__path__[0], '.mim', 'configs', name))


def test_panoptic_results_are_refused(tmp_path):
    """Before the weights are read; the same network for objects is not."""
    name = 'mask2former/mask2former_r50_8xb2-lsj-50e_coco{}.py'
    for kind, config in (
            ('PanopticFPN', 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'),
            ('Mask2Former', name.format('-panoptic'))):
        with pytest.raises(ValueError, match=f'{kind}.*panoptic'):
            load_predictor(stock(config), 'none.pth', out=tmp_path)
    refuse_panoptic(load_config(stock(name.format(''))))


def test_every_input_has_a_name_of_its_own(images):
    assert find_sources(['in', 'in/a.png', 'https://host/x/b.jpg?size=1',
                         'none.jpg']) == [
        ('in/a.png', 'a'), ('in/sub/a.png', 'sub/a'), ('in/a.png', 'a_2'),
        ('https://host/x/b.jpg?size=1', 'b'), ('none.jpg', 'none')]


def test_missing_packages_are_named(monkeypatch, tmp_path):
    """Before anything is predicted."""
    monkeypatch.setattr(predict, 'find_spec', lambda name: None)
    line = refusal('predict.py', 'a.py', 'a.pth', 'a.jpg', 'clip.MP4')
    assert 'supervision' in line and '".[predict]"' in line
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    line = refusal('predict.py', tmp_path / 'model.onnx', 'a.jpg')
    assert 'pip install onnxruntime' in line


def test_frames_of_a_video(configs, video):
    pytest.importorskip('supervision', reason='videos need supervision')
    config, weights = save(configs, 'fpn_ade20k', 'seg')
    predictor = load_predictor(config, weights, out=Path('out'))
    summary = predictor.predict(Source(video, 'clip'))
    assert summary[:3] == (80, 64, 5)
    assert sorted(path.name for path in Path('out/preds/clip').iterdir()) == [
        f'00000{number}.png' for number in range(5)]
    drawn = cv2.VideoCapture('out/vis/clip.mp4')
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    # Frames reach the model in OpenCV's order, as files do.
    frames = cv2.VideoCapture(video)
    frames.read(), frames.read()
    cv2.imwrite('frame.png', frames.read()[1])
    predictor.predict(Source('frame.png', 'frame'))
    labels = cv2.imread('out/preds/clip/000002.png', cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(
        labels, cv2.imread('out/preds/frame.png', cv2.IMREAD_UNCHANGED))
    # The shares are means over the frames.
    classes = ('background', 'circle', 'square', 'triangle')
    share, name = summary.text.split(', ')[0].split()
    expected = np.mean([
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == classes.index(name)
        for path in Path('out/preds/clip').iterdir()])
    assert float(share.strip('%')) == pytest.approx(100 * expected, abs=.51)
    # Without pictures there is no video either.
    load_predictor(config, weights, out=Path('bare'), draw=False).predict(
        Source(video, 'clip'))
    np.testing.assert_array_equal(labels, cv2.imread(
        'bare/preds/clip/000002.png', cv2.IMREAD_UNCHANGED))
    assert not Path('bare/vis').exists()
    Path('bad.mp4').write_bytes(b'no video')
    with pytest.raises(Exception, match='bad.mp4'):
        predictor.predict(Source('bad.mp4', 'bad'))


def test_a_bad_input_costs_no_other(configs, images):
    """Each that fails is named, and the exit status is their number."""
    config, weights = save(configs, 'imagenet', 'cls')
    Path('in/bad.jpg').write_text('no image')
    process = subprocess.run(
        [sys.executable, '-m', 'mmiformer', 'predict', config, weights, 'in',
         'none.jpg', '--out', 'out'], capture_output=True, text=True)
    assert process.returncode == 2
    assert 'in/bad.jpg' in process.stderr and 'none.jpg' in process.stderr
    assert '2 of 4 failed' in process.stdout
    assert re.search(r'^in/sub/a.png 80x60: 0\.\d\d \w+, \d+\.\d\d s$',
                     process.stdout, re.MULTILINE)
    assert sorted(str(path.relative_to('out')) for path
                  in Path('out').rglob('*.*')) == [
        'preds/a.json', 'preds/sub/a.json', 'vis/a.png', 'vis/sub/a.png']


@pytest.mark.parametrize('error, status', [
    (KeyboardInterrupt(), 130), (RuntimeError('out of memory\nat ...'), 1)])
def test_what_goes_wrong_later(error, status, configs, images, monkeypatch,
                               capsys):
    config, weights = save(configs, 'imagenet', 'cls')
    whole = predict.Predictor.predict

    def break_at_sub(self, source):
        if source.name == 'sub/a':
            raise error
        return whole(self, source)

    monkeypatch.setattr(predict.Predictor, 'predict', break_at_sub)
    with pytest.raises(SystemExit) as exit:
        run_tool('predict.py', config, weights, 'in', '--out', 'out')
    assert exit.value.code == status
    assert Path('out/preds/a.json').is_file()
    assert ('in/sub/a.png: RuntimeError: out of memory' in
            capsys.readouterr().err) == (status == 1)
