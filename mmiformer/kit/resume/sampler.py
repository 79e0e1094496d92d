"""Data that can start at any batch of a run, augmented alike every time."""
import copy
import os
import random
import signal
from functools import lru_cache, partial
from multiprocessing.sharedctypes import RawValue
from typing import Any, Callable, Iterator, List, Optional

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, DataLoader, get_worker_info

from .rng import get_rng_state, set_rng_state

# Samplers whose order depends on the seed and the epoch alone: of torch,
# mmengine, mmpretrain and mmdet. Others may hold a generator that has started.
RESTARTING = ('DefaultSampler', 'InfiniteSampler', 'SequentialSampler',
              'DistributedSampler', 'RepeatAugSampler', 'ClassAwareSampler',
              'MultiDataSampler')


class SeededBatch:
    """The indices of a batch, each with the seed of its position in the run.

    Whoever iterates over them, as ``DataLoader`` does where it loads the
    samples, gets plain indices, and random numbers of the index's own seed
    until the next one. Not a list: pickling would iterate over that.
    """

    def __init__(self, indices: List[int], seeds: List[tuple]) -> None:
        self.indices, self.seeds = indices, seeds

    def __iter__(self) -> Iterator[int]:
        before = get_rng_state() if get_worker_info() is None else None
        for index, seed in zip(self.indices, self.seeds):
            # Uncorrelated even where two seeds differ by 1.
            words = np.random.SeedSequence(seed).generate_state(3)
            random.seed(int(words[0]))
            np.random.seed(words[1])
            torch.manual_seed(int(words[2]))
            yield index
        if before is not None:  # the main process continues with its own
            set_rng_state(before)


class SeededBatchSampler:
    """The batches of another sampler, from any batch of any epoch.

    Each index gets a seed from the run's seed, the epoch, the number of the
    batch and its place in the joint batch of all processes. Augmentation
    therefore depends neither on the worker that does it nor on how a joint
    batch is divided among processes.

    Args:
        batch_sampler: Yields lists of indices, the same ones whenever an
            epoch is repeated.
        seed: Of the run.

    Attributes:
        epoch: Index of the next pass.
        start: Number of batches to skip at its beginning.
    """

    def __init__(self, batch_sampler: BatchSampler, seed: int) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler  # DistSamplerSeedHook looks here
        self.seed = seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[SeededBatch]:
        skip, self.start = self.start, 0
        rank, world_size = get_dist_info()
        while True:
            number = -1
            for number, batch in enumerate(self._restarted()):
                if number < skip:
                    continue
                seed = (self.seed, self.epoch, number)
                # mmengine's samplers give every world_size-th index to a rank.
                yield SeededBatch(batch, [
                    (*seed, i * world_size + rank) for i in range(len(batch))])
            self.epoch += 1
            skip -= number + 1
            if skip <= 0:  # iteration-based runs may skip whole passes
                return
            if number < 0:
                raise RuntimeError(f'{type(self.sampler).__name__} yields no '
                                   f'indices, cannot skip {skip} batches')

    def _restarted(self) -> BatchSampler:
        """The batch sampler at the beginning of an epoch.

        A copy, since mmdet's AspectRatioBatchSampler keeps indices that were
        left over when another iterator was abandoned.
        """
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(self.epoch)
        if isinstance(self.sampler, InfiniteSampler):
            # It holds one endless generator, which may have started already.
            self.sampler.indices = self.sampler._indices_of_rank()
        return copy.deepcopy(
            self.batch_sampler, {id(self.sampler): self.sampler})


@lru_cache(maxsize=None)
def training_flag() -> Any:
    """Whether this process is training, in memory shared with its workers."""
    return RawValue('b', False)


def init_worker(flag: Any, init_fn: Optional[Callable[[int], None]],
                worker: int) -> None:
    """While training, ignore SIGTERM so that workers keep feeding the main
    process until it has saved. Otherwise exit 0: Python terminates leftover
    workers at shutdown, and another status would look like a crash."""
    def end(number, frame) -> None:
        if not flag.value:
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    if init_fn is not None:
        init_fn(worker)


def make_seeded(loader: DataLoader, seed: int) -> None:
    """Gives a loader a :class:`SeededBatchSampler`.

    Args:
        loader: Of a map-style data set. Nothing has iterated over it, which
            is why torch forbids to assign another sampler.
        seed: Of the run.
    """
    vars(loader)['batch_sampler'] = SeededBatchSampler(
        loader.batch_sampler, seed)
    loader.worker_init_fn = partial(
        init_worker, training_flag(), loader.worker_init_fn)
    # Without its own, each epoch draws a seed from the process's generator.
    loader.generator = torch.Generator().manual_seed(seed)
