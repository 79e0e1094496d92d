"""Predictions of files: the same as in testing, and what is written."""
import json
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, refusal, run_tool
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.structures import PixelData
from tiny_models import BACKBONE, as_in_testing, build, child, save

import mmiformer
from mmiformer.kit import predict
from mmiformer.kit.inference import load_model, read_image
from mmiformer.kit.predict import Predictor, find_sources


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
    for name, rate in (('clip.avi', 10), ('fast.avi', 239.834)):
        writer = cv2.VideoWriter(
            name, cv2.VideoWriter_fourcc(*'MJPG'), rate, (80, 64))
        for shade in range(0, 250, 50):
            writer.write(np.full((64, 80, 3), shade, np.uint8))
        writer.release()
    return 'clip.avi'


def test_weights_fit_in_full(configs, tmp_path):
    cfg = child(configs, 'imagenet')
    state = build(cfg).state_dict()
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'all.pth')
    loaded = load_model(cfg, str(tmp_path / 'all.pth')).cpu().state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    del state['head.fc.bias']
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(ValueError, match=r'part.pth: .*head\.fc\.bias'):
        load_model(cfg, str(tmp_path / 'part.pth'))
    # Released weights have other names in the backbone, and a head.
    released = {name[len('backbone.'):]: value for name, value in
                build(cfg, seed=1).state_dict().items()
                if name.startswith('backbone.')}
    released.update({'head.weight': torch.randn(3, 48),
                     'head.bias': torch.randn(3)})
    torch.save(released, tmp_path / 'released.pth')
    loaded = load_model(cfg, str(tmp_path / 'released.pth')).cpu()
    assert torch.equal(loaded.head.fc.weight, released['head.weight'])


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
    predictor = Predictor(
        config, weights, out=Path('out'), threshold=0., draw=False)
    size, text = predictor.predict('in/a.png', 'a').split(': ')
    assert size == '80x60'
    content = json.loads(Path('out/preds/a.json').read_text())
    assert content['file'] == 'in/a.png'
    np.testing.assert_array_equal(
        np.float32(content['bboxes']), expected.bboxes)
    assert content['names'] == [
        ('circle', 'square', 'triangle')[label] for label in expected.labels]
    counts = sorted((content['names'].count(name), name)
                    for name in set(content['names']))[::-1]
    assert sorted(text.split(', ')) == sorted(
        f'{number} {name}' for number, name in counts)


def test_label_maps_are_those_of_testing(configs, images):
    config, weights = save(configs, 'fpn_ade20k', 'seg')
    sample = as_in_testing(Config.fromfile(config), weights, 'in/a.png')
    expected = sample.pred_sem_seg.data[0].numpy()
    inferencer = mmiformer.inferencer(config, weights)
    assert type(inferencer).__name__ == 'MMSegInferencer'
    np.testing.assert_array_equal(
        inferencer('in/a.png')['predictions'], expected)
    predictor = Predictor(config, weights, out=Path('out'))
    _, share, name = predictor.predict('in/a.png', 'a').split(',')[0].split()
    np.testing.assert_array_equal(
        cv2.imread('out/preds/a.png', cv2.IMREAD_UNCHANGED), expected)
    names = ('background', 'circle', 'square', 'triangle')
    assert share == f'{(expected == names.index(name)).mean():.0%}'
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
    predictor = Predictor(config, weights, out=Path('out'))
    assert predictor.predict('in/a.png', 'a') == (
        f'80x60: {expected.max():.2f} {found["pred_class"]}')
    order = np.argsort(-expected)
    assert json.loads(Path('out/preds/a.json').read_text()) == dict(
        file='in/a.png', width=80, height=60, labels=order.tolist(),
        scores=expected[order].tolist(), names=names[order].tolist())
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
    with pytest.raises(ValueError, match="'mmpose'.*'mmdet'"):
        mmiformer.inferencer(cfg, weights)
    with pytest.raises(FileNotFoundError, match='none.pth'):
        mmiformer.inferencer(config, 'none.pth')


def test_panoptic_results_are_refused(configs, images, monkeypatch):
    predictor = Predictor(*save(configs, 'mask_rcnn', 'det'), draw=False)
    forward = predictor.model.forward

    def with_segments(data):
        sample, = forward(data)
        return [sample.new(pred_panoptic_seg=PixelData())]

    monkeypatch.setattr(predictor.model, 'forward', with_segments)
    with pytest.raises(ValueError, match='panoptic'):
        predictor.predict('in/a.png', 'a')


