"""Runs that are interrupted: their checkpoints and how they resume."""
import errno
import os
import signal
import subprocess
import sys
import threading
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
)
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmiformer import ResumableRunner
from mmiformer.kit.resume import (
    CheckpointError,
    build_runner,
    choose,
    prepare_resume,
)
from mmiformer.kit.resume.choose import find_newest


@DATASETS.register_module()
class Ramp(Dataset):
    """Numbers."""

    metainfo = dict(classes=('a', ))

    def __init__(self, length=7):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return index + torch.rand(())


@MODELS.register_module()
class Restless(nn.Module):
    """Follows its data, at random; accumulated gradients add up."""

    def __init__(self, init_cfg=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def val_step(self, data):
        return [{}]

    def train_step(self, data, optim_wrapper):
        self.seen.append(data.mean().item())
        target = data.mean() + torch.rand(())
        loss = (self.weight - target) ** 2
        optim_wrapper.update_params(loss)
        return dict(loss=loss.detach())


def config(work_dir, max_epochs=2, batch=2, length=7, by_epoch=True,
           counts=1, lr=0.1, schedule=None, **more):
    """Of a run of 4 iterations an epoch."""
    loop = (dict(by_epoch=True, max_epochs=max_epochs) if by_epoch else
            dict(by_epoch=False, max_iters=4 * max_epochs))
    return Config(dict(
        model=dict(type='Restless'), work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dict(type='Ramp', length=length), batch_size=batch,
            num_workers=0, sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler'),
            collate_fn=dict(type='default_collate')),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr),
                           accumulative_counts=counts),
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1 if by_epoch else 4,
            by_epoch=by_epoch)),
        param_scheduler=schedule, randomness=dict(seed=0),
        env_cfg={}, experiment_name=os.urandom(8).hex(), **more))


def run(work_dir, *args, resumed=False, hook=None, **kwargs):
    cfg = config(work_dir, *args, **kwargs)
    if resumed:
        prepare_resume(cfg)
    runner = build_runner(cfg)
    if hook:
        hook(runner)
    runner.train()
    return runner


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
    cfg.default_hooks.checkpoint.update(
        out_dir=str(tmp_path), filename_tmpl='saved_{}.pth')
    path = tmp_path / 'name' / 'saved_1.pth'
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


def terminate_at(iteration):
    def hook(runner):
        step = runner.model.train_step

        def train_step(*args, **kwargs):
            if runner.iter == iteration:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*args, **kwargs)

        runner.model.train_step = train_step
    return hook


def cut(work_dir, iteration, **kwargs):
    """A run that gets SIGTERM; returns the checkpoint that it ends with."""
    with pytest.raises(SystemExit) as error:
        run(work_dir, hook=terminate_at(iteration), **kwargs)
    assert error.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    return find_newest(config(work_dir))[0]


@pytest.mark.parametrize('iteration', [1, 3, 6])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_sigterm_saves_first(iteration, by_epoch, tmp_path):
    """In the middle of an epoch of 4 iterations, and at its end."""
    path = cut(tmp_path / 'cut', iteration, by_epoch=by_epoch)
    assert path == str(tmp_path / f'cut/iter_{iteration + 1}.pth')
    assert (tmp_path / 'cut/last_checkpoint').read_text() == path
    resumed = run(tmp_path / 'cut', resumed=True, by_epoch=by_epoch)
    whole = run(tmp_path / 'whole', by_epoch=by_epoch)
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.iter == whole.iter == 8


def test_a_second_sigterm_does_not_wait(tmp_path, monkeypatch):
    """But a launcher's copy of the first, right after it, is not one."""
    def repeat(runner):
        terminate_at(1)(runner)
        terminate_at(1)(runner)

    for echo, saved in ((5, ['iter_2.pth']), (0, [])):
        monkeypatch.setattr(
            'mmiformer.kit.resume.runner.SIGTERM_ECHO', echo)
        with pytest.raises(SystemExit) as error:
            run(tmp_path / str(echo), hook=repeat)
        assert error.value.code == 143
        assert [path.name for path in tmp_path.glob(f'{echo}/*.pth')] == saved
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


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


@pytest.mark.parametrize('iteration, saved', [(0, 2), (4, 6), (6, 8)])
def test_sigterm_waits_for_the_step_of_accumulated_gradients(
        iteration, saved, tmp_path):
    """No checkpoint holds gradients; the last step is never cut off."""
    path = cut(tmp_path / 'cut', iteration, counts=2)
    assert path == str(tmp_path / f'cut/iter_{saved}.pth')
    resumed = run(tmp_path / 'cut', resumed=True, counts=2)
    whole = run(tmp_path / 'whole', counts=2)
    assert torch.equal(resumed.model.weight, whole.model.weight)


