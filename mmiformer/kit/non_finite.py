"""Stops a run before numbers that are not finite reach its weights."""
import logging
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import ApexOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint import to_plain, written_whole
from ..compat import total_norm
from ..config import walk
from .resume.rng import get_rng_state

# Of a loss scale: 40 halvings from where GradScaler starts.
SMALLEST_SCALE = 2.**-24
ZEROS = 10  # iterations in a row with nothing to learn, until that is said
MAX_NAMED = 3  # images or parameters in a message


class NotFiniteError(RuntimeError):
    """A loss or a gradient is not finite; the weights are as before."""


@HOOKS.register_module()
class NonFiniteHook(Hook):
    """Stops a run at a loss or a gradient that is infinite or not a number.

    Both are checked after the backward pass, before gradients are clipped and
    the optimizer steps. That costs a norm of the gradients and a wait for the
    GPU per backward pass; mmengine waits too when it logs the losses.

    With a loss scale, gradients that overflow are normal: they are left to
    the scaler until its scale falls below ``SMALLEST_SCALE`` (about 40 skipped
    steps in a row). The loss itself is not scaled where it is computed, so in
    bf16, which has the range of fp32, one that is not finite stops the run at
    once; in fp16 it is left to the scaler.

    A loss or a gradient that is exactly 0 in ``ZEROS`` iterations in a row,
    with which nothing is learned, is logged as a warning.

    Wrappers other than DistributedDataParallel and Apex's optimizers, which
    skip steps by themselves, are not checked.

    Raises:
        NotFiniteError: Names iteration, losses, images and parameters, and
            the file with the state of the run.
    """

    priority = 'LOWEST'  # what it remembers is what the iteration starts with

    def __init__(self) -> None:
        self._batch: Any = None
        self._rng: dict = {}
        self._losses: Dict[str, Any] = {}
        self._zeros = 0
        self._patches = ExitStack()  # undoes what before_train does

    def before_train(self, runner: Runner) -> None:
        self._patches.close()  # of a run that ended with another error
        wrapper = runner.optim_wrapper
        if (not isinstance(wrapper, OptimWrapper)
                or isinstance(wrapper, ApexOptimWrapper)
                or is_model_wrapper(runner.model)
                and not isinstance(runner.model, DistributedDataParallel)):
            return
        backward = wrapper.backward

        # Functions, as a deep copy of the model must not copy the run.
        def checked(loss: Tensor, **kwargs) -> None:
            backward(loss, **kwargs)
            self._check(runner, loss.detach())

        def remember(model: nn.Module, inputs: tuple, outputs: Any) -> None:
            self._losses = outputs if isinstance(outputs, dict) else {}

        wrapper.backward = checked
        self._patches.callback(vars(wrapper).pop, 'backward')
        handle = unwrapped(runner).register_forward_hook(remember)
        self._patches.callback(handle.remove)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._batch, self._rng = data_batch, get_rng_state()

    def after_train(self, runner) -> None:
        self._patches.close()
        self._batch, self._rng, self._losses = None, {}, {}

    def _check(self, runner: Runner, loss: Tensor) -> None:
        """Raises if the gradients of ``loss`` must not be used."""
        wrapper = runner.optim_wrapper
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            gradients = [p.grad for group in wrapper.param_groups
                         for p in group['params'] if has_dense_gradient(p)]
            size = loss.float()
            sizes = torch.stack([
                size, total_norm(gradients).to(size)]).tolist()
            stop = not all(map(math.isfinite, sizes))  # after the one wait
            zero = 0 in sizes
        else:
            zero = not loss
            stop = scaler.get_scale() < SMALLEST_SCALE or (
                wrapper.cast_dtype == torch.bfloat16
                and not torch.isfinite(loss))
        if stop:
            with self._patches:
                self._stop(runner, loss)
        self._zeros = self._zeros + 1 if zero else 0
        if self._zeros == ZEROS:
            print_log(
                f'the loss or every gradient was exactly 0 in the last {ZEROS} '
                'iterations: nothing is learned. tools/check_dataset.py tells '
                'whether the data is used; docs/trouble.md', 'current',
                logging.WARNING)
        self._losses = {}

    def _stop(self, runner: Runner, loss: Tensor) -> None:
        """Saves the state of the run, and raises."""
        model, wrapper = unwrapped(runner), runner.optim_wrapper
        iteration = runner.iter + 1  # as the log counts
        losses = {'loss': loss.item()}
        if self._losses:
            losses = {name: value.item() for name, value in
                      model.parse_losses(self._losses)[1].items()}
        parameters = dict(model.named_parameters())
        bad = [name for name, p in parameters.items()
               if has_dense_gradient(p) and not p.grad.isfinite().all()]
        nonfinite_weights = [name for name, p in parameters.items()
                             if not p.isfinite().all()]
        batch = to_plain(self._batch)
        state = dict(iteration=iteration, epoch=runner.epoch,
                     seed=runner.seed, losses=losses, parameters=bad,
                     batch=batch, rng=self._rng)
        rank, world_size = get_dist_info()
        if rank == 0:  # the others have the same
            state.update(state_dict=model.state_dict(),
                         optimizer=wrapper.state_dict(),
                         config=runner.cfg.pretty_text)
        suffix = f'_rank_{rank}' if world_size > 1 else ''
        path = Path(runner.work_dir, f'not_finite_iter_{iteration}{suffix}.pth')
        fault = save(state, path)

        what = ', '.join(f'{name} {value:.4g}'
                         for name, value in losses.items())
        images = [value for key, value in walk(batch)
                  if key.split('.')[-1] == 'img_path']
        lines = [
            f'iteration {iteration}, rank {rank}: a loss or gradient is not '
            f'finite ({what}); stopped before the step',
            f'images: {listing(images) or "no paths"}',
            f'gradients that are not finite: {len(bad)} of '
            f'{len(parameters)}: {listing(bad)}']
        if nonfinite_weights:
            lines.append('weights that already were not finite: '
                         f'{listing(nonfinite_weights)}')
        if getattr(wrapper, 'loss_scaler', None):
            lines.append(f'loss scale: {wrapper.loss_scaler.get_scale():.1g}')
        lines.append(f'{path} could not be written: {fault}' if fault else
                     f'state of the run: {path}')
        lines.append('what to try: docs/trouble.md')
        raise NotFiniteError('\n  '.join(lines))


def unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def has_dense_gradient(parameter: nn.Parameter) -> bool:
    """Whether the gradient exists and is dense."""
    gradient = parameter.grad
    return gradient is not None and not gradient.is_sparse


def save(content: dict, path: Path) -> Optional[str]:
    """Writes a file whole or not at all; returns why it could not."""
    try:
        with written_whole(path) as scratch:
            torch.save(content, scratch)
    except (OSError, RuntimeError) as error:  # the latter of torch's writer
        return str(error).splitlines()[0]
    return None


def listing(names: List[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ', '.join(names[:MAX_NAMED]) + (
        f' and {rest} more' if rest > 0 else '')
