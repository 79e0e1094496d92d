"""Every command of README and docs as typed there, in an empty folder, with
nothing of ours but the installed wheel."""
import json
import os
import pickle
import re
import shlex
import subprocess
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, golden_state, needs_dynamo_export
from shapes import make_shapes
from tiny_models import FEW, build, save

import mmiformer
from mmiformer.config import load_config
from mmiformer.kit.exported import ExportedModel

# By their word. Those of training and testing are parsed by test_docs.py.
LINES = {word: [*dict.fromkeys(
    line for page in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
    for line in re.findall(f'^mmiformer {word} .*', page.read_text(), re.M))]
    for word in ('predict', 'export')}
KINDS = dict(det='mask_rcnn', seg='fpn_ade20k', cls='imagenet')


def typed(part, word='predict'):
    """The first line of a word that has this part."""
    return next(line for line in LINES[word] if part in line)


@pytest.fixture
def run(site, tmp_path, monkeypatch):
    """Types a line in a folder that holds nothing; returns what it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('PYTHONPATH', raising=False)
    monkeypatch.setenv('PATH', str(site.parents[2] / 'bin'), prepend=os.pathsep)

    def run(line, status=0):
        result = subprocess.run(shlex.split(line), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert result.returncode == status, result.stderr[-3000:]
        return result.stdout + (result.stderr if status else '')

    return run


@pytest.fixture
def model(site, run):
    """Writes config and weights of a small model, for a few shapes; fills in
    their names in a line."""
    def model(kind):
        config, weights = save(
            site / 'mmiformer' / '.mim' / 'configs', KINDS[kind], kind)
        make_shapes('data/shapes', train=4, val=3, size=64)
        with open(config, 'a') as file:
            file.write(FEW)
        return lambda line: line.replace('CONFIG', config).replace(
            'CHECKPOINT', weights)

    return model


@pytest.fixture
def photo(run):
    random = np.random.RandomState(0)
    cv2.imwrite('photo.jpg', random.randint(0, 255, (96, 128, 3), np.uint8))
    return 'photo.jpg'


@pytest.fixture
def released(released_keys, tmp_path, monkeypatch):
    """The name mmiformer://iformer_small, with generated weights."""
    (tmp_path / 'weights').mkdir()
    torch.save(golden_state('small', released_keys),
               tmp_path / 'weights' / 'iformer_small.pth')
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(tmp_path / 'weights'))


def read(path):
    return json.loads(Path(path).read_text())


@pytest.mark.slow
def test_predictions(run, model, photo, server):
    pytest.importorskip('supervision', reason='videos need supervision')
    fill = model('det')
    server.files['/x.jpg'] = Path(photo).read_bytes()
    Path('folder/sub').mkdir(parents=True)
    writer = cv2.VideoWriter(
        'clip.mp4', cv2.VideoWriter_fourcc(*'mp4v'), 10, (128, 96))
    for i in range(3):
        frame = np.roll(cv2.imread(photo), 9 * i, 1)
        cv2.imwrite(f'folder/{"sub/" * (i > 1)}{i}.png', frame)
        writer.write(frame)
    writer.release()
    whole = fill(typed('https://host'))
    short = whole.replace(' https://host/x.jpg', '')
    printed = run(whole.replace('https://host', server.url))
    lines = [line for line in printed.splitlines() if ' 128x96' in line]
    video = lines.pop(4)
    assert video.startswith('clip.mp4 128x96: 3 frames, ')
    frames = [*map(json.loads, Path(
        'out/preds/clip.jsonl').read_text().splitlines())]
    names = ['photo', '0', '1', 'sub/2', 'x']
    found = {name: read(f'out/preds/{name}.json') for name in names}
    assert {str(path.relative_to('out/preds').with_suffix(''))
            for path in Path('out/preds').rglob('*.json')} == {*found}
    for name, line in zip(names, lines):
        content = found[name]
        shown = [name for name, score in zip(
            content['names'], content['scores']) if score >= .3]
        text, _ = re.fullmatch(r'\S+ 128x96: (.*), (\d+\.\d\d) s',
                               line).groups()
        assert sorted(text.split(', ')) == sorted(
            f'{shown.count(name)} {name}' for name in {*shown}
        ) or text == 'nothing'
        drawn = next(Path('out/vis').glob(f'{name}.*'))
        assert cv2.imread(str(drawn)).shape == (96, 128, 3)
    assert cv2.VideoCapture('out/vis/clip.mp4').get(
        cv2.CAP_PROP_FRAME_COUNT) == 3
    expected = mmiformer.inferencer('det.py', 'det.pth')(
        photo)['predictions'][0]
    assert len(expected['scores']) > 3
    for name in ('photo', 'x'):
        assert {key: found[name][key] for key in expected} == expected
    assert found['0']['bboxes'] != found['1']['bboxes']
    assert len(frames) == 3 and frames[0]['bboxes'] != frames[1]['bboxes']

    assert 'none.jpg' in run(f'{short} none.jpg', 1)


