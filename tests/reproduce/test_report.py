"""Running the commands, and the report of what they said."""
import json
import os
import subprocess
import sys
import time

import pytest
import torch
from plans import make_plan

from mmiformer.reproduce import (
    RunError,
    report,
    reproduce,
    road,
)


def test_a_failing_command_names_its_log(tmp_path):
    log, lines = tmp_path / 'new' / 'test.log', []
    with pytest.raises(RunError, match=rf'log: {log}') as error:
        road.run([sys.executable, '-c', 'print("why"); 1 / 0'], log,
                 lines.append)
    assert 'print("why")' in str(error.value)
    assert 'why' in log.read_text() and 'ZeroDivisionError' in log.read_text()
    assert 'why\n' in lines


@pytest.mark.parametrize('signal', [KeyboardInterrupt, SystemExit])
def test_who_is_stopped_stops_the_command(signal, tmp_path):
    pids, start = [], time.time()

    def interrupt(text):
        if text.strip().isdigit():
            pids.append(int(text))
            raise signal

    with pytest.raises(signal):
        road.run([sys.executable, '-c', 'import os, time\n'
                  'print(os.getpid(), flush=True)\ntime.sleep(20)'],
                 tmp_path / 'log', interrupt)
    assert time.time() - start < 15
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def play(plan, monkeypatch, metrics):
    """Lets a plan run, where the test writes these metrics."""
    def write(command, log, echo):
        name = f'time_{len(list(plan.test_dir.glob("*")))}'
        (plan.test_dir / name).mkdir(parents=True)
        if metrics is not None:
            (plan.test_dir / name / f'{name}.json').write_text(
                json.dumps(metrics))
    monkeypatch.setattr(road, 'run', write)
    return reproduce(plan, 'the command', print, ['beware'])


def test_an_old_metric_is_not_taken_for_a_new(tmp_path, monkeypatch):
    plan = make_plan('shapes/fpn', tmp_path, checkpoint='x.pth')
    old = plan.test_dir / 'old' / 'old.json'
    old.parent.mkdir(parents=True)
    old.write_text('{"mIoU": 99}')
    with pytest.raises(RunError, match='left 0 metric files'):
        play(plan, monkeypatch, None)
    assert play(plan, monkeypatch, {'mIoU': 1.}).metrics == {'mIoU': 1.}


def test_a_broken_run_leaves_no_old_verdict(tmp_path, monkeypatch):
    plan = make_plan('shapes/fpn', tmp_path, checkpoint='x.pth')
    assert play(plan, monkeypatch, {'mIoU': 90.}).passed
    assert (tmp_path / 'report.md').is_file()
    with pytest.raises(RunError):
        play(plan, monkeypatch, None)
    assert not list(tmp_path.glob('report.*'))


def test_a_report(tmp_path, monkeypatch):
    (tmp_path / 'x.pth').write_bytes(b'abc')
    plan = make_plan('shapes/fpn', tmp_path, seed=5,
                     checkpoint=str(tmp_path / 'x.pth'))
    play(plan, monkeypatch, {'mIoU': float('nan'), 'aAcc': 3.})
    text = (tmp_path / 'report.md').read_text()
    assert text.startswith('# FAIL: shapes/fpn\n')
    assert '| mIoU | 90.9 | 5.0 | none | FAIL |' in text
    assert 'There is no curve: a checkpoint was given' in text
    assert '- Warning: beware' in text and 'the command' in text

    def refuse(word):
        raise AssertionError(f'{word} is not JSON')

    content = json.loads((tmp_path / 'report.json').read_text(),
                         parse_constant=refuse)
    assert content['verdict'] == 'FAIL' and content['seed'] == 5
    assert content['logged'] == {'mIoU': None, 'aAcc': 3.}
    # sha256 of 'abc', FIPS 180-2
    assert content['files']['tested']['sha256'] == (
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
    assert content['versions']['torch'] == torch.__version__
    assert "arch='small'" in content['config']
    play(plan, monkeypatch, {'mIoU': 86.3})
    text = (tmp_path / 'report.md').read_text()
    assert text.startswith('# PASS') and '| 86.30 | PASS |' in text


def test_the_weights_that_a_training_begins_with(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    cached = tmp_path / 'checkpoints' / 'iformer_base.pth'
    cached.parent.mkdir()
    cached.write_bytes(b'abc')
    files = report._files(make_plan('coco/iformer_b'))
    assert files['model.backbone.init_cfg.checkpoint']['sha256'].startswith(
        'ba7816bf')
    assert files['tested']['sha256'] is None


def test_git_revision(tmp_path):
    def git(*arguments):
        return subprocess.check_output(
            ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c',
             'user.email=a@b', *arguments], text=True).strip()

    package = tmp_path / 'package'
    package.mkdir()
    assert report.git_revision(package) == 'not a git checkout'
    git('init', '-q')
    git('commit', '-q', '--allow-empty', '-m', 'a')
    (package / '__init__.py').write_text('a = 1')
    # Installed into an environment that lies in another's checkout:
    assert report.git_revision(package) == 'not a git checkout'
    git('add', '.')
    git('commit', '-qm', 'b')
    assert report.git_revision(package) == git('rev-parse', 'HEAD')
    (package / '__init__.py').write_text('a = 2')
    assert report.git_revision(package) == git('rev-parse', 'HEAD') + '-dirty'
