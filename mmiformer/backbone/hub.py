"""The authors' checkpoints by their names, and loading them whole."""
import os
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from mmengine.runner import CheckpointLoader
from torch import nn

from ..checkpoint import (
    FINDERS,
    NOT_FOUND_CODES,
    first_line,
    open_checkpoint,
    read_checkpoint,
)
from .weights import check_fit, unwrap

SCHEME = 'mmiformer://'
# The authors' files, and the arguments of IFormer that each was trained with.
RELEASED = {
    f'iformer_{arch}{suffix}': dict(arch=arch, pretrain_img_size=size)
    for suffix, size in (('', 224), ('_384', 384))
    for arch in ('small', 'base', 'large')}
REPO = 'sail/dl2'  # on the Hugging Face hub
RELEASE = f'https://huggingface.co/{REPO}/resolve/main/iformer/'
WEIGHTS_VARIABLE = 'MMIFORMER_WEIGHTS'  # a folder that has their files


def resolve_release(source: str) -> Tuple[str, Dict[str, Any]]:
    """Resolves the bare name of one of the authors' files.

    Args:
        source: As :func:`~mmiformer.checkpoint.find` takes it, or one of the
            authors' files by its bare name (``iformer_small``); a local file
            of such a name needs ``./`` before it.

    Returns:
        The source as ``find`` takes it, and the arguments of
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


def find_released(source: str) -> Path:
    """The local path of one of the authors' files, by its name or URL."""
    name = _released_name(source)
    if folder := os.environ.get(WEIGHTS_VARIABLE):
        path = Path(folder).expanduser() / f'{name}.pth'
        if not path.is_file():
            raise FileNotFoundError(
                f'there is no {path.absolute()}: download {RELEASE}{name}.pth '
                f'to it, or unset {WEIGHTS_VARIABLE}, which names this '
                'folder')
        return path
    from huggingface_hub import constants, hf_hub_download
    try:
        return Path(hf_hub_download(REPO, f'iformer/{name}.pth'))
    except Exception as error:  # also of the HTTP library, which has changed
        if getattr(error, 'errno', None):  # a full disk, no permission
            raise
        cause = error.__cause__ or error  # why the server gave nothing
        status = getattr(getattr(cause, 'response', None), 'status_code', 0)
        missing = status in NOT_FOUND_CODES or constants.HF_HUB_OFFLINE
        raise (FileNotFoundError if missing else ConnectionError)(
            f'{SCHEME}{name} cannot be downloaded from the Hugging Face hub '
            f'({first_line(cause)}): check the network, set HF_ENDPOINT to a '
            f'mirror, or download {RELEASE}{name}.pth by hand and set '
            f'{WEIGHTS_VARIABLE} to its folder') from error


def load_pretrained(model: nn.Module, checkpoint: str,
                    prefix: Optional[str] = None) -> None:
    """Loads a checkpoint into an IFormer: every tensor, or it raises.

    Args:
        model: The backbone.
        checkpoint: Path, URL or name, see
            :func:`~mmiformer.checkpoint.read_checkpoint`.
        prefix: What the backbone's names begin with, see
            :func:`~.weights.unwrap`.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As
            ``read_checkpoint`` and :func:`~.weights.check_fit` raise them.
    """
    weights = unwrap(
        read_checkpoint(checkpoint), prefix and prefix.rstrip('.') + '.')
    try:
        check_fit(model, weights)
    except ValueError as error:
        raise ValueError(f'{checkpoint}: {error}') from None
    model.load_state_dict(weights)


# mmengine's load_from and Pretrained find the authors' files by name too.
FINDERS.update({prefix: find_released for prefix in (
    SCHEME, *(f'{RELEASE}{name}.pth' for name in RELEASED))})
CheckpointLoader.register_scheme(SCHEME, open_checkpoint, force=True)
