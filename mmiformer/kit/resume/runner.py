"""A Runner whose runs end the same however often they are interrupted."""
import difflib
import re
import signal
import sys
import threading
import time
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import List, Optional

import mmengine
import torch
from mmengine.dist import (
    all_gather_object,
    all_reduce,
    barrier,
    is_main_process,
)
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.utils import digit_version
from torch.utils.data import DataLoader

from ...checkpoint import opened_safely, written_whole
from .plain import PlainCheckpointHook
from .rng import get_rng_state, set_rng_state
from .sampler import (
    RESTARTING,
    SeededBatchSampler,
    make_seeded,
    training_flag,
)

SIGTERM_POLL_INTERVAL = 10  # iterations between all-reduces
SIGTERM_ECHO = 5  # seconds in which scheduler and launcher each send one
# Settings that resuming, or the machine, changes.
OWN_SETTINGS = re.compile(
    r'^(resume|load_from|work_dir|launcher|randomness|experiment_name) = .*\n|'
    r'init_cfg=(dict\([^()]*\)|None)', re.MULTILINE)


class CheckpointError(OSError):
    """A checkpoint could not be written, or is of another optimizer."""


def find_changes(old: str, new: str) -> List[str]:
    """The settings that differ between mmengine's texts of two configs, with
    ``-`` or ``+`` before them. Pre-trained weights do not count: resuming
    drops them."""
    # Line breaks within a setting depend on its length.
    old, new = (re.split(r'[,\n]', re.sub(
        r'\n(?!\w)|[ \t]', '', OWN_SETTINGS.sub('', text + '\n')))
        for text in (old, new))
    return [line for line in difflib.unified_diff(old, new, n=0, lineterm='')
            if not line.startswith(('---', '+++', '@@'))]