@pytest.mark.parametrize('folder, head', [
    ('mask_rcnn', dict(roi_head=dict(bbox_head=dict(num_classes=9),
                                     mask_head=dict(num_classes=9)))),
    ('fpn_ade20k', dict(decode_head=dict(num_classes=9))),
    ('imagenet', dict(head=dict(num_classes=9, in_channels=48)))])
def test_classes_without_a_name_are_refused(folder, head, configs, images):
    """A head may have more outputs than the data set has classes."""
    config, weights = save(configs, folder, 'spare', **head)
    predictor = Predictor(config, weights, out=Path('out'))
    state = predictor.model.model.state_dict()
    name, = (name for name in state if name.endswith(
        ('fc_cls.bias', 'conv_seg.bias', 'head.fc.bias')))
    state[name][7] = 99.
    number = 4 if folder == 'fpn_ade20k' else 3
    with pytest.raises(ValueError, match=f'class 7 .* {number} classes'):
        predictor.predict('in/a.png', 'a')
    assert not Path('out').exists()


def test_every_input_has_a_name_of_its_own(images):
    for path in ('in/a.jpg', 'out/vis/a.png', 'out/preds/a.json', 'in/b.GIF'):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    files = ['in/a.jpg', 'in/a.png', 'in/sub/a.png']
    # An address has ://, all else is a path.
    sources, left_out = find_sources(
        ['a.mp4', 'in', 'in/a.png', 'https://host/x/b.jpg?size=1',
         'photo #1.jpg', 'none'], Path('out'))
    assert sources == [
        ('a.mp4', 'a'), *zip(files, ('a_2', 'a_3', 'sub/a')),
        ('in/a.png', 'a_4'), ('https://host/x/b.jpg?size=1', 'b'),
        ('photo #1.jpg', 'photo #1'), ('none', 'none')]
    assert left_out == {'.GIF': 1, '.txt': 1}
    # What was written before is no input of a folder.
    sources, left_out = find_sources(['.'], Path('out'))
    assert [path for path, _ in sources] == files
    assert left_out == {'.GIF': 1, '.txt': 1}


def test_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    line = refusal('predict.py', tmp_path / 'model.onnx', 'a.jpg')
    assert 'onnxruntime' in line


def test_the_page_of_the_docs(configs, images, monkeypatch):
    """It shows the picture and the line that `predict` writes."""
    page, = re.findall('```python\n(import gradio.*?)```', (
        ROOT / 'docs/predict.md').read_text(), re.DOTALL)
    config, weights = save(configs, 'fpn_ade20k', 'seg')
    page = page.replace('mask_rcnn/iformer_s_1x', config)
    gradio, names = mock.MagicMock(), {}
    monkeypatch.setitem(sys.modules, 'gradio', gradio)
    exec(page.replace('epoch_12.pth', weights), names)
    shown, text = gradio.Interface.call_args[0][0]('in/a.png')
    assert names['predictor'].predict('in/a.png', 'a') == f'80x60: {text}'
    assert np.array_equal(cv2.imread('outputs/vis/a.png')[..., ::-1], shown)


def read_lines(path):
    return [*map(json.loads, Path(path).read_text().splitlines())]


def test_frames_of_a_video(configs, video):
    pytest.importorskip('supervision', reason='videos need supervision')
    config, weights = save(configs, 'fpn_ade20k', 'seg')
    predictor = Predictor(config, weights, out=Path('out'))
    assert predictor.predict(video, 'clip') == '80x64: 5 frames'
    assert [*Path('out/preds').iterdir()] == [Path('out/preds/clip.jsonl')]
    lines = read_lines('out/preds/clip.jsonl')
    assert len(lines) == 5
    drawn = cv2.VideoCapture('out/vis/clip.mp4')
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert drawn.get(cv2.CAP_PROP_FPS) == 10
    # Frames reach the model in OpenCV's order, as files do.
    frames = cv2.VideoCapture(video)
    frames.read(), frames.read()
    cv2.imwrite('frame.png', frames.read()[1])
    predictor.predict('frame.png', 'frame')
    frame = json.loads(Path('out/preds/frame.json').read_text())
    assert frame == dict(file='frame.png', width=80, height=64, **lines[2])
    labels = cv2.imread('out/preds/frame.png', cv2.IMREAD_UNCHANGED)
    for label, share in zip(frame['labels'], frame['shares']):
        assert share == pytest.approx((labels == label).mean())
    assert sum(frame['shares']) == pytest.approx(1)
    # Without pictures there is no video either.
    bare = Predictor(config, weights, out=Path('bare'), draw=False)
    bare.predict(video, 'clip')
    assert read_lines('bare/preds/clip.jsonl') == lines
    assert not Path('bare/vis').exists()


