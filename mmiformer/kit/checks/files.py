"""Reads images and label maps as the loaders of mm* do, but strictly."""
import hashlib
import os
import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from . import kinds

Size = Tuple[int, int]  # (H, W)
# OpenCV before 5 fills what a JPEG lacks with grey.
FILLS_WITH_GREY = int(cv2.__version__.split('.')[0]) < 5
ORIENTATION = 0x0112  # a tag of EXIF
JPEG = ('JPEG', 'MPO')


class DamageError(Exception):
    """A file cannot be used; carries the Kind and the reason."""

    def __init__(self, kind: kinds.Kind, reason: object) -> None:
        super().__init__(str(reason))
        self.kind = kind


def read_size(path: str, loader: Callable) -> Size:
    """(H, W) of an image, wholly decoded.

    Args:
        path: The image.
        loader: The ``LoadImageFromFile`` of the data set's pipeline.

    Raises:
        DamageError: It is missing, no image, or not whole.
    """
    try:
        results = loader(dict(img_path=path))
    except FileNotFoundError:
        raise DamageError(kinds.IMAGE_MISSING, 'no such file') from None
    except Exception as error:  # decoders raise almost anything
        if reason := _find_truncation(path):
            raise DamageError(kinds.IMAGE_TRUNCATED, reason) from None
        raise DamageError(kinds.IMAGE_UNREADABLE, error) from None
    if results is None:
        raise DamageError(kinds.IMAGE_SKIPPED, 'ignore_empty')
    if FILLS_WITH_GREY and (reason := _find_truncation(path, JPEG)):
        raise DamageError(kinds.IMAGE_TRUNCATED, reason)
    return results['img'].shape[:2]


def find_turn(path: str, loader: Callable) -> int:
    """By how EXIF makes the loader turn or mirror an image: 2 to 8 as EXIF
    counts, 1 for not at all."""
    backend, color = (getattr(loader, name, None) for name in
                      ('imdecode_backend', 'color_type'))
    if backend not in (None, 'cv2', 'pillow') or color == 'unchanged' or (
            str(color).endswith('ignore_orientation')):
        return 1
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of EXIF, of large images
        with Image.open(path) as image:
            turn = image.getexif().get(ORIENTATION, 1)
        return turn if turn in range(2, 9) else 1
    return 1


def is_hidden(turn: int, size: Size) -> bool:
    """Whether an image had the same size without its EXIF turn."""
    return turn > 1 and (turn < 5 or size[0] == size[1])


def read_map(path: str, backend: str) -> np.ndarray:
    """Labels (H, W) uint8 as mmseg's loader has them, before
    ``reduce_zero_label``.

    Args:
        path: The label map.
        backend: ``imdecode_backend`` of the pipeline's LoadAnnotations.

    Raises:
        DamageError: It is missing or damaged, or read differently by mmseg.
    """
    from mmcv import imfrombytes  # installed where mmseg is
    try:
        labels = imfrombytes(Path(path).read_bytes(), flag='unchanged',
                             backend=backend).squeeze()
    except FileNotFoundError:
        raise DamageError(kinds.MAP_MISSING, 'no such file') from None
    except Exception as error:  # decoders raise almost anything
        raise DamageError(kinds.MAP_UNREADABLE, error) from None
    if labels.ndim > 2:
        raise DamageError(kinds.MAP_CHANNELS, f'shape {labels.shape}')
    if labels.size and (labels.max() > 255 or labels.min() < 0):
        raise DamageError(
            kinds.MAP_WRAPPED, f'values {labels.min()} to {labels.max()}')
    return labels.astype(np.uint8)


def _find_truncation(path: str, formats: Sequence[str] = ()) -> Optional[str]:
    """Why Pillow cannot read an image, of these formats or any, to its end;
    None if it can, or takes it for no image."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of EXIF, of large images
            image = Image.open(BytesIO(Path(path).read_bytes()))
            if not formats or image.format in formats:
                image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return None
    except Exception as error:  # its plugins raise almost anything
        return str(error) or repr(error)
    return None


def times(size: Tuple[int, ...]) -> str:
    """Width times height of (H, W), as people say it."""
    return 'x'.join(str(side) for side in size[::-1])


def find_same(first: Sequence[str], second: Sequence[str]
              ) -> List[Tuple[str, str]]:
    """Pairs of a file of the first list and one of the second that hold the
    same."""
    digests: List[Dict[bytes, str]] = [{}, {}]
    sizes = {os.path.getsize(path) for path in second if os.path.exists(path)}
    for paths, found in zip((first, second), digests):
        for path in paths:
            with suppress(OSError, ValueError):  # reported where it is decoded
                if os.path.getsize(path) in sizes:
                    content = Path(path).read_bytes()
                    found[hashlib.sha256(content).digest()] = path
    return [(digests[0][digest], path) for digest, path in digests[1].items()
            if digest in digests[0]]
