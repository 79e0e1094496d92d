"""Data that starts at any batch, and the workers that load it."""
import os
import random
import signal

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mmiformer.kit.resume import sampler as sampler_module
from mmiformer.kit.resume.rng import get_rng_state, set_rng_state
from mmiformer.kit.resume.sampler import (
    SeededBatchSampler,
    make_seeded,
    training_flag,
)


class Noise(Dataset):
    """Numbers, each with what the three generators say at that moment."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(),
                             torch.rand(())], dtype=torch.double)


class Buckets(BatchSampler):
    """Keeps what is left of odd and even indices, as mmdet's
    AspectRatioBatchSampler does."""

    def __init__(self, sampler, batch_size, drop_last):
        super().__init__(sampler, batch_size, drop_last)
        self.buckets = [[], []]

    def __iter__(self):
        for index in self.sampler:
            bucket = self.buckets[index % 2]
            bucket.append(index)
            if len(bucket) == self.batch_size:
                yield bucket[:]
                del bucket[:]


def loader(sampler=DefaultSampler, workers=0, batches=BatchSampler):
    dataset = Noise()
    data = DataLoader(
        dataset, batch_sampler=batches(sampler(dataset, seed=3), 2, False),
        num_workers=workers, persistent_workers=workers > 0)
    make_seeded(data, seed=5)
    return data


def take(data, epoch=0, start=0, count=4):
    """Batches of a pass, beginning anywhere."""
    data.batch_sampler.epoch, data.batch_sampler.start = epoch, start
    return [batch for _, batch in zip(range(count - start), data)]


@pytest.mark.parametrize('sampler, workers, batches', [
    (DefaultSampler, 0, BatchSampler), (DefaultSampler, 2, BatchSampler),
    (InfiniteSampler, 2, BatchSampler), (InfiniteSampler, 2, Buckets)])
def test_batches_start_anywhere(sampler, workers, batches):
    """Order and augmentation depend on the position alone."""
    whole = take(loader(sampler, 0, batches), epoch=1)
    assert len({value.item() for batch in whole
                for value in batch[:, 1:].flatten()}) == 3 * sum(
                    len(batch) for batch in whole)
    data = loader(sampler, workers, batches)
    take(data, count=1)  # as mmengine's loops start it, and then abandoned
    for start in (0, 2):
        rest = take(data, epoch=1, start=start)
        assert all(map(torch.equal, rest, whole[start:]))
        assert len(rest) == 4 - start
    if sampler is DefaultSampler:  # the other's one pass has no end
        first = torch.cat(take(data, epoch=0))[:, 1:]
        assert not set(first.flatten().tolist()) & set(
            torch.cat(whole)[:, 1:].flatten().tolist())


@pytest.mark.parametrize('workers', [0, 1])
def test_the_data_set_is_left_as_it_is(workers):
    """A second loader takes its samples as it would have before."""
    dataset = Noise()
    data = DataLoader(dataset, batch_size=3)
    make_seeded(data, seed=5)
    assert len([*data]) == len(data) == 3 and data.dataset is dataset
    (batch, ) = DataLoader(dataset, batch_size=7, num_workers=workers)
    assert batch[:, 0].tolist() == [*range(7)]
    assert not vars(dataset)


def test_more_than_a_pass_can_be_skipped():
    data = loader()
    expected = take(data, epoch=2, start=1)
    found = take(data, epoch=0, start=9, count=9 + 3)
    assert all(map(torch.equal, found, expected)) and len(found) == 3


def test_a_sampler_without_indices_does_not_hang():
    sampler = SeededBatchSampler(BatchSampler([], 1, False), 0)
    sampler.start = 1
    with pytest.raises(RuntimeError, match='list'):
        next(iter(sampler))


def test_the_main_process_keeps_its_random_numbers():
    state = get_rng_state()
    expected = (random.random(), np.random.rand(), torch.rand(()))
    set_rng_state(state)
    take(loader())
    assert (random.random(), np.random.rand(), torch.rand(())) == expected


def test_processes_augment_like_one_with_the_joint_batch(monkeypatch):
    """As many images in one process get the same random numbers, and no two
    of an iteration share them."""
    def seeds(rank, world_size, batch):
        monkeypatch.setattr(sampler_module, 'get_dist_info',
                            lambda: (rank, world_size))
        indices = list(range(8))[rank::world_size]
        batches = SeededBatchSampler(
            BatchSampler(indices, batch, False), seed=7)
        return [dict(zip(batch.indices, batch.seeds)) for batch in batches]

    joint = seeds(0, 1, 4)
    assert len(joint) == 2
    for number, batch in enumerate(joint):
        assert len(set(batch.values())) == 4
        parts = [seeds(rank, 2, 2)[number] for rank in (0, 1)]
        assert {**parts[0], **parts[1]} == batch


def test_sigterm_ends_workers_without_a_failure(monkeypatch):
    """But not while the main process trains, which has to save."""
    batches = iter(loader(workers=1))
    next(batches)
    (worker, ) = batches._workers
    flag = training_flag()
    monkeypatch.setattr(flag, 'value', True)
    os.kill(worker.pid, signal.SIGTERM)
    assert len([*batches]) == 3
    flag.value = False
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(20)
    assert worker.exitcode == 0  # else the main process, too, would fail
