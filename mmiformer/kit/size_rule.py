"""How an image becomes the input of an exported file, as in testing."""
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from mmengine.config import Config

from ..config import find_datasets, type_name
from .exported import change_size

STEPS = ('Resize', 'ResizeEdge', 'ResizeToMultiple', 'CenterCrop')


def resize_steps(cfg: Config, task: str, size: Optional[Tuple[int, int]]
                 ) -> List[Dict[str, Any]]:
    """The steps for :func:`~.exported.change_size` that are written into a
    file.

    Args:
        cfg: The model's.
        task: ``'classification'``, ``'segmentation'`` or ``'backbone'``.
        size: ``(height, width)`` of the file's input; None: any.

    Returns:
        Those of testing, if they give this size to every image; otherwise one
        that does.

    Raises:
        ValueError: The test pipeline has a step that no file can hold.
    """
    to_size = [] if size is None else [
        dict(type='Resize', scale=(size[1], size[0]))]
    if task == 'backbone':
        return to_size
    steps = tested_steps(cfg)
    for step in steps:
        if (step['type'] not in STEPS or step.get('auto_pad')
                or step.get('edge', 'short') != 'short'
                or step['type'] == 'Resize' and not step.get('scale')):
            raise ValueError(
                f'{step} of the test pipeline: a file can hold '
                f'{", ".join(STEPS)} (of the short edge, to a scale, without '
                'padding). Remove it there, or give --part backbone')
    if size is None or all(
            change_size(np.zeros((*sides, 3), np.uint8), steps).shape[:2]
            == size for sides in ((300, 500), (1500, 700))):
        return steps
    return to_size


def tested_steps(cfg: Config) -> List[Dict[str, Any]]:
    """What the test pipeline does between loading and packing."""
    dataset = next(find_datasets(cfg.test_dataloader.dataset))
    return [dict(step, type=type_name(step)) for step in dataset.pipeline
            if not type_name(step).startswith(('Load', 'Pack'))]


def default_size(cfg: Config) -> Tuple[int, int]:
    """``(height, width)`` of a model's input if none is asked for: the crop of
    a segmentor, what the last resize or crop of another's test pipeline gives
    (up to a multiple of 32 of a detector)."""
    if cfg.get('default_scope') == 'mmseg':
        preprocessor = cfg.model.get('data_preprocessor') or (
            cfg.get('data_preprocessor') or {})
        return tuple(preprocessor.get('size') or (512, 512))
    sizes = [step.get('crop_size') or step.get('scale')
             for step in tested_steps(cfg)]
    size = ([size for size in sizes if size] or [224])[-1]
    width, height = (size, size) if isinstance(size, int) else size
    if cfg.get('default_scope') == 'mmdet':
        return tuple(-(-side // 32) * 32 for side in (height, width))
    return height, width
