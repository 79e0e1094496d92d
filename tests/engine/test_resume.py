"""Runs that are interrupted: their data, checkpoints and end."""
import errno
import os
import random
import signal
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import CheckpointHook
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmiformer import ResumableRunner
from mmiformer.engine.position import (
    PositionedBatchSampler,
    get_rng_state,
    positioned,
    set_rng_state,
    training,
)
from mmiformer.engine.resume import build_runner, find_newest, resume
from mmiformer.engine.runner import CheckpointError


@DATASETS.register_module()
class Noise(Dataset):
    """Numbers, each with what the three generators say at that moment."""

    metainfo = dict(classes=('a', ))

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(),
                             torch.rand(())], dtype=torch.double)


def loader(sampler=DefaultSampler, workers=0):
    dataset = Noise()
    return positioned(DataLoader(
        dataset, batch_size=2, sampler=sampler(dataset, seed=3),
        num_workers=workers, persistent_workers=workers > 0), seed=5)


def take(data, epoch=0, start=0, count=4):
    """Batches of a pass, beginning anywhere."""
    data.batch_sampler.epoch, data.batch_sampler.start = epoch, start
    return [batch for _, batch in zip(range(count - start), data)]


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('workers', [0, 2])
def test_data_goes_on_anywhere(sampler, workers):
    """Order and augmentation are those of the place, whoever loads it."""
    whole = take(loader(sampler), epoch=1)
    assert len({value.item() for batch in whole
                for value in batch[:, 1:].flatten()}) == 3 * sum(
                    len(batch) for batch in whole)
    data = loader(sampler, workers)
    take(data, count=1)  # it has begun elsewhere, as mmengine's loops do
    for start in (0, 2):
        rest = take(data, epoch=1, start=start)
        assert all(map(torch.equal, rest, whole[start:]))
        assert len(rest) == 4 - start
    if sampler is DefaultSampler:  # the other's one pass has no end
        first = torch.cat(take(data, epoch=0))[:, 1:]
        assert not set(first.flatten().tolist()) & set(
            torch.cat(whole)[:, 1:].flatten().tolist())


def test_what_is_left_out_may_be_more_than_a_pass():
    data = loader()
    expected = take(data, epoch=2, start=1)
    found = take(data, epoch=0, start=9, count=9 + 3)
    assert all(map(torch.equal, found, expected)) and len(found) == 3


def test_a_sampler_without_indices_does_not_hang():
    sampler = PositionedBatchSampler(BatchSampler([], 1, False), 0)
    sampler.start = 1
    with pytest.raises(RuntimeError, match='no indices'):
        next(iter(sampler))


def test_the_generators_of_the_main_process_are_its_own():
    state = get_rng_state()
    expected = (random.random(), np.random.rand(), torch.rand(()))
    set_rng_state(state)
    take(loader())
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_sigterm_ends_workers_without_a_failure(monkeypatch):
    """But not while the main process has to save."""
    batches = iter(loader(workers=1))
    next(batches)
    (worker, ) = batches._workers
    monkeypatch.setattr(training, 'value', True)
    os.kill(worker.pid, signal.SIGTERM)
    assert len([*batches]) == 3
    training.value = False
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(20)
    assert worker.exitcode == 0  # else the main process, too, would fail


