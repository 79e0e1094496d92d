"""Stops a run whose numbers go bad, before they reach the weights."""
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import ApexOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from .position import get_rng_state

# Of a loss scale: 40 halvings from where GradScaler begins.
SMALLEST_SCALE = 2.**-24
MOST = dict(images=20, parameters=3)  # that a message names


class NotFiniteError(RuntimeError):
    """A loss or a gradient is not finite; the weights are as before."""


class FiniteHook(Hook):
    """Stops where the loss or a gradient is infinite or not a number.

    Both are looked at after the backward pass, before gradients are clipped
    and the optimizer steps. That takes a norm of the gradients and a wait for
    the GPU, once per backward pass; mmengine waits for it too, soon
    afterwards, when it notes the losses.

    Under a loss scale, gradients that overflow are normal: they are left to
    it, until it has fallen so far that nothing but such steps can have been.
    The loss is not scaled where it is computed, so in bf16, which overflows
    where fp32 does, one that is not finite stops at once. In fp16 it is left
    to the scale too.

    Raises:
        NotFiniteError: Says the iteration, losses, images and parameters,
            and where the state of the run was saved.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._rng: dict = {}
        self._losses: Dict[str, Any] = {}
        self._handle: Any = None

    def before_train(self, runner: Runner) -> None:
        wrapper = runner.optim_wrapper
        if not isinstance(wrapper, OptimWrapper) or isinstance(
                wrapper, ApexOptimWrapper):  # which skips steps by itself
            return
        backward = wrapper.backward

        # Functions, as a deep copy of the model must not copy the run.
        def checked(loss: Tensor, **kwargs) -> None:
            backward(loss, **kwargs)
            self._check(runner, loss.detach())

        def remember(model: nn.Module, inputs: tuple, outputs: Any) -> None:
            self._losses = outputs if isinstance(outputs, dict) else {}

        wrapper.backward = checked
        self._handle = unwrapped(runner).register_forward_hook(remember)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._batch, self._rng = data_batch, get_rng_state()

    def after_train(self, runner) -> None:
        if self._handle is not None:
            self._handle.remove()
            del runner.optim_wrapper.backward
        self.__init__()

    def _check(self, runner: Runner, loss: Tensor) -> None:
        scaler = getattr(runner.optim_wrapper, 'loss_scaler', None)
        if scaler is None or not scaler.is_enabled():
            gradients = [
                p.grad for group in runner.optim_wrapper.param_groups
                for p in group['params'] if has_gradient(p)]
            norms = torch._foreach_norm([loss, *gradients])
            norm = torch.stack([n.float() for n in norms]).norm()
            if not torch.isfinite(norm):  # the one wait
                self._stop(runner, loss, scaled=False)
        elif scaler.get_scale() < SMALLEST_SCALE or (
                runner.optim_wrapper.cast_dtype == torch.bfloat16
                and not torch.isfinite(loss)):
            self._stop(runner, loss, scaled=True)
        self._losses = {}

    def _stop(self, runner: Runner, loss: Tensor, scaled: bool) -> None:
        model, wrapper = unwrapped(runner), runner.optim_wrapper
        iteration = runner.iter + 1  # as the log counts
        losses = {'loss': loss.item()}
        if self._losses:
            losses = {name: value.item() for name, value in
                      model.parse_losses(self._losses)[1].items()}
        gradients = {name: parameter.grad for name, parameter
                     in model.named_parameters() if has_gradient(parameter)}
        bad = [name for name, gradient in gradients.items()
               if not gradient.isfinite().all()]
        spoilt = [name for name, parameter in model.named_parameters()
                  if not parameter.isfinite().all()]
        batch = plain(self._batch)
        suffix = f'_rank_{get_rank()}' if get_world_size() > 1 else ''
        path = Path(runner.work_dir, f'not_finite_iter_{iteration}{suffix}.pth')
        fault = save(dict(
            iteration=iteration, epoch=runner.epoch, seed=runner.seed,
            losses=losses, parameters=bad, batch=batch, rng=self._rng,
            state_dict=model.state_dict(), optimizer=wrapper.state_dict(),
            config=runner.cfg.pretty_text), path)

        named = ', '.join(f'{name} {value:.4g}'
                          for name, value in losses.items())
        if not np.isfinite(losses['loss']):
            what = f'the loss is not finite ({named})'
        else:
            what = f'the norm of the gradients is not finite ({named})'
        if scaled and wrapper.loss_scaler.get_scale() < SMALLEST_SCALE:
            what += ', and mixed precision has skipped steps until its loss ' \
                    f'scale was {wrapper.loss_scaler.get_scale():.1g}'
        where = f', rank {get_rank()}' if suffix else ''
        images = [*find_image_paths(batch)]
        state = ('weights before the step, optimizer, batch, random numbers: '
                 f'{path}' if fault is None else
                 f'could not be saved to {path} ({fault})')
        raise NotFiniteError('\n  '.join([
            f'iteration {iteration}{where}: {what}; stopped before the step',
            f'images: {listing(images, MOST["images"]) or "no paths"}',
            f'gradients that are not finite: {len(bad)} of {len(gradients)}'
            + (f': {listing(bad, MOST["parameters"])}' if bad else ''),
            *([f'weights that were so before: {len(spoilt)}: '
               f'{listing(spoilt, MOST["parameters"])}'] if spoilt else []),
            f'state: {state}',
            f'what helps: {advice(wrapper)}']))


def advice(wrapper: OptimWrapper) -> str:
    """What to try, of that what is not yet done."""
    parts = ['look at the images and their annotations '
             '(tools/check_dataset.py)',
             'a lower learning rate (optim_wrapper.optimizer.lr)',
             'a longer warm-up (param_scheduler)']
    if not wrapper.clip_grad_kwargs:
        parts.append('clipped gradients '
                     '(optim_wrapper.clip_grad.max_norm=1.0)')
    if getattr(wrapper, 'cast_dtype', torch.bfloat16) != torch.bfloat16:
        parts.append('bf16 in place of fp16 (optim_wrapper.dtype=bfloat16)')
    return '; '.join(parts) + '; then go on with --resume'


def unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


def has_gradient(parameter: nn.Parameter) -> bool:
    """Whether it has one that a norm can be taken of."""
    gradient = parameter.grad
    return gradient is not None and not gradient.is_sparse


def save(content: dict, path: Path) -> Optional[str]:
    """Writes a file whole or not at all; returns why it could not."""
    scratch = path.with_name(f'.{path.name}.part')
    try:
        torch.save(content, scratch)
        os.replace(scratch, path)
    except (OSError, RuntimeError) as error:  # the latter of torch's writer
        scratch.unlink(missing_ok=True)
        return str(error).splitlines()[0]
    return None


def plain(value: Any) -> Any:
    """The same in tensors, numbers, strings, lists and dicts alone, which
    load with ``weights_only=True``. Of others their ``repr``."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, BaseDataElement):
        return {name: plain(item) for name, item in value.all_items()}
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        try:
            return torch.from_numpy(value.copy())
        except TypeError:  # strings, objects
            return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    for kind in (bool, int, float, str):  # not what derives from them
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    for name in ('tensor', 'masks'):  # of mmdet's boxes and masks
        if hasattr(value, name):
            return plain(getattr(value, name))
    return repr(value)


def find_image_paths(batch: Any) -> Iterator[str]:
    """What data samples call ``img_path``, at any depth of a plain batch."""
    if isinstance(batch, dict):
        if isinstance(path := batch.get('img_path'), str):
            yield path
        batch = [*batch.values()]
    if isinstance(batch, list):
        for item in batch:
            yield from find_image_paths(item)


def listing(names: List[str], most: int) -> str:
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + rest