@HOOKS.register_module()
class TerminateInVal(Hook):
    """The process gets SIGTERM in its first validation."""

    def after_val_iter(self, runner, batch_idx, data_batch=None,
                       outputs=None):
        if batch_idx == 0 and runner.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_in_a_validation_waits_for_the_next_step(tmp_path):
    """EMAHook has the averaged weights in the model until it ends."""
    loader = config(tmp_path).train_dataloader
    more = dict(val_cfg={}, val_evaluator=dict(type='Constant'),
                val_dataloader=dict(loader, batch_size=7))
    ema = dict(type='EMAHook', momentum=0.5)
    path = cut(tmp_path / 'cut', None, **more,
               custom_hooks=[ema, dict(type='TerminateInVal')])
    assert path == str(tmp_path / 'cut/iter_5.pth')
    run(tmp_path / 'cut', resumed=True, **more, custom_hooks=[ema])
    run(tmp_path / 'whole', **more, custom_hooks=[ema])
    resumed, whole = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=True)
        for name in ('cut', 'whole'))
    for key in ('state_dict', 'ema_state_dict'):
        assert resumed[key] == whole[key]
    assert whole['state_dict']['weight'] != whole['ema_state_dict'][
        'module.weight']
    assert resumed['optimizer'] == whole['optimizer']


def test_checkpoints_of_sigterm_do_not_accumulate(tmp_path):
    """One is removed when the next is written, unless it is also a regular
    one."""
    cut(tmp_path, 0)
    cut(tmp_path, 1, resumed=True)
    assert {p.name for p in tmp_path.glob('*.pth')} == {'iter_2.pth'}
    run(tmp_path, resumed=True)
    assert {p.name for p in tmp_path.glob('*.pth')} == {
        'epoch_1.pth', 'epoch_2.pth'}
    cut(tmp_path / 'iters', 3, by_epoch=False)
    run(tmp_path / 'iters', resumed=True, by_epoch=False)
    assert {p.name for p in tmp_path.glob('iters/*.pth')} == {
        'iter_4.pth', 'iter_8.pth'}


@pytest.mark.parametrize('resumed', [True, False])
def test_checkpoints_of_another_run_are_not_removed(resumed, tmp_path):
    """Whether a run resumes from them or only starts with their weights."""
    path = cut(tmp_path, 1)
    cfg = config(tmp_path / 'other' if resumed else tmp_path)
    if resumed:
        prepare_resume(cfg, path)
    cfg.load_from = path
    build_runner(cfg).train()
    assert Path(path).exists()


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


def test_training_in_a_thread(tmp_path):
    """Where Python forbids signal handlers."""
    runners = []
    thread = threading.Thread(target=lambda: runners.append(run(tmp_path)))
    thread.start()
    thread.join(60)
    assert runners[0].iter == 8


def read_logs(work_dir):
    """What mmengine has logged, without the configs."""
    return '\n'.join(
        line for path in work_dir.glob('*/*.log')
        for line in path.read_text().splitlines() if 'WARNING' in line)


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
    assert line.endswith(': -max_epochs=2)  +max_epochs=3)')


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
    with pytest.raises(CheckpointError, match='optimizer, .*load_from'):
        build_runner(cfg).train()


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_checkpoint_waits_for_the_step_of_accumulated_gradients(
        by_epoch, tmp_path):
    """Due after 4 of 12 iterations, with a step after every third."""
    more = dict(max_epochs=3, counts=3, by_epoch=by_epoch)
    whole = run(tmp_path, **more)
    first = tmp_path / ('epoch_1.pth' if by_epoch else 'iter_4.pth')
    meta = torch.load(first, weights_only=True)['meta']
    assert (meta['iter'], meta['epoch']) == (6, by_epoch)
    for path in tmp_path.glob('*.pth'):
        if path != first:
            path.unlink()
    resumed = run(tmp_path, resumed=True, **more)
    assert resumed.iter == 12 and len(resumed.model.seen) == 6
    assert torch.equal(resumed.model.weight, whole.model.weight)


@METRICS.register_module()
class Constant(BaseMetric):
    """Never better."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=0.5)


@pytest.fixture
def stopped_early(tmp_path):
    """Settings of five epochs, of which the third is the last: the first
    validation is the best, two more are waited for."""
    loader = config(tmp_path).train_dataloader
    return dict(
        max_epochs=5, val_cfg={}, val_evaluator=dict(type='Constant'),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler')),
        custom_hooks=[dict(type='EarlyStoppingHook', monitor='score',
                           rule='greater', patience=2)])


def test_a_stop_between_two_steps_is_saved(stopped_early, tmp_path):
    """The optimizer steps after iterations 8 and 16, the run ends at 12."""
    run(tmp_path, counts=8, **stopped_early)
    meta = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['meta']
    assert (meta['epoch'], meta['iter']) == (3, 12)


@pytest.mark.parametrize('kind', [
    'seg', 'det', pytest.param('two', marks=pytest.mark.slow)])
def test_killed_runs_end_as_untouched_ones(kind):
    """The harness of 50 runs, in short: real processes and files. It fails
    unless each run resumed from the checkpoint after which it was killed."""
    result = subprocess.run(
        [sys.executable, ROOT / 'benchmarks/kill_and_resume.py', '--runs',
         '2', '--seed', '1', '--kinds', kind],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout[-3000:]
    assert '2 of 2 resumed and identical' in result.stdout