@pytest.mark.slow
def test_a_classifier(run, photo, released):
    line = typed('mmiformer://iformer_small')
    printed = run(line)
    expected = mmiformer.inferencer(*line.split()[2:4])(photo)[0]
    name, score = expected['pred_class'], float(expected['pred_score'])
    assert re.search(rf'^photo.jpg 128x96: {score:.2f} {name}, \d+\.\d\d s$',
                     printed, re.M)
    best = read('outputs/preds/photo.json')
    assert (best['names'][0], len(best['names'])) == (name, 5)
    assert best['scores'][0] == pytest.approx(score, rel=1e-4)
    assert cv2.imread('outputs/vis/photo.jpg').shape == (96, 128, 3)


@pytest.mark.slow
def test_after_the_demo(run):
    line = typed('work_dirs/demo')
    _, _, config, checkpoint, images = line.split()
    make_shapes('data/shapes')
    Path(checkpoint).parent.mkdir(parents=True)
    cfg = load_config(mmiformer.config_path(config))
    torch.save(build(cfg).state_dict(), checkpoint)
    assert '00001.jpg 128x128: ' in run(line)
    expected = mmiformer.inferencer(config, checkpoint)(
        f'{images}/00001.jpg')['predictions'][0]
    assert len(expected['scores']) > 3
    found = read('outputs/preds/00001.json')
    assert {key: found[key] for key in expected} == expected