def test_videos_are_written_whole(configs, video, monkeypatch):
    pytest.importorskip('supervision', reason='videos need supervision')
    predictor = Predictor(
        *save(configs, 'imagenet', 'cls'), out=Path('out'))
    # MPEG-4 knows no such frame rate.
    predictor.predict('fast.avi', 'fast')
    assert cv2.VideoCapture('out/vis/fast.mp4').get(
        cv2.CAP_PROP_FPS) == pytest.approx(239.83, abs=1)
    Path('bad.mp4').write_bytes(b'no video')
    with pytest.raises(Exception, match='bad.mp4'):
        predictor.predict('bad.mp4', 'bad')
    run, images = predictor.run, []

    def break_at_third(image):
        images.append(image)
        if len(images) == 3:
            raise KeyboardInterrupt
        return run(image)

    monkeypatch.setattr(predictor, 'run', break_at_third)
    with pytest.raises(KeyboardInterrupt):
        predictor.predict(video, 'clip')
    assert sorted(map(str, Path('out').rglob('*.*'))) == [
        'out/preds/fast.jsonl', 'out/vis/fast.mp4']


def test_a_bad_input_costs_no_other(configs, images):
    """Each that fails is named and counted; what is left out, too."""
    config, weights = save(configs, 'imagenet', 'cls')
    Path('in/bad.jpg').write_text('no image')
    process = subprocess.run(
        [sys.executable, '-m', 'mmiformer', 'predict', config, weights, 'in',
         'none.jpg', '--out', 'out'], capture_output=True, text=True)
    assert process.returncode == 1
    assert 'left out: 1 .txt' in process.stdout
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

    def break_at_sub(self, path, name):
        if name == 'sub/a':
            raise error
        return whole(self, path, name)

    monkeypatch.setattr(predict.Predictor, 'predict', break_at_sub)
    with pytest.raises(SystemExit) as exit:
        run_tool('predict.py', config, weights, 'in', '--out', 'out')
    assert exit.value.code == status
    assert Path('out/preds/a.json').is_file()
    assert ('in/sub/a.png: RuntimeError: out of memory' in
            capsys.readouterr().err) == (status == 1)


ONE = dict(mean=[100.], std=[50.])
BACKBONE_ONE = dict(BACKBONE, in_channels=1)


@pytest.mark.parametrize('folder, preprocessor, model, pack', [
    ('mask_rcnn', dict(ONE, bgr_to_rgb=False), {}, 'PackDetInputs'),
    ('fpn_ade20k', dict(ONE, bgr_to_rgb=False), {}, 'PackSegInputs'),
    ('imagenet', dict(ONE, to_rgb=False), dict(
        backbone=dict(BACKBONE_ONE, out_indices=(3, )),
        head=dict(in_channels=48)), 'PackInputs')])
def test_images_of_one_channel(
        folder, preprocessor, model, pack, configs, images):
    """The model sees the grey values, and they are what is drawn on."""
    model = dict(dict(backbone=BACKBONE_ONE), **model)
    config, weights = save(
        configs, folder, 'one', **model, data_preprocessor=preprocessor)
    with open(config, 'a') as file:
        file.write(f"""
test_dataloader = dict(dataset=dict(pipeline=[
    dict(type='LoadImageFromFile', color_type='grayscale'),
    dict(type='Resize', scale=(80, 60)), dict(type='{pack}')]))
""")
    grey = cv2.imread('in/a.png', cv2.IMREAD_GRAYSCALE)
    predictor = Predictor(config, weights, out=Path('out'), threshold=1.)
    assert predictor.predict('in/a.png', 'a').startswith('80x60: ')
    cfg = Config.fromfile(config)
    network = load_model(cfg, weights)
    shown, data = read_image(cfg, network, 'in/a.png')
    assert np.array_equal(shown, np.repeat(grey[..., None], 3, 2))
    assert torch.equal(data['inputs'][0, 0, :60, :80],
                       (torch.from_numpy(grey).float() - 100) / 50)
    if folder == 'mask_rcnn':  # nothing is drawn below the threshold
        assert np.array_equal(cv2.imread('out/vis/a.png'), shown)
