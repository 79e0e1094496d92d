"""Finds weights: a path, the authors' six files by name, or any URL."""
import hashlib
import os
import pickle
import re
from pathlib import Path
from typing import Any, Dict, Mapping, Optional
from urllib.error import HTTPError
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from . import download
from .bounds import check_bounds, zipped
from .safe_load import GUARDED, allow_history_buffer, drop_code
from .weights import WRAPPERS, unwrap

SCHEME = 'mmiformer://'
RELEASE = 'https://huggingface.co/sail/dl2/resolve/main/iformer/'

# What `find` takes besides paths.
PREFIXES = (SCHEME, 'http://', 'https://')

# How to convert a file that needs full unpickling.
RESAVE = ('where you trust it as you trust a program, re-save it: '
          "torch.save(torch.load(path, weights_only=False)['state_dict'], "
          'new_path)')

# The one setting: where the six files are instead, a URL or a local folder.
SETTING = 'MMIFORMER_WEIGHTS'

# The authors' six files with their sha256, where one is known. The authors
# publish none; the only one is a third party's, and unverified.
SHA256: Dict[str, Optional[str]] = {
    'iformer_small':
    'b95bcc4ef2262d02b75b2dd81f5b837f3703dd324426508a6be6c5398becfa4e',
    'iformer_base': None,
    'iformer_large': None,
    'iformer_small_384': None,
    'iformer_base_384': None,
    'iformer_large_384': None,
}

# At the end of a URL: the sha256 by `#sha256=...`, or its first digits in the
# file's name, as PyTorch and OpenMMLab name theirs.
DIGEST = re.compile(r'#sha256=([0-9a-f]{64})$|-([0-9a-f]{8,64})\.pth\b')


def find(source: str) -> Path:
    """A checkpoint's local path, downloaded and verified if need be.

    Args:
        source: One of the authors' six files, as ``mmiformer://iformer_small``
            or by its URL at the authors'; any other ``http(s)`` URL; a path.

    Returns:
        Where the file is. What is downloaded goes to torch hub's cache; from
        there, and from a folder in ``MMIFORMER_WEIGHTS``, it is used in place.

    Raises:
        FileNotFoundError: There is no such file, here or on the server.
        ConnectionError: The server cannot be reached, or the connection
            dropped too often; the next call goes on where this one ended.
        ValueError: The name is unknown, the URL has no file name, or the
            sha256 is wrong.
    """
    if name := _released_name(source):
        return _find_released(name)
    if _is_web(source):
        return _fetch(source)
    if '://' in source:
        raise ValueError(f'{source}: expected a path, an http(s) URL or '
                         f'{SCHEME}<name>')
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path.absolute()}')
    return path


def sha256(path: os.PathLike) -> str:
    """The sha256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while chunk := file.read(download.CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def cache_path(url: str) -> Path:
    """Where a downloaded checkpoint is kept: torch hub's cache.

    Raises:
        ValueError: The URL ends in no file name.
    """
    name = Path(urlparse(url).path).name
    if name in ('', '.', '..') or '\\' in name or '\0' in name:
        raise ValueError(f'{url}: the address ends in no file name')
    if (host := urlparse(url).netloc) and Path(name).stem in SHA256:
        # Another's file must not be taken for one of the authors' six.
        name = re.sub(r'[^\w.-]', '_', host) + f'-{name}'
    return Path(torch.hub.get_dir()) / 'checkpoints' / name


def _is_web(address: str) -> bool:
    return address.startswith(('http://', 'https://'))


def _released_name(source: str) -> Optional[str]:
    """Which of the authors' files is meant, by its name or its URL."""
    if source.startswith(SCHEME):
        name = source[len(SCHEME):]
        if name not in SHA256:
            raise ValueError(f'{source}: there are no such weights; choose '
                             f'from {SCHEME}' + ', '.join(SHA256))
        return name
    url = source.partition('?')[0]
    return next((name for name in SHA256 if url == f'{RELEASE}{name}.pth'),
                None)


def _find_released(name: str) -> Path:
    place = os.environ.get(SETTING) or RELEASE
    if _is_web(place):
        return _fetch(f'{place.rstrip("/")}/{name}.pth', name)
    path = Path(place).expanduser() / f'{name}.pth'
    if not path.is_file():
        raise FileNotFoundError(
            f'there is no {path.absolute()}: download {RELEASE}{name}.pth and '
            f'put it there, or change {SETTING}, which names this folder')
    _check_sha256(path, name, 'Put another in its place')
    return path


def _check_sha256(path: Path, name: Optional[str], way_out: str,
                  url: str = '') -> None:
    if not name and (match := DIGEST.search(url)):
        _check_digest(path, match[1] or match[2], url, way_out)
    expected = SHA256.get(name)
    if not expected or (found := sha256(path)) == expected:
        return
    raise ValueError(
        f'{path} is refused: its sha256 is {found} instead of {expected}, '
        f"a third party's figure for {name}.pth (the authors publish none). "
        f'{way_out}, or name the path of a file that you trust instead of '
        f'{SCHEME}{name}')


def _check_digest(path: Path, expected: str, url: str, way_out: str) -> None:
    if not (found := sha256(path)).startswith(expected):
        raise ValueError(
            f'{path} is refused: its sha256 is {found}, that of the address '
            f'{url} begins with {expected}. {way_out}, or, if you trust the '
            'file, download it by hand and name its path')


