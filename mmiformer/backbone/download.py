"""Downloads a file whole: goes on where a connection dropped, and never joins
two versions."""
import contextlib
import http.client
import time
import uuid
from pathlib import Path
from typing import BinaryIO, Iterator, Optional, Tuple
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from mmengine.logging import print_log
from rich.console import Console
from rich.progress import DownloadColumn, Progress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

ATTEMPTS = 3  # for a connection that drops
PAUSE = 2.  # seconds between them
TIMEOUT = 30.  # seconds without a byte
CHUNK = 1 << 18  # bytes
MOST = 64 << 30  # bytes; a server that declares no size could go on forever


class Dropped(Exception):
    """The connection was lost before the whole file was there."""


class _Unreachable(Dropped):
    """There was no answer at all, so asking again at once is of no use."""


@contextlib.contextmanager
def lock(path: Path) -> Iterator[Path]:
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


def transfer(url: str, part: Path, title: str) -> None:
    """Downloads what the part lacks; all of it if the file has changed.

    Args:
        url: The file's address.
        part: Where it grows; beside it is kept of what version it is.
        title: Stands beside the progress.

    Raises:
        HTTPError: The server refuses.
        Dropped: The connection was lost again and again; the part is kept.
        ValueError: The server sends on to an address, or sends a size, that
            is refused.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response, start = _request(url, part)
            with response, part.open('ab' if start else 'wb') as file:
                if not start:  # now that the part is empty
                    _origin(part).write_text(f'{url}\n{_version(response)}')
                _copy(response, file, start, title)
            return
        except Dropped as error:
            if attempt == ATTEMPTS or isinstance(error, _Unreachable):
                raise
            print_log(f'{error}; trying again', logger='current')
            time.sleep(PAUSE)


def discard(part: Path) -> None:
    """Removes a part, and what is kept beside it."""
    part.unlink(missing_ok=True)
    _origin(part).unlink(missing_ok=True)


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


def _dropped(why: object, done: int, total: Optional[int]) -> Dropped:
    return Dropped(f'{why} after {done} of {total or "?"} bytes, which are '
                    'kept')
