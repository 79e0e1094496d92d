"""Stops a run before numbers that are not finite reach its weights."""
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor

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

    Raises:
        NotFiniteError: It names the iteration, the images and the parameters.
    """

    _batch: Any = None

    def before_train(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
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
                         for p in group['params'] if p.grad is not None]
            loss = loss.float()  # one wait for both
            return not torch.isfinite(loss + total_norm(gradients).to(loss))
        return scaler.get_scale() < SMALLEST_SCALE or (
            wrapper.cast_dtype == torch.bfloat16 and not torch.isfinite(loss))

    def _describe(self, runner: Runner, loss: float) -> str:
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        bad = {
            'images': [value for key, value in walk(to_plain(self._batch))
                       if key.split('.')[-1] == 'img_path'],
            'gradients that are not finite': [
                name for name, p in model.named_parameters()
                if p.grad is not None and not p.grad.isfinite().all()],
            'weights that are not finite': [
                name for name, p in model.named_parameters()
                if not p.isfinite().all()]}
        return '\n  '.join([
            f'iteration {runner.iter + 1}, rank {get_rank()}: the loss '
            f'({loss:.4g}) or a gradient is not finite; stopped before the '
            'step. Look at the images, or lower the learning rate, lengthen '
            'the warm-up, clip gradients',
            *(f'{what}: {", ".join(names[:MAX_NAMED]) or "none"}'
              f'{", ..." * (len(names) > MAX_NAMED)} ({len(names)})'
              for what, names in bad.items())])
