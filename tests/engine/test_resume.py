"""Runs that are interrupted: their checkpoints and how they resume."""
import errno
import os
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS
from mmengine.runner import Runner
from toy_runs import config, cut, read_logs, run

from mmiformer import ResumableRunner
from mmiformer.kit.resume import (
    CheckpointError,
    build_runner,
    choose,
    prepare_resume,
)
from mmiformer.kit.resume.choose import find_newest


def test_the_runner_is_ours_unless_the_config_names_one(tmp_path):
    cfg = config(tmp_path)
    assert type(build_runner(cfg)) is ResumableRunner
    assert cfg.runner_type == 'mmiformer.ResumableRunner'  # for all to see
    cfg.update(runner_type='Runner', experiment_name='other')
    assert type(build_runner(cfg)) is Runner
    cfg.update(runner_type='mmiformer.ResumableRunner', experiment_name='own')
    assert type(build_runner(cfg)) is ResumableRunner


@pytest.fixture
def bell():
    """A loop without end fails the test instead of holding it up."""
    def ring(number, frame):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def full_after(count, monkeypatch):
    """A disk that is full from a certain checkpoint on."""
    def fill(runner):
        save, left = Runner.save_checkpoint, [count]

        def write(self, out_dir, filename, *args, **kwargs):
            left[0] -= 1
            # Until it is whole it does not have the name of a checkpoint.
            assert not fnmatch(filename, 'epoch_*')
            save(self, out_dir, filename, *args, **kwargs)
            if left[0] < 0:
                os.truncate(Path(out_dir, filename), 100)
                raise OSError(errno.ENOSPC, 'No space left on device')

        monkeypatch.setattr(Runner, 'save_checkpoint', write)
    return fill


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match='No space left'):
        run(tmp_path, hook=full_after(1, monkeypatch))
    assert {p.name for p in tmp_path.iterdir() if 'epoch' in p.name} == {
        'epoch_1.pth'}
    monkeypatch.undo()
    assert find_newest(config(tmp_path))[0] == str(tmp_path / 'epoch_1.pth')
    resumed = run(tmp_path, resumed=True)
    whole = run(tmp_path / 'whole')
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_the_newest_undamaged_checkpoint_is_used(tmp_path):
    cfg = config(tmp_path)
    assert find_newest(cfg) == (None, None)
    run(tmp_path, 3)
    path = tmp_path / 'epoch_3.pth'
    path.write_bytes(path.read_bytes()[:-200])
    # Not used: it may name any file.
    (tmp_path / 'last_checkpoint').write_text('/etc/passwd')
    found, content = find_newest(cfg)
    assert found == str(tmp_path / 'epoch_2.pth')
    assert content['meta']['epoch'] == 2
    for number in (1, 2):
        (tmp_path / f'epoch_{number}.pth').write_bytes(b'')
    with pytest.raises(ValueError, match=f'3 .*{tmp_path}'):
        prepare_resume(cfg)


def test_the_newest_checkpoint_is_the_furthest_not_the_youngest(tmp_path):
    """Copies have other times; iteration 9 comes before epoch 10."""
    def save(name, age, **meta):
        torch.save(dict(meta=meta), tmp_path / name)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))

    save('epoch_10.pth', 9, epoch=10, iter=40)
    save('epoch_9.pth', 1, epoch=9, iter=36)
    save('iter_38.pth', 2, epoch=9, iter=38)
    save('epoch_10-0a1b2c3d.pth', 0)  # published, no run
    assert find_newest(config(tmp_path))[0] == str(tmp_path / 'epoch_10.pth')
    save('iter_42.pth', 10, epoch=10, iter=42)
    assert find_newest(config(tmp_path))[0] == str(tmp_path / 'iter_42.pth')


def test_checkpoints_elsewhere_are_found(tmp_path):
    cfg = config('work/name')
    cfg.default_hooks.checkpoint.out_dir = str(tmp_path)
    path = tmp_path / 'name' / 'epoch_1.pth'
    path.parent.mkdir()
    torch.save({}, path)
    assert find_newest(cfg)[0] == str(path)


