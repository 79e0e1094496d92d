"""The page of recipes: other people's tools take our output."""
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, call, run_tool
from huggingface_hub import ModelCard
from mmengine.utils import get_installed_path
from PIL import Image
from safetensors.torch import load_file
from shapes import make_shapes
from tiny_models import FEW, picture, save

import mmiformer

PAGE = (ROOT / 'docs' / 'howto.md').read_text()
BLOCKS = re.findall('```python\n(.*?)```', PAGE, re.DOTALL)
CLASSES = ('circle', 'square', 'triangle')
BOXES = '''
model['roi_head'] = dict(mask_roi_extractor=None, mask_head=None)
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True)]
'''


def find_block(name):
    block, = [block for block in BLOCKS if f'{name}(' in block]
    return block


@pytest.fixture
def model(configs, tmp_path, monkeypatch):
    """Writes a small model of a kind, for a few shapes."""
    monkeypatch.chdir(tmp_path)

    def model(folder, name):
        make_shapes('data/shapes', train=4, val=3, size=64)
        config, weights = save(configs, folder, name)
        with open(config, 'a') as file:
            file.write(FEW)
        return config, weights

    return model


def analyse(framework, tool, *words):
    path = Path(get_installed_path(framework), '.mim', 'tools',
                'analysis_tools', tool)
    subprocess.run([sys.executable, path, *words], check=True,
                   stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_losses_in_tensorboard(model):
    """As in the JSON log, which is still written. In a process of its own: a
    visualizer of that name is made once in a process."""
    from tensorboard.backend.event_processing import event_accumulator
    config, _ = model('fpn_ade20k', 'seg')
    backends = re.search(r'^visualizer = .*', PAGE, re.M | re.S)[0]
    with open(config, 'a') as file:
        file.write(backends[:backends.index('```')])
    call('train.py', config, '--work-dir', 'work', '--cfg-options',
         'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
         'default_hooks.logger.interval=1')
    log, = Path('work').glob('*/vis_data/scalars.json')
    expected = [json.loads(line)['loss'] for line in log.read_text(
        ).splitlines() if '"loss"' in line]
    written = event_accumulator.EventAccumulator(str(log.parent)).Reload()
    assert [event.value for event in written.Scalars('loss')] == (
        pytest.approx(expected, rel=1e-6))
    assert len(expected) == 2
    assert 'mIoU' in written.Tags()['scalars']


@pytest.mark.slow
def test_which_class_and_which_images(model):
    """Of a detector: AP by class, and mmdet's tools on the predictions."""
    config, weights = model('mask_rcnn', 'det')
    results = run_tool(
        'test.py', config, weights, '--out', 'results.pkl', '--cfg-options',
        'test_evaluator.classwise=True', 'work_dir=work')
    log = next(Path('work').glob('*/*.log')).read_text() + results
    assert all(re.search(rf'\| {name} +\|', log) for name in CLASSES)
    analyse('mmdet', 'confusion_matrix.py', config, 'results.pkl', 'confusion')
    assert Path('confusion/confusion_matrix.png').stat().st_size
    analyse('mmdet', 'analyze_results.py', config, 'results.pkl', 'worst',
            '--topk', '1')
    for kind in ('bad', 'good'):
        assert len([*Path('worst', kind).iterdir()]) == 1


def test_confusion_of_a_segmentor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder, rows in (
            ('data/custom/annotations/val', [[0, 0, 0, 0], [1, 1, 2, 255]]),
            ('predictions', [[0, 0, 0, 1], [1, 2, 2, 0]])):
        Path(folder).mkdir(parents=True)
        Image.fromarray(np.uint8(rows)).save(f'{folder}/a.png')
    exec(find_block('bincount'), {})
    expected = np.array([[.75, .25, 0], [0, .5, .5], [0, 0, 1]])
    assert capsys.readouterr().out.strip() == str(expected)


def test_slices(model, monkeypatch):
    """A slice that is the whole image has what the detector finds."""
    pytest.importorskip('sahi')
    config, weights = model('mask_rcnn', 'box')
    with open(config, 'a') as file:  # boxes alone
        file.write(BOXES)
    state = {key: value for key, value in torch.load(weights).items()
             if '.mask_' not in key}
    torch.save(dict(state_dict=state, meta=dict(dataset_meta=dict(
        classes=CLASSES))), 'epoch_12.pth')
    cv2.imwrite('photo.png', picture(512, 512))
    Path('photo.png').rename('photo.jpg')  # one decoding by OpenCV and Pillow
    block = find_block('get_sliced_prediction')
    named, = re.findall(r"config_path\('(.*)'\)", block)
    assert 'faster_rcnn' in mmiformer.config_path(named)
    monkeypatch.setattr(mmiformer, 'config_path', lambda name: config)
    space = {}
    exec(block, space)
    expected = mmiformer.inferencer(config, 'epoch_12.pth')(
        'photo.jpg')['predictions'][0]
    found = space['result'].object_prediction_list
    # sahi merges boxes of a class, and the best of each stays.
    best = {CLASSES[label]: score for label, score in reversed(
        [*zip(expected['labels'], expected['scores'])]) if score >= 0.3}
    shown = {item.category.name: item.score.value for item in sorted(
        found, key=lambda item: item.score.value)}
    assert shown == best and best
    assert Path('out/prediction_visual.png').exists()
    large = cv2.resize(cv2.imread('photo.jpg'), (700, 600))
    result = space['get_sliced_prediction'](
        large, space['model'], slice_height=512, slice_width=512, verbose=0)
    assert len(result.object_prediction_list) > 0


def test_publishing(model):
    """The weights alone, in a file that other people turn into a checkpoint."""
    config, weights = model('fpn_ade20k', 'seg')
    state = torch.load(weights)
    moments = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save(dict(state_dict=state, optimizer=moments), 'epoch_12.pth')
    exec(find_block('save_file'), {})
    assert load_file('model.safetensors').keys() == state.keys()
    assert Path('model.safetensors').stat().st_size < (
        0.6 * Path('epoch_12.pth').stat().st_size)
    card = ModelCard.load('README.md')
    assert (card.data.library_name, card.data.license) == (
        'mmiformer', 'apache-2.0')
    assert '# What it finds' in card.content
    exec(find_block('load_file'), {})
    cv2.imwrite('photo.jpg', picture(96, 128))
    first, second = (mmiformer.inferencer(config, file)('photo.jpg')
                     for file in (weights, 'model.pth'))
    assert (first['predictions'] == second['predictions']).all()
