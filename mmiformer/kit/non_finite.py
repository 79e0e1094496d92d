"""Stops a run before numbers that are not finite reach its weights."""
from typing import Any, List

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import ApexOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from ..checkpoint import to_plain
from ..compat import total_norm
from ..config import walk

# The smallest loss scale: GradScaler's first, 2**16, halved 40 times.
SMALLEST_SCALE = 2.**-24
MAX_NAMED = 3  # images or parameters in a message


class NotFiniteError(RuntimeError):
    """A loss or a gradient is not finite; the weights are as before."""


@HOOKS.register_module(force=True)
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

    Wrappers other than DistributedDataParallel and Apex's optimizers, which
    skip steps by themselves, are not checked.

    Raises:
        NotFiniteError: It names the iteration, the images and the parameters.
    """

    def __init__(self) -> None:
        self._batch: Any = None

    def before_train(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        if (not isinstance(wrapper, OptimWrapper)
                or isinstance(wrapper, ApexOptimWrapper)
                or is_model_wrapper(runner.model)
                and not isinstance(runner.model, DistributedDataParallel)):
            return
        backward = type(wrapper).backward

        def checked(loss: Tensor, **kwargs) -> None:
            backward(wrapper, loss, **kwargs)
            if self._must_stop(wrapper, loss.detach()):
                raise NotFiniteError(self._describe(runner, loss.item()))

        wrapper.backward = checked

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._batch = data_batch

    def after_train(self, runner) -> None:
        vars(runner.optim_wrapper).pop('backward', None)
        self._batch = None

    def _must_stop(self, wrapper: OptimWrapper, loss: Tensor) -> bool:
        """Whether the gradients of ``loss`` must not be used."""
        scaler = getattr(wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            gradients = [p.grad for group in wrapper.param_groups
                         for p in group['params'] if has_dense_gradient(p)]
            loss = loss.float()  # one wait for both
            return not torch.isfinite(loss + total_norm(gradients).to(loss))
        return scaler.get_scale() < SMALLEST_SCALE or (
            wrapper.cast_dtype == torch.bfloat16 and not torch.isfinite(loss))

    def _describe(self, runner: Runner, loss: float) -> str:
        model, wrapper = runner.model, runner.optim_wrapper
        if is_model_wrapper(model):
            model = model.module
        parameters = dict(model.named_parameters())
        images = [value for key, value in walk(to_plain(self._batch))
                  if key.split('.')[-1] == 'img_path']
        lines = [
            f'iteration {runner.iter + 1}, rank {get_rank()}: the loss '
            f'({loss:.4g}) or a gradient is not finite; stopped before the '
            'step. What to try: docs/trouble.md of mmiformer',
            f'images: {summarize(images)}']
        for what, bad in (
                ('gradients', [name for name, p in parameters.items()
                               if has_dense_gradient(p)
                               and not p.grad.isfinite().all()]),
                ('weights', [name for name, p in parameters.items()
                             if not p.isfinite().all()])):
            lines.append(f'{what} that are not finite: {len(bad)} of '
                         f'{len(parameters)}: {summarize(bad)}')
        if getattr(wrapper, 'loss_scaler', None):
            lines.append(f'loss scale: {wrapper.loss_scaler.get_scale():.1g}')
        return '\n  '.join(lines)


def has_dense_gradient(parameter: torch.nn.Parameter) -> bool:
    """Whether the gradient exists and is dense."""
    gradient = parameter.grad
    return gradient is not None and not gradient.is_sparse


def summarize(names: List[str]) -> str:
    rest = len(names) - MAX_NAMED
    return (', '.join(names[:MAX_NAMED]) or 'none') + (
        f' and {rest} more' if rest > 0 else '')
