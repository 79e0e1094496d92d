"""Where a run stands: its place in the data, and its random numbers."""
import os
import random
import signal
from functools import partial
from multiprocessing.sharedctypes import RawValue
from typing import Callable, Iterator, List, Optional, Sequence

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info
from torch.utils.data import BatchSampler, DataLoader, Dataset, get_worker_info


class SeededIndex(int):
    """An index of a data set, and where in the run it is asked for."""

    seed: tuple

    def __new__(cls, index: int, seed: tuple) -> 'SeededIndex':
        self = super().__new__(cls, index)
        self.seed = seed
        return self

    def __getnewargs__(self):  # on the way to a worker
        return int(self), self.seed


class PositionedBatchSampler:
    """The batches of another sampler, from any place on.

    Each index has a seed of its own, by its place in the run: which worker
    augments it, and what that has done before, no longer matters. Its place
    in the batch is that in the joint batch of all processes: as many indices
    in one process have the same seeds.

    Args:
        batch_sampler: Yields lists of indices, the same in every pass of the
            same number.
        seed: Of the run.

    Attributes:
        epoch: The number of the pass that begins next.
        start: Batches that are left out of it.
    """

    def __init__(self, batch_sampler: BatchSampler, seed: int) -> None:
        self.batch_sampler = batch_sampler
        self.sampler = batch_sampler.sampler  # DistSamplerSeedHook looks here
        self.seed = seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[List[SeededIndex]]:
        skip, self.start = self.start, 0
        rank, world_size = get_dist_info()
        while True:
            if hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(self.epoch)
            if isinstance(self.sampler, InfiniteSampler):
                # It has one endless generator, which has begun or ended.
                self.sampler.indices = self.sampler._indices_of_rank()
            number = None
            for number, batch in enumerate(self.batch_sampler):
                if skip:
                    skip -= 1
                    continue
                place = (self.seed, self.epoch, number)
                # mmengine's samplers deal indices out by turns.
                yield [SeededIndex(index, (*place, i * world_size + rank))
                       for i, index in enumerate(batch)]
            self.epoch += 1
            if not skip:  # a pass may be shorter than what is left out
                return
            if number is None:
                raise RuntimeError(f'{type(self.sampler).__name__} gives no '
                                   'indices, so nothing can be left out')


def get_seeded(dataset: Dataset, indices: Sequence[SeededIndex]) -> list:
    """The samples, each drawn with the random numbers of its own seed."""
    samples = []
    before = get_rng_state() if get_worker_info() is None else None
    for index in indices:
        # Uncorrelated even where two seeds differ by 1.
        words = np.random.SeedSequence(index.seed).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(words[1])
        torch.manual_seed(int(words[2]))
        samples.append(dataset[int(index)])
    if before is not None:  # in the main process others need theirs
        set_rng_state(before)
    return samples


# Whether a run is going on; its workers see it too.
training = RawValue('b', False)


def init_worker(training, init_fn: Optional[Callable[[int], None]],
                worker: int) -> None:
    """Where a whole job gets SIGTERM, its workers have to serve the main
    process until that has saved. Otherwise it ends them, as by torch's own
    handler, without a failure: Python ends those so that are left."""
    def end(number, frame) -> None:
        if not training.value:
            os._exit(0)

    signal.signal(signal.SIGTERM, end)
    if init_fn is not None:
        init_fn(worker)


def positioned(loader: DataLoader, seed: int) -> DataLoader:
    """The same loader, but that it can begin anywhere.

    Args:
        loader: Of a data set of fixed length. The data set is asked by
            :func:`get_seeded` from now on.
        seed: Of the run.
    """
    dataset = loader.dataset
    dataset.__getitems__ = partial(get_seeded, dataset)
    return DataLoader(
        dataset,
        batch_sampler=PositionedBatchSampler(loader.batch_sampler, seed),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=partial(init_worker, training, loader.worker_init_fn),
        multiprocessing_context=loader.multiprocessing_context,
        # Else every pass over it would take a number from the main process.
        generator=torch.Generator().manual_seed(seed),
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers)


class SkippedIterator:
    """Of an iteration-based loop that goes on: the loop asks for as many
    batches as it has had, which the batch sampler leaves out by itself.

    Args:
        iterator: Begins where the loop does.
        count: Batches that the loop will ask for in vain.
    """

    def __init__(self, iterator: Iterator, count: int) -> None:
        self.iterator, self.count = iterator, count

    def __next__(self):
        if self.count:
            self.count -= 1
            return None
        return next(self.iterator)

    def skip_iter(self, count: int) -> None:
        """As the onedl forks ask for it."""
        self.count = 0


def get_rng_state() -> dict:
    """The random number generators of this process, in tensors and numbers,
    so that a checkpoint of them opens with ``weights_only=True``."""
    name, keys, *rest = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), *rest),
        torch=torch.get_rng_state(),
        cuda=(torch.cuda.get_rng_state() if torch.cuda.is_initialized()
              else None))


def set_rng_state(state: dict) -> None:
    """Sets what :func:`get_rng_state` has got; a resumed checkpoint may have
    put it on a GPU."""
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
