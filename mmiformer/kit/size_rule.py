"""How an image becomes the input of an exported file, as in testing."""
from typing import Any, Dict, List, Optional, Tuple

from mmengine.config import Config

from ..config import find_datasets, type_name
from .exported import STEPS


def resize_steps(cfg: Config, task: str, size: Optional[Tuple[int, int]]
                 ) -> List[Dict[str, Any]]:
    """How an image becomes the input of the file: steps of
    :mod:`mmiformer.kit.exported`. As in testing, if that ends at the size;
    otherwise the image is resized to it.

    Raises:
        ValueError: A step of the test pipeline is unknown.
    """
    to_size = [] if size is None else [dict(step='resize', size=size)]
    if task == 'backbone':
        return to_size
    steps = tested_steps(cfg)
    unknown = [step['step'] for step in steps if step['step'] not in STEPS]
    if unknown:
        raise ValueError(
            f'{", ".join(unknown)} of the test pipeline cannot be described '
            'in the file: remove it there, or give --part backbone')
    if size is None or (steps and steps[-1]['size'] == size and
                        steps[-1]['step'] in ('resize', 'center_crop')):
        return steps
    return to_size


def tested_steps(cfg: Config) -> List[Dict[str, Any]]:
    """What the test pipeline does to an image; steps that are unknown have
    only their name."""
    steps = []
    dataset = next(find_datasets(cfg.test_dataloader.dataset))
    for step in dataset.pipeline:
        name = type_name(step)
        how = {key: step[key] for key in ('interpolation', 'backend')
               if step.get(key)}
        if name == 'Resize' and step.get('scale'):
            width, height = _pair(step['scale'])
            keep = step.get('keep_ratio')
            steps.append(dict(
                step='resize_inside' if keep else 'resize',
                size=tuple(sorted((width, height))) if keep else (
                    height, width), **how))
        elif name == 'ResizeEdge' and step.get('edge', 'short') == 'short':
            steps.append(dict(step='resize_short', size=step['scale'], **how))
        elif name == 'ResizeToMultiple':
            steps.append(dict(step='resize_to_multiple',
                              size=step.get('size_divisor', 32), **how))
        elif name == 'CenterCrop' and not step.get('auto_pad'):
            width, height = _pair(step['crop_size'])
            steps.append(dict(step='center_crop', size=(height, width)))
        elif not name.startswith(('Load', 'Pack')):
            steps.append(dict(step=name))
    return steps


def default_size(cfg: Config) -> Tuple[int, int]:
    """``(height, width)`` of a model's input if none is asked for: the crop of
    a segmentor, what the last resize or crop of another's test pipeline gives
    (up to a multiple of 32 where the image's ratio is kept)."""
    if cfg.get('default_scope') == 'mmseg':
        preprocessor = cfg.model.get('data_preprocessor') or (
            cfg.get('data_preprocessor') or {})
        return tuple(preprocessor.get('size') or (512, 512))
    sizes = [step['size'] for step in tested_steps(cfg)
             if step['step'] in ('resize', 'resize_inside', 'center_crop')]
    height, width = sizes[-1] if sizes else _pair(
        cfg.model.backbone.get('pretrain_img_size', 224))
    if cfg.get('default_scope') == 'mmdet':
        return tuple(-(-side // 32) * 32 for side in (height, width))
    return height, width


def _pair(value: Any) -> Tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
