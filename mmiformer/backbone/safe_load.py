"""Resuming from mmengine's own checkpoints with ``weights_only=True``."""
import os
import pickle
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

# Since this version torch.load opens nothing but tensors and plain containers
# unless told otherwise.
GUARDED = tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 6)


def allow_history_buffer() -> None:
    """Lets torch open the training history in mmengine's checkpoints.

    mmengine 0.10.7 stores its curves as ``HistoryBuffer`` objects around
    NumPy arrays, and metrics as NumPy numbers, which torch 2.6 and later
    refuse. These few classes only hold numbers, so they are allowed;
    everything else stays refused. May be called again and again.
    """
    if not GUARDED:
        return
    functions = {'_reconstruct': np.array(0).__reduce__()[0],
                 'scalar': np.float64(0).__reduce__()[0]}
    numbers = np.typecodes['AllInteger'] + np.typecodes['AllFloat'] + '?'
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype,
        *{type(np.dtype(code)) for code in numbers},
        # NumPy 2 writes the module as numpy._core, NumPy 1 as numpy.core.
        *((function, f'numpy.{core}.multiarray.{name}')
          for name, function in functions.items()
          for core in ('_core', 'core')),
        (_statistic, 'builtins.getattr'),
    ])


@contextmanager
def mmengine_history():
    """Lets ``torch.load(weights_only=True)`` open mmengine's checkpoints."""
    allow_history_buffer()
    yield


def _statistic(owner, name: str):
    """Stands in for ``getattr``, by which a HistoryBuffer names its methods;
    the real one would lead from any class to any code."""
    if owner is HistoryBuffer and name in ('min', 'max', 'mean', 'current'):
        return getattr(owner, name)
    raise pickle.UnpicklingError(
        f'Weights only load failed: getattr({owner!r}, {name!r}) is refused')


def force_weights_only() -> None:
    """Makes every ``torch.load`` of this process and its children safe, even
    where an installed mmengine asks for a full pickle."""
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'


def drop_code(checkpoint: Any) -> Any:
    """Takes out of a checkpoint what mmengine would execute.

    When it resumes, it runs ``meta['config']`` as Python, in which older
    tools kept the config; its own are in ``meta['cfg']``, never run.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and 'config' in meta:
        del meta['config']
        print_log('left out of the checkpoint: meta.config, a program that '
                  'mmengine would run', logger='current')
    return checkpoint