@MODELS.register_module()
class Restless(nn.Module):
    """Learns nothing, at random."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def train_step(self, data, optim_wrapper):
        optim_wrapper.update_params((self.weight - torch.rand(())) ** 2)
        return dict(loss=self.weight.detach())


def run(work_dir, max_epochs=2, resumed=False, keep=-1, hook=None):
    cfg = Config(dict(
        model=dict(type='Restless'), work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dict(type='Noise'), batch_size=2, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=True)),
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1, max_keep_ckpts=keep)),
        randomness=dict(seed=0), experiment_name=os.urandom(8).hex()))
    if resumed:
        resume(cfg)
    runner = build_runner(cfg)
    if hook:
        hook(runner)
    runner.train()
    return runner


def test_the_runner_is_ours_unless_the_config_names_one(tmp_path):
    assert type(run(tmp_path, 1)) is ResumableRunner
    cfg = Config(dict(model=dict(type='Restless'), work_dir=str(tmp_path),
                      runner_type='Runner', experiment_name='other'))
    assert type(build_runner(cfg)) is Runner


def of(work_dir, **hook):
    return Config(dict(work_dir=str(work_dir),
                       default_hooks=dict(checkpoint=hook)))


def full_after(count):
    """A disk that is full from a certain checkpoint on."""
    def fill(runner):
        save, left = Runner.save_checkpoint, [count]

        def write(self, out_dir, filename, *args, **kwargs):
            left[0] -= 1
            # Until it is whole it has not the name of a checkpoint.
            assert not fnmatch(filename, 'epoch_*')
            save(self, out_dir, filename, *args, **kwargs)
            if left[0] < 0:
                os.truncate(Path(out_dir, filename), 100)
                raise OSError(errno.ENOSPC, 'No space left on device')

        fill.patch.setattr(Runner, 'save_checkpoint', write)
    return fill


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path, monkeypatch):
    fill = full_after(1)
    fill.patch = monkeypatch
    with pytest.raises(CheckpointError, match='No space left.*--resume'):
        run(tmp_path, hook=fill)
    assert {p.name for p in tmp_path.iterdir() if 'epoch' in p.name} == {
        'epoch_1.pth'}
    monkeypatch.undo()
    assert find_newest(of(tmp_path)) == str(tmp_path / 'epoch_1.pth')
    resumed = run(tmp_path, resumed=True)
    whole = run(tmp_path / 'whole')
    assert torch.equal(resumed.model.weight, whole.model.weight)


def test_one_checkpoint_is_not_removed_before_the_next_is_there(tmp_path):
    runner = run(tmp_path, 3, keep=1)
    (hook, ) = [x for x in runner.hooks if isinstance(x, CheckpointHook)]
    assert hook.max_keep_ckpts == 2
    assert {p.name for p in tmp_path.glob('*.pth')} == {
        'epoch_2.pth', 'epoch_3.pth'}


def test_the_newest_whole_checkpoint_is_used(tmp_path, capfd):
    assert find_newest(of(tmp_path)) is None
    run(tmp_path, 3)
    for number in (2, 3):
        path = tmp_path / f'epoch_{number}.pth'
        os.utime(path, (number, number + 4e9))
    path.write_bytes(path.read_bytes()[:-200])
    # Not asked: it may name any file.
    (tmp_path / 'last_checkpoint').write_text('/etc/passwd')
    assert find_newest(of(tmp_path)) == str(tmp_path / 'epoch_2.pth')
    elsewhere = dict(out_dir=str(tmp_path), filename_tmpl='saved_{}.pth')
    (tmp_path / 'name').mkdir()
    (tmp_path / 'epoch_1.pth').rename(tmp_path / 'name/saved_1.pth')
    assert find_newest(of('name', **elsewhere)) == str(
        tmp_path / 'name/saved_1.pth')
    (tmp_path / 'name/saved_1.pth').rename(tmp_path / 'epoch_1.pth')
    for number in (1, 2):
        (tmp_path / f'epoch_{number}.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='all 3 checkpoints.*are damaged'):
        find_newest(of(tmp_path))


def test_what_a_resumed_run_takes_from_its_checkpoint(tmp_path):
    run(tmp_path, 1)
    cfg = Config(dict(
        work_dir=str(tmp_path), randomness=dict(deterministic=True),
        model=dict(backbone=dict(init_cfg=dict(
            type='Pretrained', checkpoint='mmiformer://iformer_small')))))
    resume(cfg)
    assert cfg.resume and cfg.load_from == str(tmp_path / 'epoch_1.pth')
    assert cfg.randomness == dict(deterministic=True, seed=0)
    assert cfg.model.backbone.init_cfg is None
    for content in ({}, dict(meta=dict(epoch=1))):
        torch.save(dict(state_dict={}, **content), tmp_path / 'weights.pth')
        with pytest.raises(ValueError, match='no place in a run.*load_from'):
            resume(cfg, str(tmp_path / 'weights.pth'))
    resume(empty := Config(dict(work_dir=str(tmp_path / 'none'), model={})))
    assert not empty.resume and empty.get('load_from') is None


def terminate_at(iteration):
    def hook(runner):
        step = runner.model.train_step

        def train_step(*args, **kwargs):
            if runner.iter == iteration:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*args, **kwargs)

        runner.model.train_step = train_step
    return hook


@pytest.mark.parametrize('iteration', [1, 3, 6])
def test_sigterm_saves_first(iteration, tmp_path):
    """In the middle of an epoch of 4 iterations, and at its end."""
    with pytest.raises(SystemExit) as error:
        run(tmp_path / 'cut', hook=terminate_at(iteration))
    assert error.value.code == 143
    path = tmp_path / f'cut/iter_{iteration + 1}.pth'
    assert find_newest(of(tmp_path / 'cut')) == str(path)
    assert (tmp_path / 'cut/last_checkpoint').read_text() == str(path)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    resumed = run(tmp_path / 'cut', resumed=True)
    whole = run(tmp_path / 'whole')
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.iter == whole.iter == 8


@pytest.mark.parametrize('kind', [
    'seg', pytest.param('det', marks=pytest.mark.slow)])
def test_killed_runs_end_as_untouched_ones(kind):
    """The harness of 50 runs, in short: real processes and files."""
    result = subprocess.run(
        [sys.executable, ROOT / 'benchmarks/kill_and_resume.py', '--runs',
         '2', '--seed', '1', '--kinds', kind],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert result.returncode == 0, result.stdout[-3000:]
    assert '2 of 2 identical' in result.stdout