@RUNNERS.register_module(force=True)
class ResumableRunner(Runner):
    """mmengine's Runner; an interrupted run, resumed, ends with the same
    weights as an uninterrupted one (bit for bit on a CPU).

    Checkpoints also hold the random states of every process and the position
    in the data, and are written whole or not at all. Loading resumes at the
    next batch, without reading those before it; a validation that was due
    when the checkpoint was written is run first. SIGTERM saves a checkpoint
    after the optimizer's next step, not within a validation, and exits with
    status 143; a second one, 5 seconds later, exits at once.

    ``tools/train.py`` uses it; for any other tool of OpenMMLab put
    ``runner_type = 'mmiformer.ResumableRunner'`` in the config.
    """

    _meta: dict = {}  # of the checkpoint that was loaded
    _skipped = 0  # batches of the epoch, when resuming
    _terminated: Optional[float] = None  # when this process got SIGTERM
    _stopping = False  # any did
    _postponed: Optional[partial] = None  # a checkpoint to be saved

    def register_hooks(self, *args, **kwargs) -> None:
        """Like mmengine's; adds what resuming needs."""
        super().register_hooks(*args, **kwargs)
        self.register_hook(_ResumeHook())
        self.register_hook(PlainCheckpointHook())

    @staticmethod
    def build_dataloader(dataloader, seed: Optional[int] = None,
                         diff_rank_seed: bool = False) -> DataLoader:
        """Like mmengine's; the loader can start at any batch."""
        loader = Runner.build_dataloader(dataloader, seed, diff_rank_seed)
        if loader is not dataloader and hasattr(loader.batch_sampler,
                                                'sampler'):
            make_seeded(loader, seed or 0)
        return loader

    def save_checkpoint(self, out_dir: str, filename: str, *args,
                        meta: Optional[dict] = None,
                        save_optimizer: bool = True, **kwargs) -> None:
        """Like mmengine's; the file is written whole or not at all. Where
        gradients are being accumulated, which no checkpoint holds, it is
        written after the optimizer's next step. No process returns before the
        first one has written it.

        Raises:
            CheckpointError: It cannot be written, for want of space or
                permission. It touches no other checkpoint, but mmengine may
                have removed one before (`max_keep_ckpts`).
        """
        meta = dict(meta or {})
        if save_optimizer and self._accumulated():
            self._postponed = partial(self.save_checkpoint, out_dir, filename,
                                      *args, meta=meta, **kwargs)
            return
        # CheckpointHook saves before the loop counts an iteration or epoch,
        # and once more after its validation.
        meta['validated'] = (
            meta.get('epoch'), meta.get('iter')) == (self.epoch, self.iter)
        meta['rng'] = all_gather_object(get_rng_state())
        if not isinstance(self.train_loop, IterBasedTrainLoop):
            meta['batches'] = len(self.train_dataloader)  # in an epoch
        kwargs.update(meta=meta, save_optimizer=save_optimizer)
        if is_main_process():
            self._write_checkpoint(out_dir, filename, *args, **kwargs)
        barrier()  # a process that leaves before may end the one that writes

    def _write_checkpoint(self, out_dir: str, filename: str, *args,
                          **kwargs) -> None:
        if '://' in out_dir:
            super().save_checkpoint(out_dir, filename, *args, **kwargs)
            return
        path = Path(out_dir, filename)
        try:
            with written_whole(path) as scratch:
                super().save_checkpoint(
                    out_dir, scratch.name, *args, **kwargs)
        except OSError as error:
            raise CheckpointError(
                f'{path} could not be written ({error}); what is left of '
                'earlier checkpoints is whole: fix the cause, then continue '
                'with --resume') from error
        if kwargs['save_optimizer']:
            Path(self.work_dir, 'last_checkpoint').write_text(str(path))

    def load_checkpoint(self, *args, **kwargs) -> dict:
        """Like mmengine's; keeps ``meta`` for :meth:`restore_position`."""
        with opened_safely():
            checkpoint = super().load_checkpoint(*args, **kwargs)
        self._meta = checkpoint.get('meta') or {}
        return checkpoint

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Like mmengine's, by whose rule the optimizer's settings and the
        schedule are those of the checkpoint; what the config says otherwise
        is logged. With other batches in an epoch it starts again.

        Raises:
            CheckpointError: It is of another optimizer.
        """
        self._meta = {}
        try:
            super().resume(filename, *args, **kwargs)
            if hasattr(self.optim_wrapper, 'optimizer'):  # one, not several
                optimizer = self.optim_wrapper.optimizer
                if lacking := {*optimizer.defaults} - {
                        *optimizer.param_groups[0]}:
                    raise KeyError(*lacking)
        except (KeyError, ValueError) as error:
            if not self._meta:  # the file cannot be opened
                raise
            raise CheckpointError(
                f'{filename} is of another optimizer ({error!r}); to start '
                'from its weights, use --cfg-options load_from=... instead of '
                '--resume') from error
        now = self.cfg.pretty_text
        if changes := find_changes(self._meta.get('cfg') or now, now):
            self.logger.warning(
                'the config is not that of the checkpoint, whose optimizer '
                'settings and schedule hold (others take effect by load_from '
                f'instead of resume): {"  ".join(changes)[:1000]}')
        if isinstance(self.train_dataloader.batch_sampler,
                      SeededBatchSampler):
            self._skipped = self._resumed_batch()

    def train(self) -> torch.nn.Module:
        """Like mmengine's; saves a checkpoint on SIGTERM, if this is the
        main thread: others cannot receive signals."""
        if threading.current_thread() is not threading.main_thread():
            return super().train()

        def remember(number, frame) -> None:
            if not self._terminated:
                self._terminated = time.monotonic()
            elif time.monotonic() - self._terminated > SIGTERM_ECHO:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                sys.exit(128 + signal.SIGTERM)

        before = signal.signal(signal.SIGTERM, remember)
        training_flag().value = True
        try:
            return super().train()
        finally:
            training_flag().value = False
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    def stop_if_terminated(self, done: int) -> None:
        """Saves and exits if a process of the run got SIGTERM; ``done``
        iterations are complete."""
        if not self.distributed:
            self._stopping = self._terminated is not None
        elif not self._stopping and done % SIGTERM_POLL_INTERVAL == 0:
            flag = torch.tensor(int(self._terminated is not None))
            all_reduce(flag, 'max')  # all save together, or wait forever
            self._stopping = bool(flag)
        if not self._stopping or self._accumulated():
            return
        path = Path(self.work_dir, f'iter_{done}.pth')
        self.save_checkpoint(self.work_dir, path.name, by_epoch=False,
                             meta=dict(epoch=self.epoch, iter=done))
        self.logger.warning(f'SIGTERM: saved {path}; continue with --resume')
        sys.exit(128 + signal.SIGTERM)

    def save_postponed(self, done: int) -> None:
        """Saves the checkpoint that waited for the optimizer's step; ``done``
        iterations are complete."""
        if self._postponed and not self._accumulated():
            save, self._postponed = self._postponed, None
            save.keywords['meta'].update(epoch=self.epoch, iter=done)
            save()

    def _accumulated(self) -> bool:
        """Whether there are gradients that a step will still use."""
        return (hasattr(self.optim_wrapper, 'optimizer')  # one, and built
                and not self.optim_wrapper.should_update()
                and not self.train_loop.stop_training)

    def restore_position(self) -> None:
        """Restores data position and random state; called last before
        training."""
        loop, loader = self.train_loop, self.train_dataloader
        sampler = loader.batch_sampler
        if isinstance(sampler, SeededBatchSampler):
            sampler.epoch, sampler.start = loop.epoch, self._skipped
            if isinstance(loop, IterBasedTrainLoop):
                # A new one, as the loop's has begun. The loop skips again:
                batches = type(loop.dataloader_iterator)(loader)
                if hasattr(batches, 'skip_iter'):  # in the onedl forks
                    batches.skip_iter = lambda count: None
                elif digit_version(mmengine.__version__) >= (0, 10, 3):
                    batches = chain(repeat(None, loop.iter), batches)
                loop.dataloader_iterator = batches
        name = type(getattr(sampler, 'sampler', sampler)).__name__
        if name not in RESTARTING:
            self.logger.warning(
                f'resuming with {name}, which may draw other samples than in '
                'an uninterrupted run; these draw the same: '
                f'{", ".join(RESTARTING)}')
        states = self._meta.get('rng') or []
        if len(states) == self.world_size:
            set_rng_state(states[self.rank])
        else:
            self.logger.warning(
                f'the checkpoint has random states of {len(states)} processes '
                f'and not of {self.world_size}: resuming with new ones')
        if self._validation_is_due():
            self.val_loop.run()

    def _resumed_batch(self) -> int:
        """Number of batches to skip, of the epoch or of the whole run if it
        counts iterations."""
        loop, batches = self.train_loop, len(self.train_dataloader)
        if isinstance(loop, IterBasedTrainLoop):
            return loop.iter
        saved = self._meta.get('batches')
        batch = loop.iter - loop.epoch * batches
        if saved in (None, batches) and 0 <= batch <= batches:
            return batch
        # Iterations count as if all epochs had been of this length, as
        # mmengine takes them to be where it accumulates gradients.
        loop._iter = loop.epoch * batches
        self.logger.warning(
            f'an epoch has {batches} batches and not {saved}: resuming at the '
            f'beginning of epoch {loop.epoch + 1}')
        return 0

    def _validation_is_due(self) -> bool:
        """Checkpoints are written before the validation of their epoch, and
        again after it if the score is the best."""
        loop = self.train_loop
        if self.val_loop is None or self._meta.get('validated'):
            return False
        loop._decide_current_val_interval()
        done, last = loop.iter, loop.max_iters
        if not isinstance(loop, IterBasedTrainLoop):
            if self._skipped:  # within the next epoch
                return False
            done, last = loop.epoch, loop.max_epochs
        return done >= max(loop.val_begin, 1) and (
            done % loop.val_interval == 0 or done == last)


class _ResumeHook(Hook):
    """Calls the runner between mmengine's own steps."""

    priority = 'LOWEST'

    def before_train(self, runner: ResumableRunner) -> None:
        if runner.iter:
            runner.restore_position()

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None) -> None:
        runner.save_postponed(runner.iter + 1)
        runner.stop_if_terminated(runner.iter + 1)

    def after_val(self, runner) -> None:
        runner.save_postponed(runner.iter)  # if the run stops early
