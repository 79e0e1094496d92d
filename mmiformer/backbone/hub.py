"""Finds and opens checkpoints: a path, a URL, or one of the authors' files.

No code in a file is run.
"""
import contextlib
import errno
import hashlib
import logging
import os
import pickle
import re
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Optional, Tuple
from unittest import mock
from urllib.error import HTTPError, URLError
from urllib.parse import urlparse

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import nn

from .compat import load_tensors
from .unpickler import restore
from .weights import unwrap

SCHEME = 'mmiformer://'
# The authors' files, and the arguments of IFormer that each was trained with.
RELEASED = {
    f'iformer_{arch}{suffix}': dict(arch=arch, pretrain_img_size=size)
    for suffix, size in (('', 224), ('_384', 384))
    for arch in ('small', 'base', 'large')}
REPO = 'sail/dl2'  # on the Hugging Face hub
RELEASE = f'https://huggingface.co/{REPO}/resolve/main/iformer/'
SETTING = 'MMIFORMER_WEIGHTS'  # a local folder that has the authors' files

WEB = ('http://', 'https://')
MISSING = (401, 404)  # the hub answers 401 where a repository does not exist
# The first digits of a file's sha256 at the end of its name, as torch and
# OpenMMLab name theirs. Eight decimal digits are taken for a date.
DIGEST = re.compile(r'-(?=\d*[a-f])([0-9a-f]{8,64})\.pth$')

# torch's words for a file that needs more than ``weights_only`` allows, and,
# among its RuntimeErrors, for a damaged one.
REFUSED = re.compile(r'(GLOBAL |Trying to (?!resize)|Can only |getattr\(|'
                     r'Cannot use |Unsupported operand 149)[^\n]*')
DAMAGED = re.compile(
    'PytorchStreamReader|unexpected EOF|Invalid magic|Invalid protocol|'
    'storage has wrong|Cannot use |inline_container|Trying to resize|'
    'Unknown saved id|hasRecord|record size|storage offset|'
    'Storage size calculation|setStorage')
FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
FORCE_NO = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


def find(source: str) -> Path:
    """The local path of a checkpoint, which is downloaded if need be.

    Args:
        source: One of the authors' files, as ``mmiformer://iformer_small`` or
            by its URL at the authors'; any other ``http(s)`` URL; a path.

    Raises:
        FileNotFoundError: There is no such file, here or on the server.
        ConnectionError: The download failed.
        ValueError: The name is unknown, or the URL has no file name or
            another sha256.
    """
    if name := _released_name(source):
        return _find_released(name)
    if source.startswith(WEB):
        return _download(source)
    if '://' in source:
        raise ValueError(f'{source}: expected a path, an http(s) URL or '
                         f'{SCHEME}<name>')
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f'there is no checkpoint {path.absolute()}')
    return path


def released(source: str) -> Tuple[str, Dict[str, Any]]:
    """What a checkpoint is called here, and which backbone it fits.

    Args:
        source: As :func:`find` takes it, or one of the authors' files by its
            bare name (``iformer_small``); a local file of such a name needs
            ``./`` before it.

    Returns:
        The source as :func:`find` takes it, and the arguments of
        :class:`~mmiformer.IFormer`; of any but the authors' files, none.

    Raises:
        ValueError: A name is none of the authors'.
    """
    if not {'/', os.sep, '.'} & set(source):
        source = f'{SCHEME}{source}'
    return source, RELEASED.get(_released_name(source), {})


def _released_name(source: str) -> Optional[str]:
    """Which of the authors' files is meant, by its name or URL."""
    if source.startswith(SCHEME):
        name = source[len(SCHEME):]
        if name not in RELEASED:
            raise ValueError(f'{source}: unknown weights; choose from '
                             f'{SCHEME}' + ', '.join(RELEASED))
        return name
    url = source.partition('?')[0]
    return next((name for name in RELEASED if url == f'{RELEASE}{name}.pth'),
                None)


def _find_released(name: str) -> Path:
    if folder := os.environ.get(SETTING):
        path = Path(folder).expanduser() / f'{name}.pth'
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no {path.absolute()}: download {RELEASE}{name}.pth '
                f'to it, or unset {SETTING}, which names this folder')
        return path
    from huggingface_hub import errors, hf_hub_download
    try:
        return Path(hf_hub_download(REPO, f'iformer/{name}.pth'))
    except (OSError, errors.HTTPError, RuntimeError) as error:
        if getattr(error, 'errno', None):  # a full disk, no permission
            raise
        cause = error
        if isinstance(error, errors.LocalEntryNotFoundError):
            cause = error.__cause__ or error  # why it has not been asked
        status = getattr(getattr(cause, 'response', None), 'status_code', 0)
        missing = status in MISSING or isinstance(
            cause, errors.OfflineModeIsEnabled)
        raise (FileNotFoundError if missing else ConnectionError)(
            f'{SCHEME}{name} cannot be downloaded from the Hugging Face hub '
            f'({_first_line(cause)}): check the network, set HF_ENDPOINT to a '
            f'mirror, or download {RELEASE}{name}.pth by hand and set '
            f'{SETTING} to its folder') from error


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
        missing = isinstance(error, HTTPError) and error.code in MISSING
        raise (FileNotFoundError if missing else ConnectionError)(
            f'{url} cannot be downloaded ({error}): check the address and the '
            f'network, or put the file at {path} by hand') from error
    except RuntimeError as error:
        raise ValueError(f'{url}: {error}, the first digits of its sha256: '
                         'check the address') from error
    return path


