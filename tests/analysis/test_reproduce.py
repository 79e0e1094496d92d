"""From a result of the paper to a verdict: targets, commands, verdict."""
import json
import os
import runpy
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from mmengine.config import Config
from small_configs import write_classifier

from mmiformer import front
from mmiformer.paper import tables
from mmiformer.paper.curves import METRIC, read_curve
from mmiformer.paper.logs import read_scalars
from mmiformer.paper.targets import TARGETS, Target
from mmiformer.paper.verdict import judge

TOOL = ROOT / 'tools' / 'reproduce.py'


@pytest.fixture
def tool(monkeypatch, capfd, tmp_path):
    """Runs the tool; returns its exit status, its commands and its other
    lines."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, **replaced):
        monkeypatch.setattr(sys, 'argv', ['', *map(str, arguments)])
        names = runpy.run_path(str(TOOL))
        names['reproduce'].__globals__.update(replaced)
        try:
            status = front.run(names['reproduce'], names['parse_args'](),
                               status=names['STATUS'])
        except SystemExit as ended:
            status = ended.code
        lines = capfd.readouterr().out.splitlines()
        return (status, [line[2:].split() for line in lines if line[:1] == '$'],
                [line for line in lines if line[:1] != '$'])

    return run


@pytest.mark.parametrize('logged, got, passed', [
    (.462, '46.20', True),
    (.459, '45.90', True),  # the tolerance; 46.2 - 0.3 > 45.9 in binary
    (.4589, '45.89', False),
    (.9, '90.00', True),  # better is not worse
    (float('nan'), 'nan', False),
    (float('inf'), 'inf', False),
    ('0.5', 'nan', False),
    (None, 'nan', False),
])
def test_a_verdict(logged, got, passed):
    metrics = {'coco/bbox_mAP': logged, 'coco/segm_mAP': .419}
    verdicts = judge(TARGETS['coco/iformer_s'], metrics)
    assert [*verdicts.values()] == [passed, True]
    words = [line.split() for line in verdicts]
    assert [line[2] for line in words] == [f'{got},', '41.90,']
    assert [line[0] == 'PASS:' for line in words] == [passed, True]
    assert [*judge(TARGETS['ade20k/iformer_s'], {'mIoU': 48.1}).values()] == [
        True]  # mmseg logs percent


def test_targets_expect_what_is_printed(configs):
    readme = (ROOT / 'README.md').read_text()
    for name, target in TARGETS.items():
        cfg = Config.fromfile(configs / target.config)
        if target.source == 'ours, measured':
            assert all(f' {x}' in readme for x in target.expected.values())
        elif name.startswith('imagenet'):
            epochs = read_curve(target.curve)
            assert cfg.train_cfg.max_epochs == len(epochs)
            assert target.expected == {METRIC: round(max(epochs.values()), 2)}
            assert target.released == f'iformer_{cfg.model.backbone.arch}' + (
                '_384' if '384' in target.config else '')
            assert cfg.randomness.seed == target.seed
            assert cfg.default_hooks.checkpoint.save_best == METRIC
        else:
            assert target.expected == tables.find_row(cfg)[2].metrics


@pytest.mark.parametrize('checkpoint, tolerance', [
    ('mmiformer://iformer_small', '0.05'),
    ('weights/iformer_small.pth', '0.05'), ('mmiformer://iformer_base', '0.3'),
    ('best_accuracy_top1_epoch_301.pth', '0.3')])
def test_released_weights_have_less_room(checkpoint, tolerance, tool):
    _, _, lines = tool('imagenet/iformer_s', '--dry-run', '--checkpoint',
                       checkpoint)
    assert '83.38' in lines[1] and lines[1].split()[-1] == tolerance


def test_commands(tool, tmp_path):
    config = str(ROOT / 'configs/fpn_ade20k/iformer_s_80k.py')
    work = 'work_dirs/reproduce/ade20k/iformer_s'
    options = ['--cfg-options', 'randomness.seed=0']
    train = [sys.executable, str(ROOT / 'tools/train.py'), config,
             '--work-dir', f'{work}/train', '--resume']
    test = [sys.executable, str(ROOT / 'tools/test.py'), config,
            f'{work}/train/iter_80000.pth', '--work-dir', f'{work}/test',
            *options]
    plan = 'ade20k/iformer_s', '--dry-run'
    status, commands, (expected, warning) = tool(*plan)
    assert (status, commands) == (0, [[*train, '--auto-scale-lr', *options],
                                      test])
    assert 'mIoU 48.6' in expected and '0.5' in expected
    assert '4 images' in warning and '0.125' in warning and '12%' in warning
    whole = 'train_dataloader.batch_size=32'
    status, commands, lines = tool(*plan, '--cfg-options', whole)
    assert commands == [[*train, *options, whole], [*test, whole]]
    assert lines == [expected]
    given = [*test[:3], 'mine.pth', *test[4:]]
    assert tool(*plan, '--checkpoint', 'mine.pth') == (0, [given], [expected])
    (tmp_path / work / 'train').mkdir(parents=True)
    (tmp_path / work / 'train' / 'iter_80000.pth').touch()
    assert tool(*plan) == (0, [test], [expected])  # the training is finished


def test_a_verdict_is_the_exit_status(tool, tmp_path, capfd):
    """What the test logs decides, not what was logged before."""
    tests = tmp_path / 'shapes' / 'fpn' / 'test'
    tests.mkdir(parents=True)
    arguments = 'shapes/fpn', '--checkpoint', 'a.pth', '--work-dir', tmp_path

    def run(*metrics):
        def call(command):
            for value in metrics:
                name = f'time_{len(list(tests.iterdir()))}'
                (tests / name).mkdir()
                (tests / name / f'{name}.json').write_text(
                    json.dumps(dict(mIoU=value)))
        status, _, lines = tool(*arguments, call=call)
        return status, lines[-1]

    for value, status, word in ((85.8, 1, 'FAIL'), (86., 0, 'PASS'),
                                (float('nan'), 1, 'FAIL')):
        found, line = run(value)
        assert found == status and line.startswith(f'{word}: mIoU ')
        assert f'{value:.2f}' in line and '90.9' in line
    assert run()[0] == 2  # it wrote nothing
    failing = [sys.executable, '-c', 'raise SystemExit(3)']
    call = runpy.run_path(str(TOOL))['call']
    assert tool(*arguments, call=lambda command: call(failing))[0] == 2


def test_the_best_epoch_beside_the_curve(tool, tmp_path):
    folder = tmp_path / 'imagenet' / 'iformer_s'
    train = folder / 'train'
    arguments = 'imagenet/iformer_s', '--work-dir', tmp_path
    best = str(train / 'best_accuracy_top1_epoch_{}.pth')
    _, commands, lines = tool(*arguments, '--dry-run')
    assert commands[1][3].strip("'") == best.format('*')
    assert 'of 310' not in lines[-1]
    (train / 'a' / 'vis_data').mkdir(parents=True)
    log = train / 'a' / 'vis_data' / 'scalars.json'
    log.write_text('\n'.join(map(json.dumps, [
        *({METRIC: top1, 'step': epoch} for epoch, top1 in enumerate(
            (.4, 7., 17., 28., 36.1, 20.), 1))])))
    progress = tool(*arguments, '--dry-run')[2][-1]
    for word in ('6 of 310', '20.00', '43.10', 'off'):
        assert word in progress

    called = []

    def call(command):
        called.append(command)
        if 'train.py' in command[1]:
            # A kill has left the first of them.
            for number, epoch in enumerate((4, 5)):
                path = best.format(epoch)
                open(path, 'w').close()
                os.utime(path, (number, number))
            return
        (folder / 'test' / 'a').mkdir(parents=True)
        (folder / 'test' / 'a' / 'a.json').write_text(
            json.dumps({METRIC: 36.1}))

    status, _, lines = tool(*arguments, call=call)
    assert status == 1 and lines[-2] == progress
    assert 'accuracy/top1 36.10' in lines[-1]
    assert called[1][3] == best.format(5)  # it is known after the training


def test_an_interrupt_ends_the_command(tmp_path):
    """With SIGTERM, so that a training can save, and waits for it."""
    script = (
        'import runpy, signal, sys\n'
        f'call = runpy.run_path({str(TOOL)!r})["call"]\n'
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


@pytest.mark.slow
@pytest.mark.parametrize('options, status', [
    ((), 0), (('--cfg-options', 'optim_wrapper.optimizer.lr=0'), 1)])
def test_from_training_to_curve(options, status, tool, tmp_path, monkeypatch):
    """A training that learns passes, and one that does not fails."""
    config = write_classifier(tmp_path / 'small.py', 96, 48, '''
optim_wrapper = dict(optimizer=dict(lr=4e-3))
auto_scale_lr = dict(base_batch_size=16)
''')
    (tmp_path / 'made_up.csv').write_text('epoch,S_top1\n0,55\n1,65\n')
    monkeypatch.setitem(TARGETS, 'made up', Target(
        str(config), {METRIC: 65.}, 12., 'made up',
        curve=f'{tmp_path}/made_up/S'))
    arguments = 'made up', '--work-dir', tmp_path / 'work', *options
    found, _, lines = tool(*arguments)
    epochs = {record['step']: record[METRIC] for record in read_scalars(
        tmp_path / 'work/made up/train') if METRIC in record}
    best = max(epochs.values())
    assert found == status == int(best < 53)
    assert f'{METRIC} {best:.2f}, expected 65.0' in lines[-1]
    assert lines[-2].startswith(f'epoch 2 of 2: top-1 {epochs[2]:.2f}, ')
    _, commands, plan = tool(*arguments, '--dry-run')
    assert len(commands) == 1 and plan[-1] == lines[-2]  # it is finished
