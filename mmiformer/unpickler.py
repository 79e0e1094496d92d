"""Reads checkpoints without running code from them.

mmengine 0.10.7 stores training curves as ``HistoryBuffer`` objects around
NumPy arrays, and metrics as NumPy numbers. While a file is read each of them
is a :class:`Record`, which does nothing; :func:`restore` builds the real ones
from what is proved to be numbers.
"""
import pickle
import re
import tarfile
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import Counter, OrderedDict
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, SimpleNamespace
from typing import Any, Dict, Optional

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

NUMBERS = re.compile(r'[biufc?]\d*')  # codes of NumPy's dtypes
METHODS = ('min', 'max', 'mean', 'current')


class Record:
    """The arguments and the state with which a file builds an object."""

    def __new__(cls, *args: Any) -> 'Record':  # a file may skip __init__
        self = super().__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state


class History(Record):
    """The record of a HistoryBuffer."""


class Array(Record):
    """The record of an array, with the arguments of ``_reconstruct``."""


class DType(Record):
    """The record of a dtype."""


class Scalar(Record):
    """The record of a NumPy number; its arguments are a dtype and bytes."""


def _method(owner: Any, name: str) -> None:
    """In place of ``getattr``, for the methods in a pickled HistoryBuffer."""
    if owner is not History or name not in METHODS:
        raise pickle.UnpicklingError(f'getattr({owner!r}, {name!r})')


BUFFER = f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}'
# What a file may name beside tensors. NumPy 2 writes the module as
# numpy._core, NumPy 1 as numpy.core.
ALLOWED: Dict[str, Any] = {
    BUFFER: History, 'numpy.ndarray': Array, 'numpy.dtype': DType,
    'builtins.getattr': _method,
    **{f'numpy.{core}.multiarray.{name}': kind
       for name, kind in dict(_reconstruct=Array, scalar=Scalar).items()
       for core in ('_core', 'core')}}


def restore(value: Any, seen: Optional[dict] = None) -> Any:
    """The content of a file with plain containers and without records.

    Raises:
        UnpicklingError: A record holds something else than numbers.
    """
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)][0]
    if isinstance(value, Record):
        return _build(value, seen)
    if isinstance(value, Mapping):
        kind = next((kind for kind in (Counter, OrderedDict)
                     if isinstance(value, kind)), dict)
        result = kind()
        seen[id(value)] = result, value
        for key in dict.keys(value):
            result[restore(key, seen)] = restore(
                dict.__getitem__(value, key), seen)
        if '_metadata' in getattr(value, '__dict__', {}):  # of a state dict
            result._metadata = restore(vars(value)['_metadata'], seen)
        return result
    if type(value) is list:
        result = []
        seen[id(value)] = result, value
        result.extend(restore(item, seen) for item in value)
        return result
    if type(value) is tuple:
        return tuple(restore(item, seen) for item in value)
    return value


def _build(record: Record, seen: dict) -> Any:
    """The object of a record."""
    try:
        if isinstance(record, DType):
            code, order = record.args[0], record.state[1]
            if not NUMBERS.fullmatch(code) or order not in ('<', '>', '|', '='):
                raise ValueError(f'dtype {code!r}')
            return np.dtype(code).newbyteorder(order)
        if isinstance(record, Scalar):
            dtype, data = (restore(item, seen) for item in record.args)
            return np.frombuffer(_bytes(data), dtype)[0]
        if isinstance(record, Array):
            _, shape, dtype, fortran, data = record.state
            array = np.frombuffer(_bytes(data), restore(dtype, seen))
            return array.reshape(shape, order='F' if fortran else 'C').copy()
        log, count = (restore(record.state[name], seen) for name in (
            '_log_history', '_count_history'))
        return HistoryBuffer(log, count, int(record.state['max_length']))
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError,
            ValueError) as error:
        raise pickle.UnpicklingError(
            f'Can only build numbers: {type(record).__name__}: {error}'
            ) from None


def _bytes(data: Any) -> bytes:
    if type(data) is not bytes:
        raise ValueError(f'{type(data).__name__} for bytes')
    return data


def load(path: str, map_location: Any) -> Any:
    """As ``torch.load(weights_only=True)``, for torch before 2.6, which knows
    no list of allowed names and has holes there. It uses functions of those
    versions that will not change any more, and nothing of the process.

    Raises:
        UnpicklingError: The file names what is not allowed.
    """
    from torch import serialization
    with open(path, 'rb') as file:
        if serialization._is_zipfile(file):
            with serialization._open_zipfile_reader(file) as archive:
                if serialization._is_torchscript_zip(archive):
                    raise pickle.UnpicklingError('Cannot use TorchScript')
                return serialization._load(
                    archive, map_location, _module(_record_sizes(path)),
                    encoding='utf-8')
        if tarfile.is_tarfile(path):
            raise pickle.UnpicklingError('Cannot use a tar file')
        file.seek(0)
        return serialization._legacy_load(
            file, map_location, _module(None), encoding='utf-8')


def _record_sizes(path: str) -> Dict[str, int]:
    """Bytes of each storage in a zip file, by its key."""
    sizes: Dict[str, int] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except NotImplementedError as error:  # another version of the format
        raise pickle.UnpicklingError(str(error)) from None
    for info in files:
        key = info.filename.rpartition('/data/')[2]
        sizes[key] = min(info.file_size, sizes.get(key, info.file_size))
    return sizes


def _module(sizes: Optional[Dict[str, int]]) -> SimpleNamespace:
    """What torch uses of the module pickle."""
    from torch._weights_only_unpickler import _get_allowed_globals
    known = {**_get_allowed_globals(), 'collections.Counter': Counter,
             'builtins.set': set, 'builtins.complex': complex,
             'builtins.bytearray': bytearray, 'torch.device': torch.device,
             '_codecs.encode': _encode, **ALLOWED}

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

        def load_binpersid(self) -> None:
            """torch reads as many bytes as a file asks for, from there on."""
            if sizes is not None:
                _, kind, key, _, count = self.stack[-1]
                dtype = getattr(kind, 'dtype', torch.uint8)
                size = count * torch.empty(0, dtype=dtype).element_size()
                if not 0 <= size <= sizes.get(key, 0):
                    raise pickle.UnpicklingError(f'storage {key}: {size} B')
            super().load_binpersid()

        dispatch[pickle.BUILD[0]] = load_build
        dispatch[pickle.BINPERSID[0]] = load_binpersid

    return SimpleNamespace(
        __name__='pickle', Unpickler=Unpickler,
        load=lambda file, **kwargs: Unpickler(file, **kwargs).load())


def _encode(text: str, encoding: str) -> bytes:
    """The one codec by which bytes are pickled."""
    if encoding != 'latin1':
        raise pickle.UnpicklingError(f'Cannot use codec {encoding!r}')
    return text.encode(encoding)