def read_checkpoint(source: str, map_location: Any = 'cpu') -> Any:
    """Opens a checkpoint; no code in it is run.

    Args:
        source: As :func:`find` takes it; or with any other scheme that
            mmengine knows (``openmmlab://...``), which mmengine opens.
        map_location: Of ``torch.load``.

    Raises:
        FileNotFoundError, ConnectionError: As of :func:`find`.
        ValueError: The file is damaged, or needs more than ``weights_only``
            allows; or as of :func:`find`.
    """
    if '://' in source and not source.startswith((SCHEME, *WEB)):
        with mock.patch.dict(os.environ, {FORCE: '1', FORCE_NO: '0'}):
            return drop_code(restore(
                CheckpointLoader.load_checkpoint(source, map_location)))
    return load_from_mmiformer(source, map_location)


# mmengine's load_from and Pretrained find the authors' files by name too.
@CheckpointLoader.register_scheme(SCHEME, force=True)
def load_from_mmiformer(filename: str, map_location: Any = None) -> Any:
    """Opens what :func:`find` takes, for mmengine's loaders."""
    path = find(filename)
    try:
        content = restore(load_tensors(str(path), map_location))
    except Exception as error:
        if not _is_damage(error):
            raise
        raise ValueError(_explain(path, error)) from error
    return drop_code(content)


def load_pretrained(model: nn.Module, checkpoint: str,
                    prefix: Optional[str] = None) -> None:
    """Loads a checkpoint into an IFormer: every tensor, or it raises.

    Args:
        model: The backbone.
        checkpoint: Path, URL or name, see :func:`read_checkpoint`.
        prefix: Of the backbone's names, see :func:`~.weights.unwrap`.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As of
            :func:`read_checkpoint` and :func:`~.weights.adapt_state_dict`.
    """
    content = read_checkpoint(checkpoint)
    if not isinstance(content, Mapping):
        raise ValueError(f'{checkpoint} holds a {type(content).__name__}, '
                         'not the weights of a model')
    try:
        model.load_state_dict(
            unwrap(content, prefix and prefix.rstrip('.') + '.'))
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from None


def _is_damage(error: Exception) -> bool:
    """Whether the content of the file is the reason; not memory, permissions,
    a device, or a name that this version of torch lacks."""
    if isinstance(error, OSError):
        return error.errno == errno.EINVAL  # a seek outside of a cut file
    if isinstance(error, RuntimeError):
        return DAMAGED.search(str(error)) is not None
    if isinstance(error, AttributeError):
        return not str(error).startswith('module ')
    return not isinstance(error, (MemoryError, ImportError, NameError))


def _explain(path: Path, error: Exception) -> str:
    wanted = REFUSED.search(str(error))
    if wanted and isinstance(error, (pickle.UnpicklingError, RuntimeError)):
        return (
            f'{path} is refused: it needs more than tensors and numbers '
            f'({wanted[0][:200]}), which could run code from the file. Ask '
            'its author for a plain state dict, or, where you trust it as you '
            'trust a program, re-save it: torch.save(torch.load(path, '
            "weights_only=False)['state_dict'], new_path)")
    return (f'{path} is damaged or no checkpoint, {path.stat().st_size} bytes '
            f'({_first_line(error)}): remove {path.resolve()} and download or '
            'copy it again')


def _first_line(error: BaseException) -> str:
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
    code, whoever calls it, and mmengine open files and URLs as
    :func:`read_checkpoint` does; unless the user has told torch otherwise."""
    if _is_set(FORCE_NO):
        print_log(
            f'{FORCE_NO} is set: loaders of other packages may run code '
            'from checkpoints', logger='current',
            level=logging.WARNING)
    else:
        os.environ[FORCE] = '1'
        CheckpointLoader.register_scheme(
            ['', *WEB], load_from_mmiformer, force=True)


@contextlib.contextmanager
def opened_safely() -> Iterator[None]:
    """Makes mmengine open files and URLs as :func:`read_checkpoint` does, in
    a block."""
    schemes = CheckpointLoader._schemes.copy()
    CheckpointLoader.register_scheme(
        ['', *WEB], load_from_mmiformer, force=True)
    try:
        yield
    finally:
        CheckpointLoader._schemes = schemes


def _is_set(variable: str) -> bool:
    """As torch reads it."""
    return os.environ.get(variable, '').lower() in ('1', 'y', 'yes', 'true')
