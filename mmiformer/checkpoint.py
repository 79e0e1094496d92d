"""Checkpoints: found, opened without running code from them, and written so
that they open anywhere."""
import contextlib
import errno
import hashlib
import logging
import os
import re
from collections.abc import Mapping
from inspect import isroutine
from pathlib import Path
from typing import Any, Callable, Dict, Iterator
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import CheckpointLoader
from mmengine.structures import BaseDataElement

from .compat import load_tensors
from .unpickler import restore

# Functions that find the file of a source by its prefix; more may be added.
FINDERS: Dict[str, Callable[[str], Path]] = {}
WEB = ('http://', 'https://')
# The hub answers 401 where a repository does not exist.
NOT_FOUND_CODES = (401, 404)
# The first digits of a file's sha256 at the end of its name, as torch and
# OpenMMLab name theirs. Eight decimal digits are taken for a date.
DIGEST = re.compile(r'-(?=\d*[a-f])([0-9a-f]{8,64})\.pth$')

# Among torch's lines, the one that names what weights_only does not allow.
REFUSED = re.compile(r'(GLOBAL |Trying to |Can only |getattr\(|Cannot use |'
                     r'Unsupported operand )[^\n]{,200}')
FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
FORCE_NO = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def find(source: str) -> Path:
    """The local path of a checkpoint, which is downloaded if need be.

    Args:
        source: What begins with one of :data:`FINDERS`, any other ``http(s)``
            URL, or a path.

    Raises:
        FileNotFoundError: There is no such file, here or on the server.
        ConnectionError: The download failed.
        ValueError: The name is unknown, or the URL has no file name or
            another sha256.
    """
    for prefix, finder in FINDERS.items():
        if source.startswith(prefix):
            return finder(source)
    if source.startswith(WEB):
        return _download(source)
    if '://' in source:
        raise ValueError(f'{source}: expected a path, an http(s) URL or '
                         f'{", ".join(FINDERS)}')
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path.absolute()}')
    return path


def _download(url: str) -> Path:
    """Downloads to torch.hub's cache, unless the file is there."""
    name = Path(urlparse(url).path).name
    if name in ('', '.', '..'):
        raise ValueError(f'{url}: the address ends in no file name')
    digest = DIGEST.search(name)
    if not digest:  # the name alone may be that of another file
        name = f'{hashlib.sha256(url.encode()).hexdigest()[:8]}-{name}'
    path = Path(torch.hub.get_dir(), 'checkpoints', name)
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    print_log(f'downloading {url} to {path}', logger='current')
    try:
        torch.hub.download_url_to_file(
            url, str(path), digest[1] if digest else None)
    except URLError as error:
        missing = isinstance(error, HTTPError) and error.code in NOT_FOUND_CODES
        raise (FileNotFoundError if missing else ConnectionError)(
            f'{url} cannot be downloaded ({error}): check the address and the '
            f'network, or put the file at {path} by hand') from error
    except RuntimeError as error:
        raise ValueError(f'{url}: {error}, the first digits of its sha256: '
                         'check the address') from error
    return path


def read_checkpoint(source: str, map_location: Any = 'cpu') -> Mapping:
    """Opens a checkpoint; no code in it is run.

    Args:
        source: As :func:`find` takes it.
        map_location: Of ``torch.load``.

    Raises:
        FileNotFoundError, ConnectionError: As of :func:`find`.
        ValueError: The file is damaged, holds more than tensors and numbers,
            or no dict; or as of :func:`find`.
    """
    content = open_checkpoint(source, map_location)
    if not isinstance(content, Mapping):
        raise ValueError(f'{source} holds a {type(content).__name__}, not the '
                         'weights of a model')
    return content


def open_checkpoint(filename: str, map_location: Any = None) -> Any:
    """Opens what :func:`find` takes, for mmengine's loaders."""
    path = find(filename)
    try:
        content = restore(load_tensors(str(path), map_location))
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # torch has many for what a file may hold
        # Not of the disk, but for a seek outside of a cut file.
        if (getattr(error, 'errno', None) not in (None, errno.EINVAL)
                or 'memory' in str(error)):
            raise
        wanted = REFUSED.search(str(error))
        raise ValueError(
            f'{path} is damaged, or is refused since it holds more than '
            'tensors and numbers, which could run code '
            f'({wanted[0] if wanted else first_line(error)}; '
            f'{path.stat().st_size} bytes): remove '
            f'{path.resolve()} and download or copy it again, or ask its '
            'author for a plain state dict') from error
    return drop_code(content)


def first_line(error: BaseException) -> str:
    return (str(error) or repr(error)).splitlines()[0][:300]


def drop_code(checkpoint: Any) -> Any:
    """Removes the program that mmengine would run when it resumes.

    That is the config as text in ``meta['config']``, where old versions kept
    it; ``meta['cfg']`` of current ones is not run.
    """
    meta = checkpoint.get('meta') if isinstance(checkpoint, dict) else None
    if isinstance(meta, dict) and 'config' in meta:
        del meta['config']
        print_log('removed meta.config from the checkpoint: mmengine would '
                  'run it as a program', logger='current')
    return checkpoint


def force_weights_only() -> None:
    """Makes every ``torch.load`` of this process and its children refuse
    code, whoever calls it, unless the user has told torch otherwise; and
    makes mmengine open files and URLs as :func:`read_checkpoint` does."""
    CheckpointLoader.register_scheme(['', *WEB], open_checkpoint, force=True)
    if os.environ.get(FORCE_NO, '').lower() in ('1', 'y', 'yes', 'true'):
        print_log(f'{FORCE_NO} is set: loaders of other packages may run code '
                  'from checkpoints', 'current', logging.WARNING)
    else:
        os.environ[FORCE] = '1'


@contextlib.contextmanager
def opened_safely() -> Iterator[None]:
    """Makes mmengine open files and URLs as :func:`read_checkpoint` does, in
    a block."""
    schemes = CheckpointLoader._schemes.copy()
    CheckpointLoader.register_scheme(
        ['', *WEB], open_checkpoint, force=True)
    try:
        yield
    finally:
        CheckpointLoader._schemes = schemes


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


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yields a path to write to, which gets the name ``path`` when it is
    complete and on the disk, and is removed after an error."""
    scratch = path.with_name(f'.part.{path.name}')  # OpenCV reads suffixes
    try:
        yield scratch
        with open(scratch, 'r+b') as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
