"""Random number generators of a process."""
import random

import numpy as np
import torch


def get_rng_state() -> dict:
    """The states of Python, NumPy, torch and the current GPU, in tensors and
    numbers, so that a checkpoint opens with ``weights_only=True``."""
    name, keys, *rest = np.random.get_state()
    return dict(
        python=random.getstate(),
        numpy=(name, torch.from_numpy(keys.astype(np.int64)), *rest),
        torch=torch.get_rng_state(),
        cuda=(torch.cuda.get_rng_state() if torch.cuda.is_initialized()
              else None))


def set_rng_state(state: dict) -> None:
    """Restores a state of :func:`get_rng_state`, whose tensors may be on a
    GPU, where loading the checkpoint has put them."""
    version, keys, gauss = state['python']
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())
