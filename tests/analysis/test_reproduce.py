"""From a row of the paper to a verdict: rows, commands, verdict, report."""
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from dataclasses import replace

import cv2
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config

from mmiformer.analysis import paper, reproduce
from mmiformer.analysis.reproduce import ROWS, Run, judge, launcher
from mmiformer.config import load_config, walk

COCO = ROWS['coco/iformer_s']
TOOL = ROOT / 'tools' / 'reproduce.py'


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """The run of a row, by default on eight GPUs."""
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 8)

    def make(name, **kwargs):
        return Run(name, ROWS[name], ROOT, tmp_path, **kwargs)

    return make


@pytest.mark.parametrize('logged, got, verdict', [
    (.462, 46.2, 'PASS'),
    (.459, 45.9, 'PASS'),  # the tolerance; 46.2 - 0.3 > 45.9 in binary
    (.4589, 45.89, 'FAIL'),
    (.9, 90, 'PASS'),  # better is not worse
    (float('nan'), None, 'FAIL'),
    (float('inf'), None, 'FAIL'),
    ('0.5', None, 'FAIL'),
    (None, None, 'FAIL'),
])
def test_a_verdict(logged, got, verdict):
    metrics = {'coco/bbox_mAP': logged, 'coco/segm_mAP': .419}
    box, mask = judge(COCO, metrics)
    assert box['got'] == (None if got is None else pytest.approx(got))
    assert box['verdict'] == verdict and mask['verdict'] == 'PASS'
    miou, = judge(ROWS['ade20k/iformer_s'], {'mIoU': 48.1})  # mmseg: percent
    assert miou['got'] == 48.1 and miou['verdict'] == 'PASS'


def test_rows_expect_what_is_printed(configs, make_run):
    readme = (ROOT / 'README.md').read_text()
    for name, row in ROWS.items():
        published = paper.find_row(Config.fromfile(configs / row.config))
        if name.startswith('shapes'):
            assert all(f' {x}' in readme for x in row.expected.values())
        else:
            assert row.expected == published[2].metrics
            assert make_run(name).gpus == 8 and not make_run(name).warnings()
    short, whole = ROWS['shapes/two_iterations'], ROWS['shapes/fpn']
    assert replace(short, options=whole.options, note=whole.note) == whole


def test_launchers(monkeypatch):
    monkeypatch.setattr(reproduce.shutil, 'which', lambda name: name)
    python, slurm = sys.executable, {'SLURM_JOB_ID': '7'}
    torchrun = [python, '-m', 'torch.distributed.run', '--standalone',
                '--nproc_per_node=4'], 'pytorch'
    assert launcher(0, {}) == launcher(1, {}) == ([python], 'none')
    assert launcher(4, {}) == torchrun
    assert launcher(8, dict(
        slurm, SLURM_JOB_NUM_NODES='2', SLURM_CPUS_PER_TASK='5')) == (
            ['srun', '--ntasks=8', '--ntasks-per-node=4',
             '--kill-on-bad-exit=1', '--cpus-per-task=5', python], 'slurm')
    # Inside a step another srun would wait for resources that it holds.
    assert launcher(4, dict(slurm, SLURM_STEP_NUM_TASKS='1')) == torchrun
    monkeypatch.setattr(reproduce.shutil, 'which', lambda name: None)
    assert launcher(4, slurm) == torchrun  # in a container


def test_commands(make_run, tmp_path):
    run = make_run('ade20k/iformer_s', gpus=2)
    train, test = run.commands
    assert train[5:] == [
        str(ROOT / 'tools/train.py'), str(run.config), '--work-dir',
        str(tmp_path / 'train'), '--resume', '--auto-scale-lr', '--launcher',
        'pytorch', '--cfg-options', 'randomness.seed=0']
    final = str(tmp_path / 'train' / 'iter_80000.pth')
    assert test[5:10] == [str(ROOT / 'tools/test.py'), str(run.config), final,
                          '--work-dir', str(tmp_path / 'test')]
    warning, = run.warnings()
    assert '8 images' in warning and '0.25' in warning and '25%' in warning
    assert '--auto-scale-lr' not in make_run('ade20k/iformer_s').commands[0]
    given = make_run('ade20k/iformer_s', gpus=2, checkpoint='mine.pth')
    assert [command[7] for command in given.commands] == ['mine.pth']
    assert not given.warnings()
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'iter_80000.pth').touch()
    assert run.commands == [test]  # finished


def test_other_settings_in_the_work_dir(make_run, tmp_path):
    revision = make_run('shapes/fpn').keep_settings()
    assert make_run('shapes/fpn').keep_settings() == revision
    for kwargs, value in ((dict(gpus=0), '0 GPUs'), (dict(
            cfg_options=('randomness.seed=7', )), 'seed=7')):
        with pytest.raises(ValueError, match=value):
            make_run('shapes/fpn', **kwargs).keep_settings()
    (tmp_path / 'train' / 'settings.py').unlink()
    (tmp_path / 'train' / 'iter_9.pth').touch()  # someone else's run
    with pytest.raises(ValueError, match='other settings'):
        make_run('shapes/fpn').keep_settings()


