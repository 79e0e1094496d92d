"""Runs a file that ``mmiformer export`` has written.

Needs onnxruntime, NumPy and OpenCV, and Pillow where the file says so; nothing
else of this package, so this file may be copied into a program of yours.
"""
import json
import math
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

INTERPOLATION = dict(
    nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR,
    bicubic=cv2.INTER_CUBIC, area=cv2.INTER_AREA, lanczos=cv2.INTER_LANCZOS4)


def open_session(path: Union[str, Path]) -> Any:
    """Opens a file in onnxruntime, on the CPU."""
    import onnxruntime
    try:
        return onnxruntime.InferenceSession(
            str(path), providers=['CPUExecutionProvider'])
    except Exception as error:  # they have a class for each cause
        raise ValueError(f'{path}: {error}') from None


class ExportedModel:
    """A classifier, a segmentor or a backbone in an exported file.

    Args:
        path: The file.

    Attributes:
        task: ``'classification'``, ``'segmentation'`` or ``'backbone'``.
        classes: Names; empty for a backbone.
        palette: ``[red, green, blue]`` of each class; None if not known.
        session: onnxruntime's.

    Raises:
        ValueError: The file cannot be read, or is not one of
            ``mmiformer export``.
        ImportError: onnxruntime is missing.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.session = open_session(path)
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
        if image.dtype != np.uint8 or image.shape[2:] != (3, ):
            raise ValueError(f'an image of shape {image.shape} and dtype '
                             f'{image.dtype}: expected (H, W, 3) uint8')
        rgb = change_size(image, self._steps)[..., ::-1].transpose(2, 0, 1)
        outs = self.session.run(
            None, {'image': np.ascontiguousarray(rgb[None])})
        if self.task == 'backbone':
            return outs
        logits = outs[0][0]
        if self.task == 'classification':
            scores = np.exp(logits - logits.max())
            return scores / scores.sum()
        return label_map(logits, image.shape[:2], self.threshold)


def label_map(logits: np.ndarray, size: Tuple[int, int],
              threshold: float = 0.5) -> np.ndarray:
    """The most likely class of each pixel, ``(H, W)``: uint8, or uint16 above
    256 classes.

    Args:
        logits: ``(K, h, w)`` float32.
        size: ``(H, W)`` of the map; logits are resized to it as torch does it,
            bilinearly between cell centres.
        threshold: Of the sigmoid of a single logit, which is that of class 1.
    """
    single = len(logits) == 1
    best = np.full(size, math.log(threshold / (1 - threshold)) if single
                   else -np.inf, np.float32)
    labels = np.zeros(size, np.uint8 if len(logits) <= 256 else np.uint16)
    # All classes at once would fill the memory, at the size of a photograph.
    for label, values in enumerate(logits, start=int(single)):
        values = cv2.resize(values, size[::-1])
        higher = values > best
        best[higher], labels[higher] = values[higher], label
    return labels


def change_size(image: np.ndarray, steps: Sequence[Dict[str, Any]]
                ) -> np.ndarray:
    """Resizes and crops an image ``(H, W, 3)`` as a test pipeline does.

    Args:
        image: In any channel order.
        steps: Of the pipeline: mmcv's ``Resize`` and ``CenterCrop``, mmseg's
            ``ResizeToMultiple``, mmpretrain's ``ResizeEdge`` of the short
            edge.
    """
    for step in steps:
        sides = image.shape[:2]
        height, width = new_sides(step, sides)
        if step['type'] == 'CenterCrop':
            top = max(0, round((sides[0] - height) / 2))
            left = max(0, round((sides[1] - width) / 2))
            image = image[top:top + height, left:left + width]
            continue
        method = step.get('interpolation') or 'bilinear'
        if step.get('backend') == 'pillow':  # it averages, unlike OpenCV
            from PIL import Image
            image = np.array(Image.fromarray(image).resize(
                (width, height), getattr(Image.Resampling, method.upper())))
        else:
            image = cv2.resize(image, (width, height),
                               interpolation=INTERPOLATION[method])
    return image


def new_sides(step: Dict[str, Any], sides: Sequence[int]) -> List[int]:
    """``[height, width]`` that a step gives to an image of ``sides``."""
    if step['type'] == 'ResizeToMultiple':
        divisor = step.get('size_divisor', 32)
        return [-(-side // divisor) * divisor for side in sides]
    size = step.get('crop_size') or step['scale']
    if step['type'] == 'ResizeEdge':
        return [int(size * side / min(sides)) for side in sides]
    width, height = (size, size) if isinstance(size, int) else size
    if not step.get('keep_ratio'):
        return [height, width]
    ratio = min(max(width, height) / max(sides),
                min(width, height) / min(sides))
    return [int(side * ratio + 0.5) for side in sides]
