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
from small_configs import write_classifier

from mmiformer.config import load_config, walk
from mmiformer.paper import paper, reproduce
from mmiformer.paper.curves import METRIC, read_curve, read_run
from mmiformer.paper.logs import read_scalars
from mmiformer.paper.report import git_revision, judge
from mmiformer.paper.reproduce import Run, launcher
from mmiformer.paper.rows import ROWS, Row

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
        cfg = Config.fromfile(configs / row.config)
        if row.source == 'ours, measured':
            assert all(f' {x}' in readme for x in row.expected.values())
            continue
        assert make_run(name).gpus == 8 and not make_run(name).warnings()
        if name.startswith('imagenet'):
            epochs = read_curve(row.curve)
            assert cfg.train_cfg.max_epochs == len(epochs)
            best = max(epoch.top1 for epoch in epochs.values())
            assert row.expected == {METRIC: round(best, 2)}
            assert row.released == f'iformer_{cfg.model.backbone.arch}' + (
                '_384' if '384' in row.config else '')
            assert cfg.randomness.seed == row.seed
            assert cfg.default_hooks.checkpoint.save_best == METRIC
        else:
            assert row.expected == paper.find_row(cfg)[2].metrics
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


@pytest.mark.parametrize('checkpoint, tolerance', [
    (None, 0.3), ('mmiformer://iformer_small', 0.05),
    ('weights/iformer_small.pth', 0.05), ('mmiformer://iformer_base', 0.3),
    ('best_accuracy_top1_epoch_301.pth', 0.3)])
def test_released_weights_have_less_room(checkpoint, tolerance, make_run):
    row = make_run('imagenet/iformer_s', checkpoint=checkpoint).row
    assert row.tolerance == tolerance and row.expected == {METRIC: 83.38}
    for value, verdict in ((83.38 - tolerance, 'PASS'),
                           (83.37 - tolerance, 'FAIL')):
        metric, = judge(row, {METRIC: value})
        assert metric['verdict'] == verdict


def log_epochs(work_dir, *top1, losses=()):
    """As a training logs its validations and the losses of its epochs."""
    folder = work_dir / 'train' / '20260101_000000' / 'vis_data'
    folder.mkdir(parents=True)
    (folder / 'scalars.json').write_text('\n'.join(
        [json.dumps({METRIC: value, 'step': epoch})
         for epoch, value in enumerate(top1, 1)] +
        [json.dumps(dict(loss=loss, epoch=epoch, iter=9 * epoch,
                         step=9 * epoch))
         for epoch, loss in enumerate(losses, 1)]))


def test_the_best_epoch_is_tested(make_run, tmp_path):
    run = make_run('imagenet/iformer_s')
    train, test = run.commands
    assert 'randomness.seed=42' in train and 'randomness.seed=42' in test
    folder = tmp_path / 'train'
    best = str(folder / 'best_accuracy_top1_epoch_{}.pth')
    assert test[7] == best.format('*')
    log_epochs(tmp_path, 30., 50., 40.)
    for epoch in (1, 2, 3):
        # Those that a kill has left, the best in the middle.
        (folder / f'best_accuracy_top1_epoch_{epoch}.pth').touch()
    assert run.tested == best.format(2)
    assert len(run.commands) == 2  # neither finished nor judged by the last
    (folder / 'epoch_310.pth').touch()
    test, = run.commands
    assert test[7] == best.format(2)
    (folder / 'best_accuracy_top1_epoch_2.pth').unlink()
    assert run.tested == best.format(3)


def dry_run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, 'argv', ['', '--dry-run', *arguments])
    assert runpy.run_path(str(TOOL))['main']() == 0
    return capsys.readouterr().out


def test_the_plan_has_the_curve(tmp_path, monkeypatch, capsys):
    """And the training so far, if there is one."""
    arguments = ['imagenet/iformer_s', '--work-dir', str(tmp_path)]
    plan = dry_run(monkeypatch, capsys, *arguments)
    assert 'accuracy/top1 83.38 points, less at most 0.3' in plan
    assert '35.92 after 5, 58.91 after 10' in plan and 'of 310' not in plan
    log_epochs(tmp_path, .4, 7., 17., 28., 36.1, losses=[7.] * 4 + [5.4])
    line = ("epoch 5 of 310: top-1 36.10, 0.18 above the authors' 35.92; loss "
            '5.40 beside 5.51: on the curve')
    assert line in dry_run(monkeypatch, capsys, *arguments)
    plan = dry_run(monkeypatch, capsys, *arguments, '--checkpoint',
                   'mmiformer://iformer_small')
    assert 'less at most 0.05' in plan
    assert 'after 5' not in plan and 'epoch 5' not in plan


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
        'from mmiformer.paper.reproduce import call\n'
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
        if 'train.py' in command[1]:
            run.last.touch()
            (run.train_dir / 'best_accuracy_top1_epoch_2.pth').touch()
            return
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


