"""Checkpoints that open anywhere, and files that are written as a whole."""
import os
from collections.abc import Mapping
from contextlib import contextmanager
from inspect import isroutine
from pathlib import Path
from typing import Any, Iterator

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.structures import BaseDataElement

from ..backbone.hub import drop_code
from ..registry import HOOKS


@HOOKS.register_module()
class PlainCheckpointHook(Hook):
    """Keeps classes of mmengine and NumPy out of checkpoints.

    They then open with ``torch.load(path, weights_only=True)`` in any process.
    When a run resumes, the training history is turned back into mmengine's
    ``HistoryBuffer``, and a config in ``meta``, which mmengine would run as a
    program, is dropped.
    """

    priority = 'LOWEST'  # after hooks that add something

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for key in {'meta', 'message_hub', 'param_schedulers'} & {*checkpoint}:
            checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        drop_code(checkpoint)
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, value in scalars.items():
            if isinstance(value, dict):
                scalars[name] = HistoryBuffer(
                    value['log'].cpu().numpy(), value['count'].cpu().numpy(),
                    value['max_length'])


def to_plain(value: Any) -> Any:
    """The same in tensors, numbers, strings, lists, tuples and dicts.

    Args:
        value: Of any type. A function of a dict is left out, such as that of
            OneCycleLR, which has it from its config; what else cannot be
            expressed becomes its ``repr``.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, HistoryBuffer):
        log, count = map(torch.from_numpy, value.data)
        return dict(log=log, count=count, max_length=value.max_length)
    if isinstance(value, BaseDataElement):
        value = dict(value.all_items())
    if isinstance(value, Mapping):
        return {to_plain(key): to_plain(item)
                for key, item in value.items() if not isroutine(item)}
    if isinstance(value, (list, tuple)):
        items = map(to_plain, value)
        return tuple(items) if isinstance(value, tuple) else list(items)
    if isinstance(value, np.ndarray):
        if value.dtype.kind in 'biufc':
            return torch.from_numpy(value.copy())
        return to_plain(value.tolist())  # strings, objects
    if isinstance(value, np.generic):
        return to_plain(value.item())
    for kind in (bool, int, float, str):  # not a class derived from them
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    for name in ('tensor', 'masks'):  # of mmdet's boxes and masks
        if hasattr(value, name):
            return to_plain(getattr(value, name))
    return repr(value)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which gets the name ``path`` when it is
    complete and on the disk, and is removed after an error."""
    scratch = path.with_name(f'.{path.name}.part')
    try:
        yield scratch
        with open(scratch, 'r+b') as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
