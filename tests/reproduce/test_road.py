"""tools/reproduce.py as a person calls it, from nothing to a verdict, on a
few small shapes."""
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from mmiformer.reproduce import RECIPES

TOOL = Path(__file__).parents[2] / 'tools' / 'reproduce.py'
SMALL = ['shapes.train=8', 'shapes.val=4', 'shapes.size=64',
         'model.data_preprocessor.size=(64,64)']


@pytest.fixture(scope='module')
def failed(tmp_path_factory):
    """The row that must fail, run in a folder with nothing in it."""
    folder = tmp_path_factory.mktemp('reproduce')
    result = subprocess.run(
        [sys.executable, str(TOOL), 'shapes/two_iterations', '--cfg-options',
         *SMALL], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True)
    return folder, result.returncode, result.stdout


@pytest.fixture
def call(monkeypatch, capsys):
    """The tool in this process: exit status and output. What it starts in
    turn are processes of their own."""
    spec = importlib.util.spec_from_file_location('reproduce_tool', TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['reproduce.py', *arguments])
        try:
            status = tool.main()
        except SystemExit as error:
            status = error.code
        return status, ''.join(capsys.readouterr())

    return call


def test_the_row_that_must_fail_fails(failed):
    folder, status, output = failed
    work = folder / 'work_dirs/reproduce/shapes/two_iterations'
    assert status == 1, output[-3000:]
    assert '# FAIL: shapes/two_iterations' in output
    content = json.loads((work / 'report.json').read_text())
    (metric, ) = content['metrics']
    assert content['verdict'] == metric['verdict'] == 'FAIL'
    assert metric['expected'] == 90.9 and 0 <= metric['got'] < 85.9
    # What the test logged, not what validation did.
    (logged, ) = work.glob('test/2*/2*.json')
    assert metric['got'] == json.loads(logged.read_text())['mIoU']
    assert content['training'] == 'whole, in this run'
    assert len(content['files']['tested']['sha256']) == 64
    assert 'max_iters=2' in content['config']
    assert cv2.imread(str(work / 'curve.png')).std() > 10


def test_a_checkpoint_that_is_good_enough_passes(failed, call, monkeypatch):
    """The same road with a row that expects little of it."""
    folder = failed[0]
    monkeypatch.setitem(RECIPES, 'shapes/easy', replace(
        RECIPES['shapes/two_iterations'], expected={'mIoU': 0.5},
        tolerance=0.1))
    monkeypatch.chdir(folder)
    status, output = call(
        'shapes/easy', '--checkpoint',
        'work_dirs/reproduce/shapes/two_iterations/train/iter_2.pth',
        '--cfg-options', *SMALL)
    assert status == 0 and '# PASS: shapes/easy' in output
    work = folder / 'work_dirs/reproduce/shapes/easy'
    content = json.loads((work / 'report.json').read_text())
    assert content['verdict'] == 'PASS'
    before = json.loads((folder / 'work_dirs/reproduce/shapes/two_iterations'
                         / 'report.json').read_text())
    assert content['metrics'][0]['got'] == before['metrics'][0]['got']
    assert (content['files']['tested']['sha256']
            == before['files']['tested']['sha256'])
    assert not (work / 'curve.png').exists() and not (work / 'train').exists()


def test_missing_data(tmp_path, call, monkeypatch):
    """Said at once; a dry run says it too, with the plan, and no more."""
    monkeypatch.chdir(tmp_path)
    arguments = ['ade20k/iformer_s', '--cfg-options',
                 'model.backbone.init_cfg=None']
    status, output = call(*arguments, '--dry-run')
    assert status == 0
    for part in ('mIoU 48.6 points, less at most 0.5', 'of training: ',
                 'tools/train.py', 'iter_80000.pth', 'images/training',
                 'annotations/validation', 'cannot start'):
        assert part in output
    status, output = call(*arguments, '--checkpoint', 'gone.pth')
    assert status == 2
    assert 'images/validation' in output and 'gone.pth' in output
    assert 'images/training' not in output
    assert not list(tmp_path.iterdir())


def test_wrong_arguments(call):
    status, output = call('coco')
    assert status == 2 and "no row 'coco'; rows: coco/iformer_s" in output
    status, output = call('shapes/fpn', '--cfg-options', 'abc')
    assert status == 2 and '--cfg-options abc: give KEY=VALUE' in output