def _fetch(url: str, name: Optional[str] = None) -> Path:
    """Downloads a file unless it is in the cache.

    Processes that share a cache take turns; whoever comes second finds the
    file, or tries for itself if the first one failed. No barrier, so nobody
    waits for a process that has given up.

    Args:
        url: The file's address.
        name: Which of the six it is, if any.
    """
    path = cache_path(f'{name}.pth' if name else url)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with download.lock(path) as part:
            if not path.is_file():
                _download(url, path, part, name)
                return path
    _check_sha256(path, name, 'Delete it to have it downloaded again', url)
    return path


def _download(url: str, path: Path, part: Path, name: Optional[str]) -> None:
    """Brings the file into the cache, once it has its size and sha256."""
    print_log(f'downloading {url} to {path}', logger='current')
    ways_out = f'or put {path.name} at {path} by hand'
    if name:
        ways_out += (f', or set the environment variable {SETTING} to a mirror '
                     'or to a folder that has it')
    try:
        download.transfer(url, part, path.name)
        _check_sha256(part, name, f'It came from {url} and has been removed; '
                      'try another address' + f' by {SETTING}' * bool(name),
                      url)
    except HTTPError as error:
        answer = f'{url}: the server answers {error.code} {error.reason}'
        if error.code == 429 or error.code >= 500:
            raise ConnectionError(
                f'{answer}; try again later, {ways_out}') from None
        raise FileNotFoundError(
            f'{answer}; check the address, {ways_out}') from None
    except download.Dropped as error:
        raise ConnectionError(
            f'{url} cannot be downloaded ({error}); check the network and '
            f'run the same again, {ways_out}') from None
    except ValueError:
        download.discard(part)
        raise
    os.replace(part, path)
    download.discard(part)


def load_pretrained(model: nn.Module, checkpoint: str,
                    prefix: Optional[str] = None) -> None:
    """Loads a checkpoint file into an IFormer; all of it or an error.

    Args:
        model: The backbone.
        checkpoint: Path, URL or name, see :func:`read_checkpoint`.
        prefix: Use only the names that begin with it; by default
            ``backbone.`` where there are such names.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As
            :func:`read_checkpoint` and :func:`adapt_state_dict` say.
    """
    content = read_checkpoint(checkpoint)
    if not isinstance(content, Mapping):
        raise ValueError(f'{checkpoint} holds a {type(content).__name__}, '
                         'not the weights of a model')
    try:
        if prefix:
            prefix = prefix.rstrip('.') + '.'
            wrapped = next((content[key] for key in WRAPPERS
                            if key in content), content)
            content = {key[len(prefix):]: value
                       for key, value in wrapped.items()
                       if str(key).startswith(prefix)}
        model.load_state_dict(unwrap(content))
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f'{checkpoint}: {error}') from None


def read_checkpoint(source: str, map_location: Any = 'cpu') -> Any:
    """Opens a checkpoint with ``weights_only=True``.

    Args:
        source: One of the released files (``mmiformer://iformer_small``), an
            ``http(s)`` URL or a path, see :func:`~.weights.find`; or any
            scheme that mmengine knows (``openmmlab://...``).
        map_location: Of ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file, here or on the server.
        ConnectionError: The server cannot be reached.
        ValueError: The file is damaged, is not the released one, or needs
            more than ``weights_only`` allows.
    """
    if '://' in source and not source.startswith(PREFIXES):
        return drop_code(
            CheckpointLoader.load_checkpoint(source, map_location))
    path = find(source)
    try:
        return _read(path, map_location)
    except ValueError:
        if '://' in source and path == cache_path(path.name):
            path.unlink()  # so that the next try downloads it again
        raise


# So mmengine's own load_from and Pretrained, and whatever else calls its
# loader, get the verified file too.
@CheckpointLoader.register_scheme((SCHEME, RELEASE), force=True)
def load_from_mmiformer(filename: str, map_location: Any = None) -> Any:
    """Opens a released file for mmengine, which gives the arguments."""
    return read_checkpoint(filename, map_location)


def _read(path: Path, map_location: Any) -> Any:
    allow_history_buffer()  # a fork's mmengine takes it back after its loads
    if not GUARDED and not zipped(path):
        raise ValueError(f'{path} is refused: it is no zipped file of torch. '
                         'Others are safe to open with torch 2.6 or later')
    try:
        check_bounds(path)
        return drop_code(
            torch.load(path, map_location=map_location, weights_only=True))
    except pickle.UnpicklingError as error:
        if match := re.search(
                r'(?:GLOBAL |global |Trying to \w+ |Can only build |getattr\()'
                r'[^\n]*', str(error)):
            raise ValueError(
                f'{path} is refused: it asks for more than tensors '
                f'({match[0][:200]}), which could run code from the file. Ask '
                f'its author for a plain state dict, or, {RESAVE}') from None
        damage = error
    except Exception as error:  # whatever the file's bytes have led to
        damage = error
    reason = (str(damage) or repr(damage)).splitlines()[0][:300]
    raise ValueError(
        f'{path} is damaged or no checkpoint, {path.stat().st_size} bytes '
        f'({reason}); download or copy it again')