def test_a_report_beside_the_curve(make_run, tmp_path, monkeypatch):
    run = make_run('imagenet/iformer_s', gpus=1)
    monkeypatch.setitem(run.cfg.train_cfg, 'max_epochs', 3)
    run.keep_settings()
    log_epochs(tmp_path, .5, 1., 17., losses=[6.9, 6.8])
    report = play(run, monkeypatch, {METRIC: 17.})
    assert report['verdict'] == 'FAIL' and report['curve'] == 'imagenet_224/S'
    assert [(epoch['epoch'], epoch['top1'], epoch['authors_top1'],
             epoch['loss'], epoch['authors_loss'])
            for epoch in report['epochs']] == [
        (1, .5, .386, 6.9, 6.9094), (2, 1., 6.86, 6.8, 6.5696),
        (3, 17., 16.656, None, 6.1685)]
    assert report['progress'] == [
        "epoch 3 of 3: top-1 17.00, 0.34 above the authors' 16.66: on the "
        'curve']
    text = (tmp_path / 'report.md').read_text()
    assert f'- {report["progress"][0]}' in text
    # What is tested is known when the training has ended.
    assert 'best_accuracy_top1_epoch_2.pth' in report['commands'][1]
    assert any('best_accuracy_top1_epoch_2' in name
               for name in report['weights'])
    content = json.loads((tmp_path / 'report.json').read_text())
    assert content['epochs'] == report['epochs']
    assert cv2.imread(str(tmp_path / 'curve.png')).std() > 10


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    """A folder with a config that learns in seconds, and a curve for it."""
    folder = tmp_path_factory.mktemp('curves')
    write_classifier(folder / 'small.py', 96, 48, '''
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=16)
''')
    (folder / 'made_up.csv').write_text(
        'epoch,S_top1,S_train_loss\n0,55,1.0\n1,65,0.8\n')
    return folder


@pytest.mark.slow
@pytest.mark.parametrize('options, on_curve', [
    ((), True), (('optim_wrapper.optimizer.lr=0', ), False)])
def test_from_training_to_curve(options, on_curve, shapes, monkeypatch,
                                capsys):
    """A training that learns, and one that does not."""
    monkeypatch.chdir(shapes)
    row = Row(str(shapes / 'small.py'), {METRIC: 65.}, 12., 'made up',
              curve=f'{shapes}/made_up/S')
    monkeypatch.setitem(ROWS, 'made up', row)
    run = Run('made up', row, ROOT, shapes / str(on_curve), gpus=0,
              cfg_options=options)
    report = reproduce.reproduce(run, 'the command')
    assert report['verdict'] == ('PASS' if on_curve else 'FAIL')

    logged = read_run(read_scalars(run.train_dir))
    best = max(epoch.top1 for epoch in logged.values())
    assert report['metrics'][0]['got'] == pytest.approx(best)
    assert [(epoch['top1'], epoch['loss'], epoch['authors_top1'])
            for epoch in report['epochs']] == [
        (*logged[1], 55.), (*logged[2], 65.)]
    assert (best > 53) == on_curve
    above = logged[2].top1 - 65
    line = (f'epoch 2 of 2: top-1 {logged[2].top1:.2f}, {abs(above):.2f} '
            f'{"above" if above >= 0 else "below"} the authors\' 65.00; loss '
            f'{logged[2].loss:.2f} beside 0.80: '
            f'{"on" if on_curve else "off"} the curve')
    plan = dry_run(monkeypatch, capsys, 'made up', '--work-dir',
                   str(run.work_dir), '--gpus', '0', '--cfg-options',
                   'randomness.seed=0', *options)
    assert line in plan and line in (run.work_dir / 'report.md').read_text()
    assert 'train.py' not in plan  # it is finished


def test_git_revision(tmp_path):
    def git(*arguments):
        return subprocess.check_output(
            ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c',
             'user.email=a@b', *arguments], text=True).strip()

    git('init', '-q')
    (tmp_path / '__init__.py').touch()
    # Installed into an environment that lies in another's checkout:
    assert git_revision(tmp_path) == 'not a git checkout'
    git('add', '.')
    git('commit', '-qm', 'a')
    assert git_revision(tmp_path) == git('rev-parse', 'HEAD')
    (tmp_path / '__init__.py').write_text('a = 2')
    assert git_revision(tmp_path).endswith('-dirty')


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
