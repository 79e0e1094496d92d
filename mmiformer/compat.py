"""All that differs between the supported versions of torch, 2.0 and later."""
from threading import Lock
from typing import Any, Optional, Sequence

import torch
from torch import Tensor, nn

from . import unpickler

LOCK = Lock()  # torch's list of allowed names is one for all threads
TORCH = tuple(map(int, torch.__version__.split('.')[:2]))
if TORCH < (2, 0):
    raise ImportError(f'mmiformer needs torch >= 2.0, found {torch.__version__}'
                      ': use it in a new environment')


def is_tracing() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is at work."""
    if TORCH >= (2, 3):
        from torch.compiler import is_compiling
    else:
        from torch._dynamo import is_compiling
    return is_compiling() or torch.jit.is_tracing()


def autocast_dtype(device_type: str) -> Optional[torch.dtype]:
    """The dtype of autocast on ``'cpu'`` or ``'cuda'``; None if it is off."""
    if TORCH >= (2, 4):
        on = torch.is_autocast_enabled(device_type)
        return torch.get_autocast_dtype(device_type) if on else None
    if device_type == 'cpu':
        on = torch.is_autocast_cpu_enabled()
        return torch.get_autocast_cpu_dtype() if on else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else (
        None)


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The 2-norm of all values together, a scalar."""
    if hasattr(nn.utils, 'get_total_norm'):
        return nn.utils.get_total_norm(tensors)
    norms = [torch.linalg.vector_norm(tensor) for tensor in tensors]
    return torch.linalg.vector_norm(torch.stack(norms))


def load_tensors(path: str, map_location: Any) -> Any:
    """``torch.load`` that runs no code from the file, for
    :func:`~.unpickler.restore`."""
    if TORCH < (2, 6):
        return unpickler.load(path, map_location)
    entries = [(item, name) for name, item in unpickler.ALLOWED.items()]
    with LOCK, torch.serialization.safe_globals(entries):
        return torch.load(path, map_location=map_location, weights_only=True)
