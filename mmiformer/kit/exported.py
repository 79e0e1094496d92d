"""Runs a file that ``mmiformer export`` has written.

Needs onnxruntime, NumPy and OpenCV, and Pillow where the file says so; nothing
else of this package, so this file may be copied into a program of yours.
"""
import json
import math
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

INTERPOLATION = dict(
    nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC, area=cv2.INTER_AREA, lanczos=cv2.INTER_LANCZOS4)

def open_session(path: Union[str, Path],
                 providers: Sequence[str] = ('CPUExecutionProvider', )) -> Any:
    """Opens a file in onnxruntime.

    Args:
        path: The file.
        providers: Of onnxruntime, in the order of preference.

    Raises:
        FileNotFoundError, ValueError: It is not there, or cannot be read.
        ImportError: onnxruntime is missing.
    """
    try:
        import onnxruntime
        return onnxruntime.InferenceSession(
            str(path), providers=list(providers))
    except ImportError as error:
        raise ImportError(f'{error.name} is missing: '
                          'pip install onnxruntime') from error
    except Exception as error:  # they have a class for each cause
        if not Path(path).is_file():
            raise FileNotFoundError(f'{path} does not exist') from None
        raise ValueError(f'{path}: {error}') from None


class ExportedModel:
    """A classifier, a segmentor or a backbone in an exported file.

    Args:
        path: The file.
        providers: Of onnxruntime, in the order of preference; the CPU by
            default.

    Attributes:
        task: ``'classification'``, ``'segmentation'`` or ``'backbone'``.
        classes: Names; empty for a backbone.
        palette: ``[red, green, blue]`` of each class; None if not known.
        session: onnxruntime's.

    Raises:
        ValueError: The file is not one of ``mmiformer export``.
        FileNotFoundError: There is none.
        ImportError: onnxruntime is missing.
    """

    def __init__(self, path: Union[str, Path],
                 providers: Sequence[str] = ('CPUExecutionProvider', )
                 ) -> None:
        self.session = open_session(path, providers)
        meta = self.session.get_modelmeta().custom_metadata_map
        if 'resize' not in meta:
            raise ValueError(f'{path} does not say how to prepare an image: '
                             'it is not a file of mmiformer export')
        self.task: str = meta['task']
        self.classes: List[str] = json.loads(meta.get('classes', '[]'))
        self.palette: Optional[List[List[int]]] = json.loads(
            meta.get('palette', 'null'))
        self.threshold = float(meta.get('threshold', 0.5))
        self._steps: List[Dict[str, Any]] = json.loads(meta['resize'])

    def __call__(self, image: np.ndarray
                 ) -> Union[np.ndarray, List[np.ndarray]]:
        """Predicts an image.

        Args:
            image: ``(H, W, 3)`` uint8 in BGR order, as cv2.imread returns it.

        Returns:
            The scores ``(K, )`` float32 of a classifier, the label map
            ``(H, W)`` of a segmentor (uint8, or uint16 above 256 classes), the
            maps ``(1, C_i, H_i, W_i)`` of a backbone.

        Raises:
            ValueError: It is no such image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f'an image of shape {image.shape} and dtype '
                             f'{image.dtype}: expected (H, W, 3) uint8')
        outs = self.session.run(None, {'image': self.prepare(image)})
        if self.task == 'backbone':
            return outs
        logits = outs[0][0]
        if self.task == 'classification':
            scores = np.exp(logits - logits.max())
            return scores / scores.sum()
        return self._labels(logits, image.shape[:2])

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """The file's input, ``(1, 3, H', W')`` uint8 in RGB order, for an
        image ``(H, W, 3)`` in BGR order: the size rule of the file."""
        for step in self._steps:
            arguments = dict(step)
            image = STEPS[arguments.pop('step')](image, **arguments)
        return np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)[None])

    def _labels(self, logits: np.ndarray, size: Tuple[int, int]
                ) -> np.ndarray:
        """``(K, H', W')`` to the label map of a size. A class at a time: all
        of them at the size of a photograph would fill the memory."""
        if len(logits) == 1:
            return (_resize_map(logits[0], size) > math.log(
                self.threshold / (1 - self.threshold))).astype(np.uint8)
        best = np.full(size, -np.inf, np.float32)
        labels = np.zeros(size, np.uint8 if len(logits) <= 256 else np.uint16)
        for label, values in enumerate(logits):
            values = _resize_map(values, size)
            higher = values > best
            best[higher], labels[higher] = values[higher], label
        return labels


def _resize_map(values: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    """``(h, w)`` float32 to a size, as torch does it: bilinear between cell
    centres."""
    if values.shape == size:
        return values
    return cv2.resize(values, size[::-1], interpolation=cv2.INTER_LINEAR)


def resize(image: np.ndarray, size: Sequence[int],
           interpolation: str = 'bilinear', backend: str = 'cv2'
           ) -> np.ndarray:
    """To ``(height, width)``."""
    if image.shape[:2] == tuple(size):
        return image
    if backend == 'pillow':  # of a smaller image it averages, unlike OpenCV
        from PIL import Image
        method = getattr(Image.Resampling, interpolation.upper())
        return np.array(Image.fromarray(image).resize(size[::-1], method))
    return cv2.resize(image, size[::-1],
                      interpolation=INTERPOLATION[interpolation])


def resize_inside(image: np.ndarray, size: Sequence[int], **how: str
                  ) -> np.ndarray:
    """As large as fits, whatever its orientation, into ``(short side, long
    side)``, keeping the ratio."""
    sides = image.shape[:2]
    scale = min(size[0] / min(sides), size[1] / max(sides))
    return resize(image, [int(side * scale + 0.5) for side in sides], **how)


def resize_short(image: np.ndarray, size: int, **how: str) -> np.ndarray:
    """The short side to ``size``, keeping the ratio."""
    short = min(image.shape[:2])
    return resize(
        image, [int(size * side / short) for side in image.shape[:2]], **how)


def resize_to_multiple(image: np.ndarray, size: int, **how: str) -> np.ndarray:
    """Each side up to a multiple of ``size``."""
    return resize(
        image, [-(-side // size) * size for side in image.shape[:2]], **how)


def center_crop(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The middle ``(height, width)``."""
    top, left = (max(0, round((side - crop) / 2))
                 for side, crop in zip(image.shape[:2], size))
    return image[top:top + size[0], left:left + size[1]]


# What the ``resize`` of the metadata may name.
STEPS: Dict[str, Callable[..., np.ndarray]] = {
    step.__name__: step for step in (
        resize, resize_inside, resize_short, resize_to_multiple, center_crop)}
