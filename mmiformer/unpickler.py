"""Reads torch's files without running code from them, where torch itself
cannot: before 2.6 ``weights_only=True`` knows no list of allowed classes, and
a TorchScript file gets past it."""
import os
import pickle
import tarfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any, Dict
from unittest import mock

import torch


def load(path: str, map_location: Any, allowed: Dict[str, Any]) -> Any:
    """As ``torch.load``.

    Args:
        path: The file.
        map_location: As for ``torch.load``.
        allowed: What the file may name beside tensors, by its full path.

    Raises:
        UnpicklingError: The file names something else.
    """
    from torch._weights_only_unpickler import _get_allowed_globals
    known = {**_get_allowed_globals(), 'collections.Counter': Counter,
             'builtins.set': set, '_codecs.encode': _encode, **allowed}

    class Unpickler(pickle._Unpickler):
        """Finds only what is known, and changes no class or function."""
        dispatch = dict(pickle._Unpickler.dispatch)

        def find_class(self, module: str, name: str) -> Any:
            # Names of Python 2, as torch.save writes them.
            module, name = NAME_MAPPING.get((module, name), (
                IMPORT_MAPPING.get(module, module), name))
            if f'{module}.{name}' not in known:
                raise pickle.UnpicklingError(f'GLOBAL {module}.{name}')
            return known[f'{module}.{name}']

        def load_build(self) -> None:
            if isinstance(self.stack[-2],
                          (type, FunctionType, BuiltinFunctionType)):
                raise pickle.UnpicklingError('Can only build objects')
            super().load_build()

        dispatch[pickle.BUILD[0]] = load_build

    if tarfile.is_tarfile(path):
        _refuse()
    module = SimpleNamespace(
        __name__='pickle', Unpickler=Unpickler,
        load=lambda file, **kwargs: Unpickler(file, **kwargs).load())
    with mock.patch('torch.jit.load', _refuse), mock.patch.dict(
            os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD='0'):
        return torch.load(path, map_location=map_location,
                          pickle_module=module, weights_only=False)


def _refuse(*args, **kwargs) -> None:
    raise pickle.UnpicklingError('Cannot use a TorchScript or tar file')


def _encode(text: str, encoding: str) -> bytes:
    """The one codec by which bytes are pickled."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'Cannot use codec {encoding!r}')
    return text.encode(encoding)