@pytest.mark.parametrize('error', [PermissionError, MemoryError])
def test_what_cannot_be_read_is_not_called_damaged(error, tmp_path,
                                                   monkeypatch):
    """The run must not silently continue from an older checkpoint."""
    run(tmp_path)

    def fail(path):
        raise error(path)

    monkeypatch.setattr(choose, 'read_checkpoint', fail)
    with pytest.raises(error, match='epoch_2.pth'):
        prepare_resume(config(tmp_path))
    assert len([*tmp_path.glob('epoch_*.pth')]) == 2


def test_what_a_resumed_run_takes_from_its_checkpoint(tmp_path):
    run(tmp_path, 1)
    cfg = Config(dict(
        work_dir=str(tmp_path), randomness=dict(deterministic=True),
        model=dict(backbone=dict(init_cfg=dict(
            type='Pretrained', checkpoint='mmiformer://iformer_small')))))
    prepare_resume(cfg)
    assert cfg.resume and cfg.load_from == str(tmp_path / 'epoch_1.pth')
    assert cfg.randomness == dict(deterministic=True, seed=0)
    assert cfg.model.backbone.init_cfg is None
    meta = dict(epoch=1, iter=4)  # best_*.pth have it
    cfg.param_scheduler = STEPS
    for content in ({}, dict(meta=dict(epoch=1)), dict(meta=meta),
                    dict(meta=meta, optimizer={})):
        torch.save(dict(state_dict={}, **content), tmp_path / 'weights.pth')
        with pytest.raises(ValueError, match='weights.pth.*load_from.*epoch_'):
            prepare_resume(cfg, str(tmp_path / 'weights.pth'))
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        prepare_resume(cfg, 'gone.pth')


def test_the_beginning_may_be_other_weights(tmp_path):
    cfg = Config(dict(work_dir=str(tmp_path), load_from='start.pth'))
    prepare_resume(cfg)
    assert cfg.load_from == 'start.pth' and not cfg.resume


@pytest.mark.parametrize('schedule', [
    dict(type='OneCycleLR', eta_max=0.4, total_steps=8, by_epoch=False),
    dict(type='CosineRestartLR', periods=[3, 5], restart_weights=[1, 0.5],
         eta_min=0.01, by_epoch=False)])
def test_schedules_that_hold_more_than_numbers(schedule, tmp_path):
    path = cut(tmp_path / 'cut', 1, schedule=[schedule])
    (state, ) = torch.load(path, weights_only=True)['param_schedulers']
    assert state['last_step'] == 2
    rates, whole = [], []
    run(tmp_path / 'cut', resumed=True, schedule=[schedule],
        hook=lambda runner: record(runner, rates))
    run(tmp_path / 'whole', schedule=[schedule],
        hook=lambda runner: record(runner, whole))
    assert rates == whole[2:]


def test_another_number_of_processes_is_said(tmp_path):
    run(tmp_path, 1)
    content = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    content['meta'].update(rng=content['meta']['rng'] * 3)
    torch.save(content, tmp_path / 'epoch_1.pth')
    assert run(tmp_path, resumed=True).iter == 8
    (line, ) = [line for line in read_logs(tmp_path).splitlines()
                if 'random states' in line]
    assert '3 processes' in line and 'of 1' in line


@DATA_SAMPLERS.register_module()
class Begun:
    """Holds a generator, as mmdet's MultiSourceSampler does."""

    def __init__(self, dataset, seed):
        self.indices = iter([*range(len(dataset))] * 9)

    def __iter__(self):
        return self.indices

    def __len__(self):
        return 7


def test_a_sampler_that_cannot_be_rewound_is_said(tmp_path):
    for resumed in (False, True):
        cfg = config(tmp_path)
        cfg.train_dataloader.sampler = dict(type='Begun')
        if resumed:
            prepare_resume(cfg, str(tmp_path / 'epoch_1.pth'))
        build_runner(cfg).train()
        lines = [line for line in read_logs(tmp_path).splitlines()
                 if 'Begun' in line and 'DefaultSampler' in line]
        assert len(lines) == resumed