@pytest.mark.slow
@needs_dynamo_export
def test_exports(run, model, photo):
    fill = model('seg')
    shapes = []
    for part in ('model.onnx', '--size', '--dynamic', '--part'):
        line = fill(typed(part, 'export'))
        printed = run(line)
        file = line.split()[5]
        assert float(re.search(
            rf'written: {file}, .* difference (\S+) of', printed)[1]) < 1e-4
        exported = ExportedModel(file)
        shapes.append(exported.session.get_inputs()[0].shape)
    assert shapes == [
        [1, 3, 128, 128], [1, 3, 800, 1280],
        ['batch', 3, 'height', 'width'], [1, 3, 128, 128]]
    assert [out.name for out in exported.session.get_outputs()] == [
        'map0', 'map1', 'map2', 'map3']
    # model.onnx is now the one for any size.
    assert '128x96: ' in run(typed('model.onnx'))
    expected = mmiformer.inferencer('seg.py', 'seg.pth')(photo)['predictions']
    assert len(np.unique(expected)) > 1
    labels = cv2.imread('outputs/preds/photo.png', cv2.IMREAD_UNCHANGED)
    assert (labels == expected).mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_predictions_are_those_of_testing(kind, run, model):
    """By value: a data set by `test --out`, its images by `predict`."""
    fill = model(kind)
    out = 'maps' if kind == 'seg' else 'results.pkl'
    printed = run(fill(f'mmiformer test CONFIG CHECKPOINT --out {out}'))
    images = Path('data/shapes', dict(cls='crops/validation').get(
        kind, 'images/validation'))
    run(fill(f'mmiformer predict CONFIG CHECKPOINT {images} --out out'))
    paths = sorted(path.relative_to(images) for path in images.rglob('*.jpg'))
    assert len(paths) > 2
    if kind == 'seg':
        assert 'mIoU: ' in printed
        for path in paths:
            found, expected = (cv2.imread(
                str(folder / path.with_suffix('.png')), cv2.IMREAD_UNCHANGED)
                for folder in (Path('out/preds'), Path('maps')))
            np.testing.assert_array_equal(found + 1, expected)
        return
    with open(out, 'rb') as file:
        results = {os.path.abspath(result['img_path']): result
                   for result in pickle.load(file)}
    assert {*results} == {str((images / path).absolute()) for path in paths}
    inferencer = mmiformer.inferencer(f'{kind}.py', f'{kind}.pth')
    for path in paths:
        expected = results[str((images / path).absolute())]
        found = read(Path('out/preds', path.with_suffix('.json')))
        if kind == 'cls':
            scores = expected['pred_score'].tolist()
            assert found['scores'] == sorted(scores)[::-1]
            again = inferencer(str(images / path))[0]['pred_scores']
            assert again.tolist() == scores
            continue
        expected = expected['pred_instances']
        again = inferencer(str(images / path))['predictions'][0]
        for key in ('bboxes', 'scores', 'labels'):
            assert found[key] == again[key] == expected[key].tolist()
        masks = [dict(mask, counts=mask['counts'].decode())
                 for mask in expected['masks']]
        assert found['masks'] == again['masks'] == masks
        assert len(masks) > 3


@pytest.mark.slow
def test_a_training(run, model, photo):
    fill = model('seg')
    assert '0 errors' in run(fill('mmiformer check CONFIG'))
    run(fill('mmiformer train CONFIG --work-dir work --cfg-options '
             'train_cfg.max_iters=1 train_cfg.val_interval=1 '
             'default_hooks.checkpoint.interval=1'))
    before = torch.load('seg.pth')
    after = torch.load('work/iter_1.pth', weights_only=True)['state_dict']
    assert before.keys() == after.keys()
    assert '128x96: ' in run('mmiformer predict seg.py work/iter_1.pth '
                             'photo.jpg')


@pytest.mark.slow
def test_env(run):
    result = subprocess.run(['mmiformer', 'env'], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    rows = [[cell.strip() for cell in line.strip('|').split('|')]
            for line in result.stdout.splitlines() if line.startswith('|')]
    found = {name: (mark, text) for mark, name, text in rows[2:]}
    assert result.returncode == any(
        mark == 'FAULT' for mark, _ in found.values())
    for name in ('torch', 'mmiformer'):
        mark, text = found[name]
        assert mark == 'ok' and text.startswith(f'{name} {version(name)}')


@pytest.mark.slow
def test_words_that_print(run, site):
    rows = run("mmiformer models '*iformer_s*'").splitlines()[1:]
    assert [row.split()[0] for row in rows] == [
        model.name for model in mmiformer.list_models('*iformer_s*')]
    row, = [row for row in rows if row.startswith('mask_rcnn/iformer_s_1x')]
    assert '39.6' in row and '46.2 box AP, 41.9 mask AP' in row
    counted = run('mmiformer flops configs/imagenet/iformer_s_300e.py')
    assert [line.split()[0] for line in counted.splitlines()] == [
        '224x224', '19.9', '4.5', '4.8']
    plan = run('mmiformer reproduce coco/iformer_s --dry-run')
    assert 'expected (paper): coco/bbox_mAP 46.2' in plan
    assert str(site / 'mmiformer' / '.mim' / 'tools' / 'train.py') in plan
    missing = run('mmiformer reproduce coco/iformer_s --checkpoint none', 2)
    assert 'data/coco/val2017' in missing
    assert "'predct'; is it predict?" in run('mmiformer predct', 1)
