"""Reads images and label maps as the loaders of mm* do, but strictly."""
import hashlib
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import (
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .report import Kind

IMAGE_MISSING = Kind(
    'images that are missing', 'the loader stops at the first', True)
IMAGE_UNREADABLE = Kind(
    'files that are no image', 'the loader stops at the first', True)
IMAGE_TRUNCATED = Kind(
    'images that are truncated or damaged', 'OpenCV 5 refuses them and the '
    'loader stops; OpenCV 4 fills the rest with grey and says nothing', True)
MAP_UNREADABLE = Kind(
    'label maps that are damaged or no image', 'the loader stops at the first',
    True)
MAP_CHANNELS = Kind(
    'label maps of several channels', 'mmseg takes one index a pixel; colours '
    'make the loss stop', True)
MAP_WRAPPED = Kind(
    'label maps with values that need more than 8 bits',
    'mmseg keeps the low 8 bits: another label, and says nothing', True)

Size = Tuple[int, int]  # (H, W)
Track = Callable[[Iterable, str, int], Iterable]
BATCH = 1024  # files that are handed to the threads at once
ORIENTATION = 0x0112  # EXIF


class DamageError(Exception):
    """A file cannot be used; of which kind the damage is, what is said of it,
    and whether it is an image or its label map."""

    def __init__(self, kind: Kind, reason: object,
                 about_map: bool = False) -> None:
        super().__init__(str(reason))
        self.kind = kind
        self.about_map = about_map


def read_size(path: str) -> Size:
    """(H, W) of an image as mmcv's loader would turn it, wholly decoded.

    Raises:
        DamageError: It is no image, or not whole.
    """
    content = _read(path, IMAGE_UNREADABLE, about_map=False)
    try:
        image = _decode(content)
    except (UnidentifiedImageError, Image.DecompressionBombError):
        return _decode_by_opencv(content)  # may read more formats, and larger
    except Exception as error:  # PIL's plugins raise almost anything
        raise DamageError(IMAGE_TRUNCATED, error) from None
    # PIL is content with a PNG that lacks its end, OpenCV is not; and OpenCV
    # decides how an image is turned.
    if image.format != 'JPEG' or image.getexif().get(ORIENTATION, 1) != 1:
        return _decode_by_opencv(content)
    return image.height, image.width


def read_map(path: str) -> np.ndarray:
    """Labels (H, W) uint8 as mmseg's loader has them, before
    ``reduce_zero_label``.

    Raises:
        DamageError: It is damaged, or what mmseg makes of it is not it.
    """
    content = _read(path, MAP_UNREADABLE, about_map=True)
    try:
        labels = np.array(_decode(content)).squeeze()
    except Exception as error:  # PIL's plugins raise almost anything
        raise DamageError(MAP_UNREADABLE, error, True) from None
    if labels.ndim > 2:
        raise DamageError(MAP_CHANNELS, f'shape {labels.shape}', True)
    if labels.size and (labels.max() > 255 or labels.min() < 0):
        raise DamageError(
            MAP_WRAPPED, f'values {labels.min()} to {labels.max()}', True)
    return labels.astype(np.uint8)


def is_file(path: str) -> bool:
    """Whether it is a plain file; a pipe or a device would block a reader."""
    try:
        return os.path.isfile(path)
    except ValueError:  # a null byte
        return False


def _read(path: str, unreadable: Kind, about_map: bool) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise DamageError(unreadable, error, about_map) from None


def _decode(content: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of EXIF, of large images
        image = Image.open(BytesIO(content))
        image.load()
    return image


def _decode_by_opencv(content: bytes) -> Size:
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8),
                             cv2.IMREAD_COLOR)
    except cv2.error:  # nothing in the file, or far too many pixels
        image = None
    if image is None:
        raise DamageError(IMAGE_UNREADABLE,
                          f'{len(content)} bytes that OpenCV does not decode')
    return image.shape[:2]


def run_each(function: Callable, items: Sequence, label: str, track: Track
             ) -> Iterator[tuple]:
    """Calls a function on each item in threads: decoders release the GIL.

    Args:
        function: Takes an item; may raise DamageError.
        items: The items.
        label: What is shown beside the progress.
        track: Shows it: takes the items, the label and how many there are.

    Yields:
        The items in order, each with its result or DamageError.
    """
    def guarded(item):
        try:
            return item, function(item)
        except DamageError as error:
            return item, error

    def results():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for start in range(0, len(items), BATCH):
                yield from pool.map(guarded, items[start:start + BATCH])

    yield from track(results(), label, len(items))


def choose(items: Sequence, sample: Optional[int]) -> Sequence:
    """All items, or as many as asked for, evenly spaced."""
    if sample is None or len(items) <= sample:
        return items
    return [items[i * (len(items) - 1) // (sample - 1)]
            for i in range(sample)]


def find_same(first: Iterable[str], second: Iterable[str], by_content: bool
              ) -> List[Tuple[str, str]]:
    """The files of the second list that are also in the first.

    Args:
        first: Paths.
        second: Paths.
        by_content: Compare what is in them too; only files of equal sizes
            are read. Else the resolved paths alone.

    Returns:
        Pairs of paths, of the first and the second list.
    """
    paths = {os.path.realpath(path): path for path in first if is_file(path)}
    seconds = [path for path in dict.fromkeys(second) if is_file(path)]
    same = {path: paths[os.path.realpath(path)] for path in seconds
            if os.path.realpath(path) in paths}
    if by_content:
        sizes = {os.path.getsize(path) for path in seconds}
        known: Dict[tuple, str] = {}
        for path in paths.values():
            if os.path.getsize(path) in sizes:
                known.setdefault(_fingerprint(path), path)
        sizes = {size for size, _ in known}
        for path in seconds:
            if path not in same and os.path.getsize(path) in sizes and (
                    other := known.get(_fingerprint(path))):
                same[path] = other
    return [(other, path) for path, other in same.items()]


def _fingerprint(path: str) -> Tuple[int, bytes]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:  # said elsewhere; equal to no other
        return -1, f'{path} {error}'.encode()
    return len(content), hashlib.sha256(content).digest()