@pytest.mark.parametrize('change, batches, said', [
    (dict(batch=4), 2, 'batch_size=4'),
    (dict(batch=1), 7, 'batch_size=1'),
    (dict(length=3), 2, 'length=3'), (dict(length=20), 10, 'length=20')])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_other_data_is_said_and_neither_hangs_nor_skips(
        change, batches, said, by_epoch, tmp_path, bell):
    """The whole third epoch is trained on."""
    cut(tmp_path, 5, by_epoch=by_epoch)  # in the second epoch
    resumed = run(tmp_path, 3, resumed=True, by_epoch=by_epoch, **change)
    log = read_logs(tmp_path)
    assert said in log
    assert (f'an epoch has {batches} batches and not 4: resuming at the '
            'beginning of epoch 2' in log) == by_epoch
    assert len(resumed.model.seen) == (2 * batches if by_epoch else 12 - 6)


@pytest.mark.parametrize('change, batches', [
    (dict(batch=1), 7), (dict(length=9), 5), (dict(batch=7), 1)])
def test_other_data_after_two_whole_epochs(change, batches, tmp_path, bell):
    run(tmp_path)
    resumed = run(tmp_path, 3, resumed=True, **change)
    assert len(resumed.model.seen) == batches
    assert (resumed.epoch, resumed.iter) == (3, 3 * batches)


def test_fewer_batches_where_gradients_accumulate(tmp_path, bell):
    """mmengine divides by what it takes to be left of the run."""
    cut(tmp_path, 5, counts=2)
    resumed = run(tmp_path, resumed=True, counts=2, batch=4)
    assert (len(resumed.model.seen), resumed.iter) == (2, 4)


def test_what_resuming_changes_itself_is_not_said(tmp_path):
    """Nor line breaks, which depend on the lengths of settings."""
    def settings():
        cfg = config(tmp_path, schedule=STEPS)
        cfg.model.init_cfg = dict(
            type='Pretrained', checkpoint='a_long_name_of_weights' * 3)
        return cfg

    build_runner(settings()).train()
    resumed = settings()
    resumed.train_cfg.max_epochs = 3
    prepare_resume(resumed)
    build_runner(resumed).train()
    (line, ) = [line for line in read_logs(tmp_path).splitlines()
                if 'not that of the checkpoint' in line]
    assert line.endswith(': -max_epochs=2  +max_epochs=3')


WARM_UP = dict(type='LinearLR', start_factor=0.5, begin=0, end=6,
               by_epoch=False)
STEPS = [WARM_UP, dict(type='MultiStepLR', milestones=[1], by_epoch=True)]


@pytest.mark.parametrize('change, said', [
    (dict(schedule=[WARM_UP, dict(STEPS[1], milestones=[2, 3])]),
     '-milestones=[1  +milestones=[2  +3'),
    (dict(schedule=STEPS, lr=0.4), 'lr=0.1'),
    (dict(), '+param_scheduler=None')])
def test_the_schedule_of_the_checkpoint_holds(change, said, tmp_path):
    """By mmengine's rule, and the config's other words are logged."""
    run(tmp_path, schedule=STEPS)
    rates = []
    resumed = run(tmp_path, 3, resumed=True, hook=lambda runner: record(
        runner, rates), **change)
    assert said in read_logs(tmp_path)
    assert rates == pytest.approx([0.01] * 4)
    assert resumed.iter == 12


def record(runner, rates):
    """The learning rate of every iteration."""
    step = runner.model.train_step

    def train_step(data, optim_wrapper):
        rates.append(optim_wrapper.param_groups[0]['lr'])
        return step(data, optim_wrapper)

    runner.model.train_step = train_step


def test_another_optimizer_is_refused(tmp_path):
    run(tmp_path, 1)
    cfg = config(tmp_path)
    cfg.optim_wrapper.optimizer = dict(type='Adam', lr=0.1)
    prepare_resume(cfg)
    with pytest.raises(CheckpointError, match='optimizer .*betas.*load_from'):
        build_runner(cfg).train()


def test_killed_runs_end_as_untouched_ones():
    """The harness of 50 runs, in short: real processes and files. It fails
    unless each run resumed from the checkpoint after which it was killed."""
    result = subprocess.run(
        [sys.executable, ROOT / 'benchmarks/kill_and_resume.py', '--runs',
         '3', '--seed', '1'],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout[-3000:]
    assert '3 of 3 resumed and identical' in result.stdout
