"""Resuming from mmengine's own checkpoints with ``weights_only=True``."""
import numpy as np
import torch
from mmengine.logging import HistoryBuffer


def allow_history_buffer() -> None:
    """Lets torch open the training history in mmengine's checkpoints.

    Since torch 2.6 ``torch.load`` opens nothing but tensors and plain
    containers, and mmengine 0.10.7 stores its curves as ``HistoryBuffer``
    objects around NumPy arrays. These few classes only hold numbers, so they
    are allowed; everything else stays refused.
    """
    if not hasattr(torch.serialization, 'add_safe_globals'):
        return  # torch < 2.4 has no such list
    multiarray = getattr(np, '_core', None) or np.core
    reconstruct = multiarray.multiarray._reconstruct
    dtypes = [type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'i4', '?')]
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, *dtypes,
        # NumPy 2 writes the module as numpy._core, NumPy 1 as numpy.core.
        (reconstruct, 'numpy._core.multiarray._reconstruct'),
        (reconstruct, 'numpy.core.multiarray._reconstruct'),
    ])