def test_an_interrupt_ends_the_command(tmp_path):
    """With SIGTERM, so that a training can save, and waits for it."""
    script = (
        'import pathlib, signal, subprocess, sys, time\n'
        'from mmiformer.analysis.reproduce import call\n'
        'signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))\n'
        'child = """import pathlib, signal, sys, time\n'
        'def save(*_):\n'
        '    time.sleep(.5); pathlib.Path("saved").touch(); sys.exit(0)\n'
        'signal.signal(signal.SIGTERM, save)\n'
        'pathlib.Path("ready").touch(); time.sleep(60)"""\n'
        'call([sys.executable, "-c", child])\n')
    with subprocess.Popen([sys.executable, '-c', script], cwd=tmp_path,
                          env=dict(os.environ, PYTHONPATH=str(ROOT))) as tool:
        while not (tmp_path / 'ready').exists():
            assert tool.poll() is None
            time.sleep(.05)
        tool.send_signal(signal.SIGTERM)
    assert tool.returncode == 2 and (tmp_path / 'saved').exists()


def play(run, monkeypatch, metrics):
    """Reproduces a row where the test logs these metrics, or nothing."""
    def call(command):
        name = f'time_{len(list(run.work_dir.glob("test/*")))}'
        folder = run.work_dir / 'test' / name
        folder.mkdir(parents=True)
        if metrics is not None:
            (folder / f'{name}.json').write_text(json.dumps(metrics))

    monkeypatch.setattr(reproduce, 'call', call)
    return reproduce.reproduce(run, 'the command')


def test_a_report(make_run, tmp_path, monkeypatch):
    (tmp_path / 'x.pth').write_bytes(b'abc')
    run = make_run('shapes/fpn', gpus=0, checkpoint=str(tmp_path / 'x.pth'))
    play(run, monkeypatch, {'mIoU': float('nan'), 'aAcc': 3.})
    text = (tmp_path / 'report.md').read_text()
    assert text.startswith('# FAIL: shapes/fpn\n') and 'the command' in text
    assert '| mIoU | 90.9 | 5.0 | none | FAIL |' in text

    def refuse(word):
        raise AssertionError(f'{word} is not JSON')

    content = json.loads((tmp_path / 'report.json').read_text(),
                         parse_constant=refuse)
    assert content['verdict'] == 'FAIL'
    assert content['logged'] == {'mIoU': None, 'aAcc': 3.}
    assert content['weights'] == {f'tested: {tmp_path}/x.pth':  # FIPS 180-2
            'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'}
    assert content['environment']['mmseg'] and "arch='small'" in (
        content['config'])
    play(run, monkeypatch, {'mIoU': 86.3})
    text = (tmp_path / 'report.md').read_text()
    assert text.startswith('# PASS') and '| 86.30 | PASS |' in text
    with pytest.raises(FileNotFoundError):  # nor is the last one taken again
        play(run, monkeypatch, None)
    assert not list(tmp_path.glob('report.*'))


def test_git_revision(tmp_path):
    def git(*arguments):
        return subprocess.check_output(
            ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c',
             'user.email=a@b', *arguments], text=True).strip()

    git('init', '-q')
    (tmp_path / '__init__.py').touch()
    # Installed into an environment that lies in another's checkout:
    assert reproduce.git_revision(tmp_path) == 'not a git checkout'
    git('add', '.')
    git('commit', '-qm', 'a')
    assert reproduce.git_revision(tmp_path) == git('rev-parse', 'HEAD')
    (tmp_path / '__init__.py').write_text('a = 2')
    assert reproduce.git_revision(tmp_path).endswith('-dirty')


@pytest.mark.slow
def test_the_tool(tmp_path, monkeypatch, capsys):
    """From nothing to a verdict on a few shapes."""
    cfg = load_config(str(ROOT / 'configs' / ROWS['shapes/fpn'].config))
    name = 'shapes/two_iterations'
    arguments = [name, '--gpus', '0', '--cfg-options',
                 'model.data_preprocessor.size=(64,64)', *(
                     f'{key}.{option}' for key, _ in walk(cfg)
                     if key.split('.')[-1] == 'shapes'
                     for option in ('train=8', 'val=4', 'size=64'))]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['', '--dry-run', *arguments])
    assert runpy.run_path(str(TOOL))['main']() == 0
    output = capsys.readouterr().out
    assert 'mIoU 90.9' in output and 'iter_2.pth' in output
    assert not list(tmp_path.iterdir())

    result = subprocess.run([sys.executable, str(TOOL), *arguments], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 1, result.stdout[-3000:]
    assert f'# FAIL: {name}' in result.stdout
    work = tmp_path / 'work_dirs/reproduce' / name
    content = json.loads((work / 'report.json').read_text())
    metric, = content['metrics']
    assert metric['expected'] == 90.9 and 0 <= metric['got'] < 85.9
    # What the test logged, not what validation did.
    logged, = work.glob('test/2*/2*.json')
    assert metric['got'] == json.loads(logged.read_text())['mIoU']
    assert 'max_iters=2' in content['config']
    assert cv2.imread(str(work / 'curve.png')).std() > 10
    monkeypatch.setattr(sys, 'argv', ['', *arguments, 'randomness.seed=3'])
    assert runpy.run_path(str(TOOL))['main']() == 2  # other settings
    assert 'seed=3' in capsys.readouterr().err
