"""A Runner whose runs end the same however often they are interrupted."""
import os
import signal
import sys
from pathlib import Path
from typing import Optional

import torch
from mmengine.dist import all_gather_object, all_reduce, is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import DataLoader

from .finite import FiniteHook
from .memory import explained
from .position import (
    PositionedBatchSampler,
    SkippedIterator,
    get_rng_state,
    positioned,
    set_rng_state,
    training,
)

PARTIAL = '.part'  # of a checkpoint that is being written
ASK_EVERY = 10  # iterations, of many processes, whether one is to end


class CheckpointError(OSError):
    """A checkpoint could not be written."""


class ResumableRunner(Runner):
    """mmengine's Runner; a run that was interrupted and goes on by
    ``resume=True`` has the same weights in the end, bit for bit on a CPU, as
    one that never was.

    Checkpoints hold what mmengine's leave out: the random number generators
    of every process. Data goes on at the next batch, in the middle of an
    epoch too, without reading what has been read; a validation that was due
    is made up for. A checkpoint gets its name when it is whole. SIGTERM saves
    one at the end of the iteration, and ends the process with status 143.

    ``tools/train.py`` uses it; any other tool of OpenMMLab does by the line
    ``runner_type = 'mmiformer.ResumableRunner'`` of a config.
    """

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._meta: Optional[dict] = None
        self._rng_before_val: Optional[dict] = None
        self.terminated = False
        self.register_hook(_PositionHook(), priority='LOWEST')
        self.register_hook(FiniteHook(), priority='LOWEST')
        for hook in self.hooks:
            if isinstance(hook, CheckpointHook) and hook.max_keep_ckpts == 1:
                self.logger.info('keeping 2 checkpoints: with one, none would '
                                 'be there while the next is written')
                hook.max_keep_ckpts = 2

    @staticmethod
    def build_dataloader(dataloader, seed: Optional[int] = None,
                         diff_rank_seed: bool = False) -> DataLoader:
        """As mmengine's, of loaders that can begin anywhere."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if (loader is dataloader or loader.batch_sampler is None
                or not hasattr(loader.batch_sampler, 'sampler')):
            return loader
        return positioned(loader, seed or 0)

    def save_checkpoint(self, out_dir: str, filename: str, *args,
                        meta: Optional[dict] = None, **kwargs) -> None:
        """As mmengine's, written whole or not at all.

        Raises:
            CheckpointError: There is no room, or no right to write; the
                checkpoints before it are untouched.
        """
        rng = self._rng_before_val or get_rng_state()
        meta = dict(meta or {}, rng=all_gather_object(rng))
        if not is_main_process():
            return
        if '://' in out_dir:
            super().save_checkpoint(
                out_dir, filename, *args, meta=meta, **kwargs)
            return
        path = Path(out_dir, filename)
        scratch = path.with_name(f'.{filename}{PARTIAL}')
        try:
            super().save_checkpoint(
                out_dir, scratch.name, *args, meta=meta, **kwargs)
            with open(scratch, 'rb') as file:
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except OSError as error:
            scratch.unlink(missing_ok=True)
            raise CheckpointError(
                f'{path} could not be written ({error}): the checkpoints '
                'before it are whole; mend that, and go on with --resume'
            ) from error

    def load_checkpoint(self, *args, **kwargs):
        """As mmengine's; what is to go on is kept."""
        checkpoint = super().load_checkpoint(*args, **kwargs)
        self._meta = checkpoint.get('meta')
        return checkpoint

    def train(self) -> torch.nn.Module:
        """As mmengine's, but that SIGTERM saves first."""
        def remember(number, frame) -> None:
            self.terminated = True

        before = signal.signal(signal.SIGTERM, remember)
        training.value = True
        try:
            with explained(self):
                return super().train()
        except RuntimeError as error:
            if self.distributed:  # the launcher's own words are about itself
                self.logger.error(
                    f'process {self.rank} of {self.world_size} cannot go on '
                    f'after iteration {self.iter}: {error}\n'
                    'If another one ended first, the launcher lists it. Go on '
                    'with --resume: by hand, or by torchrun itself '
                    '(MAX_RESTARTS=3 tools/dist_train.sh ... --resume)')
            raise
        finally:
            training.value = False
            signal.signal(signal.SIGTERM, before)

    def go_on(self) -> None:
        """To where a resumed checkpoint was written; called when all else
        is ready to train."""
        loop, loader = self.train_loop, self.train_dataloader
        sampler = loader.batch_sampler
        if isinstance(sampler, PositionedBatchSampler):
            if isinstance(loop, IterBasedTrainLoop):
                sampler.epoch, sampler.start = 0, loop.iter
                loop.dataloader_iterator = SkippedIterator(
                    _InfiniteDataloaderIterator(loader), loop.iter)
            else:
                sampler.epoch = loop.epoch
                sampler.start = loop.iter - loop.epoch * len(loader)
        states = (self._meta or {}).get('rng')
        if states is None or len(states) != self.world_size:
            self.logger.warning(
                'the checkpoint has no random numbers of as many processes: '
                'the run goes on with others')
        else:
            set_rng_state(states[self.rank])
        if self._validation_is_due():
            self.val_loop.run()

    def _validation_is_due(self) -> bool:
        """Checkpoints are written before the validation of their place."""
        loop = self.train_loop
        if self.val_loop is None:
            return False
        loop._decide_current_val_interval()
        if isinstance(loop, EpochBasedTrainLoop):
            if loop.iter != loop.epoch * len(loop.dataloader):
                return False
            done, last = loop.epoch, loop.max_epochs
        else:
            done, last = loop.iter, loop.max_iters
        return done >= max(loop.val_begin, 1) and (
            done % loop.val_interval == 0 or done == last)

    def end_if_terminated(self, iteration: int, in_train: bool) -> None:
        """Saves and ends, where SIGTERM has come to a process of the run."""
        terminated = self.terminated
        if self.distributed:  # all save together, or wait for ever
            if not in_train or iteration % ASK_EVERY:
                return
            flag = torch.tensor(int(terminated))
            all_reduce(flag, 'max')
            terminated = bool(flag)
        if not terminated:
            return
        done = self.iter + in_train
        path = Path(self.work_dir, f'iter_{done}.pth')
        self.save_checkpoint(
            self.work_dir, path.name, by_epoch=False,
            meta=dict(epoch=self.epoch, iter=done))
        if is_main_process():
            path.with_name('last_checkpoint').write_text(str(path))
        self.logger.warning(f'SIGTERM: saved {path}; go on with --resume')
        sys.exit(128 + signal.SIGTERM)


class _PositionHook(Hook):
    """What the runner does between mmengine's own steps."""

    def before_train(self, runner: ResumableRunner) -> None:
        if runner.iter:
            runner.go_on()

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None) -> None:
        runner.end_if_terminated(runner.iter, in_train=True)

    def before_val(self, runner) -> None:
        runner._rng_before_val = get_rng_state()

    def after_val_iter(self, runner, batch_idx, data_batch=None,
                       outputs=None) -> None:
        runner.end_if_terminated(batch_idx, in_train=False)

    def after_val(self, runner) -> None:
        runner._rng_before_val = None
