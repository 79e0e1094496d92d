"""Finds weights: a path, the authors' six files by name, or any URL."""
import contextlib
import hashlib
import http.client
import os
import re
import time
import uuid
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, Optional, Tuple
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from mmengine.logging import print_log
from rich.console import Console
from rich.progress import DownloadColumn, Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

SCHEME = 'mmiformer://'
RELEASE = 'https://huggingface.co/sail/dl2/resolve/main/iformer/'

# What `find` takes besides paths.
PREFIXES = (SCHEME, 'http://', 'https://')

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

ATTEMPTS = 3  # for a connection that drops
PAUSE = 2.  # seconds between them
TIMEOUT = 30.  # seconds without a byte
CHUNK = 1 << 18  # bytes
MOST = 64 << 30  # bytes; a server that declares no size could go on forever

# At the end of a URL: the sha256 by `#sha256=...`, or its first digits in the
# file's name, as PyTorch and OpenMMLab name theirs.
DIGEST = re.compile(r'#sha256=([0-9a-f]{64})$|-([0-9a-f]{8,64})\.pth\b')


class _Dropped(Exception):
    """The connection was lost before the whole file was there."""


class _Unreachable(_Dropped):
    """There was no answer at all, so asking again at once is of no use."""


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
        while chunk := file.read(CHUNK):
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
        with _lock(path) as part:
            if not path.is_file():
                _download(url, path, part, name)
                return path
    _check_sha256(path, name, 'Delete it to have it downloaded again', url)
    return path


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[Path]:
    """Waits until no other process downloads this file; gives the place where
    it grows. Without locks that is a place of our own, lost if we fail."""
    # The lock's file stays: another process may be waiting for this very one.
    with open(f'{path}.lock', 'w') as file:
        part = f'{path.name}.part'
        try:
            if not fcntl:
                raise OSError
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # some network file systems have none
            part = f'{path.name}.{uuid.uuid4().hex}.part'
        yield path.with_name(part)


def _download(url: str, path: Path, part: Path, name: Optional[str]) -> None:
    """Brings the file into the cache, once it has its size and sha256."""
    print_log(f'downloading {url} to {path}', logger='current')
    ways_out = f'or put {path.name} at {path} by hand'
    if name:
        ways_out += (f', or set the environment variable {SETTING} to a mirror '
                     'or to a folder that has it')
    try:
        _transfer(url, part)
    except ValueError:
        part.unlink(missing_ok=True)
        _origin(part).unlink(missing_ok=True)
        raise
    except HTTPError as error:
        answer = f'{url}: the server answers {error.code} {error.reason}'
        if error.code == 429 or error.code >= 500:
            raise ConnectionError(
                f'{answer}; try again later, {ways_out}') from None
        raise FileNotFoundError(
            f'{answer}; check the address, {ways_out}') from None
    except _Dropped as error:
        raise ConnectionError(
            f'{url} cannot be downloaded ({error}); check the network and '
            f'run the same again, {ways_out}') from None
    try:
        _check_sha256(part, name, f'It came from {url} and has been removed; '
                      'try another address' + f' by {SETTING}' * bool(name),
                      url)
    except ValueError:
        part.unlink()
        _origin(part).unlink(missing_ok=True)
        raise
    os.replace(part, path)
    _origin(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path) -> None:
    """Downloads what the part lacks; all of it if the file has changed.

    Raises:
        HTTPError: The server refuses.
        _Dropped: The connection was lost again and again; the part is kept.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response, start = _request(url, part)
            with response, part.open('ab' if start else 'wb') as file:
                if not start:  # now that the part is empty
                    _origin(part).write_text(f'{url}\n{_version(response)}')
                _copy(response, file, start, cache_path(url).name)
            return
        except _Dropped as error:
            if attempt == ATTEMPTS or isinstance(error, _Unreachable):
                raise
            print_log(f'{error}; trying again', logger='current')
            time.sleep(PAUSE)


def _request(url: str, part: Path) -> Tuple[http.client.HTTPResponse, int]:
    """Asks for the rest of the file if the part is of its present version.

    Returns:
        The answer, and how many bytes of the part come before it.
    """
    start = part.stat().st_size if part.is_file() else 0
    version = _version_of_part(url, part) if start else ''
    headers = {'User-Agent': 'mmiformer'}
    if version:
        headers.update({'Range': f'bytes={start}-', 'If-Range': version})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not version:  # 416: the part is too long
            raise
    except (OSError, http.client.HTTPException) as error:
        kept = f'; {start} bytes are kept' if version else ''
        raise _Unreachable(f'{getattr(error, "reason", error)}{kept}') from None
    else:
        _check_scheme(url, response)
        if response.status != 206 or not version:
            return response, 0
        # Some servers heed Range but not If-Range.
        span = response.headers.get('Content-Range', '')
        if (span.startswith(f'bytes {start}-')
                and _version(response) in ('', version)):
            return response, start
        response.close()
    part.unlink()
    return _request(url, part)


def _check_scheme(url: str, response: http.client.HTTPResponse) -> None:
    """A server may send on to another address, but not to another protocol;
    nor from https, which vouches for the sender, to one that does not."""
    found, asked = response.geturl(), urlparse(url).scheme
    if urlparse(found).scheme not in (asked, 'https'):
        response.close()
        raise ValueError(f'{url} sends on to {found}, which is refused: it '
                         f'is no {asked}')


def _version(response: http.client.HTTPResponse) -> str:
    """What changes with the file; empty if nothing is sure to."""
    tag = response.headers.get('ETag', '')
    if tag and not tag.startswith('W/'):  # weak tags do not vouch for bytes
        return tag
    return response.headers.get('Last-Modified', '')


def _version_of_part(url: str, part: Path) -> str:
    origin = _origin(part)
    if not origin.is_file():
        return ''
    known, _, version = origin.read_text().partition('\n')
    return version if known == url else ''


def _origin(part: Path) -> Path:
    """The file that says which version of which URL the part is of."""
    return part.with_name(f'{part.name}.origin')


def _copy(response: http.client.HTTPResponse, file: BinaryIO, done: int,
          title: str) -> None:
    """Appends an answer to a file of ``done`` bytes, and checks the size."""
    total = _whole_size(response, done)
    chunk = b'the first'
    # On a terminal a moving bar, in a log file its last state.
    with Progress(*Progress.get_default_columns(), DownloadColumn(),
                  console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total, completed=done)
        while chunk:
            try:
                chunk = response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _dropped(error, done, total) from None
            done += file.write(chunk)
            if max(done, total or 0) > MOST:
                raise ValueError(f'{title} is refused: the server has more '
                                 f'than {MOST} bytes')
            bar.update(task, completed=done)
    if total is not None and file.tell() != total:
        raise _dropped('the connection dropped', done, total)


def _whole_size(response: http.client.HTTPResponse,
                before: int) -> Optional[int]:
    """What the server declares, in bytes; None if it does not. Then torch
    has to notice that the end is missing."""
    size = response.headers.get('Content-Range', '').rpartition('/')[2]
    if size.isdigit():  # of the whole, however little this answer brings
        return int(size)
    length = response.headers.get('Content-Length')
    return before + int(length) if length else None


def _dropped(why: object, done: int, total: Optional[int]) -> _Dropped:
    return _Dropped(f'{why} after {done} of {total or "?"} bytes, which are '
                    'kept')
