"""Checks of the backbone's arguments: a ValueError names what is wrong."""
import inspect
from typing import Collection, Optional, Sequence, Tuple

import torch


def is_int(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def boolean(name: str, value) -> None:
    if not isinstance(value, bool):
        raise ValueError(f'{name}={value!r} must be True or False')


def positive_int(name: str, value) -> None:
    if not is_int(value) or value < 1:
        raise ValueError(f'{name}={value!r} must be a positive int')


def positive_ints(name: str, values, length: int) -> Tuple[int, ...]:
    if (not isinstance(values, (tuple, list)) or len(values) != length
            or not all(is_int(value) and value > 0 for value in values)):
        raise ValueError(f'{name}={values!r} must be {length} positive ints')
    return tuple(values)


def img_size(name: str, value) -> Tuple[int, int]:
    """An int or (height, width), as (height, width)."""
    if is_int(value):
        value = (value, value)
    return positive_ints(name, value, 2)


def frozen_stages(value, num_stages: int) -> None:
    if not is_int(value) or not -1 <= value <= num_stages:
        raise ValueError(f'frozen_stages={value!r} must be an int from -1 '
                         f'(nothing frozen) to {num_stages}')


def drop_path_rate(value) -> None:
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f'drop_path_rate={value!r} must be a number from 0 '
                         'up to, but not including, 1')


def out_indices(value, num_stages: int) -> None:
    if (not isinstance(value, (tuple, list)) or not value
            or not all(is_int(i) and 0 <= i < num_stages for i in value)
            or list(value) != sorted(set(value))):
        raise ValueError(f'out_indices={value!r} must be increasing ints '
                         f'from 0 to {num_stages - 1}')


def norm_cfg(value, types: Collection[str]) -> dict:
    """The given dict, or plain BatchNorm for None."""
    if value is None:
        return dict(type='BN')
    known = {'type', 'requires_grad', 'eps', 'momentum'}
    if (not isinstance(value, dict) or value.get('type') not in types
            or not set(value) <= known):
        raise ValueError(f'norm_cfg={value!r} must be a dict with type, one '
                         f'of {sorted(types)}, and of the keys '
                         f'{sorted(known)}')
    return value


def with_cp(value, num_stages: int) -> Tuple[bool, ...]:
    """One bool per stage."""
    if isinstance(value, bool):
        return (value, ) * num_stages
    if (not isinstance(value, (tuple, list)) or len(value) != num_stages
            or not all(isinstance(item, bool) for item in value)):
        raise ValueError(f'with_cp={value!r} must be True, False or '
                         f'{num_stages} of them, one per stage')
    return tuple(value)


def window_size(value, num_stages: int) -> Tuple[Optional[int], ...]:
    """A positive int or None per stage."""
    values = [value] * num_stages if value is None or is_int(value) else value
    if (not isinstance(values, (tuple, list)) or len(values) != num_stages
            or not all(item is None or is_int(item) and item > 0
                       for item in values)):
        raise ValueError(f'window_size={value!r} must be None (global '
                         'attention), a positive int, or '
                         f'{num_stages} of them, one per stage')
    return tuple(values)


def compile_cfg(value, window_size: Sequence[Optional[int]]
                ) -> Optional[dict]:
    """False, True, or a dict of arguments of torch.compile, as such a dict;
    None for False."""
    known = set(inspect.signature(torch.compile).parameters) - {'model'}
    if not isinstance(value, bool) and (
            not isinstance(value, dict) or not set(value) <= known):
        raise ValueError(f'compile={value!r} must be True, False or a dict '
                         f'with keys of {sorted(known)}')
    if value is False:
        return None
    cfg = {} if value is True else dict(value)
    # Windows of symbolic sizes keep torch 2.13 busy for more than 10 minutes.
    if any(window_size) and cfg.setdefault('dynamic', False) is not False:
        raise ValueError(
            f'compile={value!r} with window_size={tuple(window_size)!r}: '
            'torch does not get through dynamic sizes of windows; leave '
            'dynamic out, and every image size gets a graph of its own')
    return cfg


def init_cfg(value) -> None:
    """None, a dict with a type, or a list of such dicts."""
    if value is None:
        return
    for cfg in value if isinstance(value, (tuple, list)) else [value]:
        if not isinstance(cfg, dict) or 'type' not in cfg:
            raise ValueError(f'init_cfg={value!r} must be None, a dict with a '
                             'type, or a list of such dicts')
        if (cfg['type'] == 'Pretrained'
                and not isinstance(cfg.get('checkpoint'), str)):
            raise ValueError(f'init_cfg={value!r} needs checkpoint, a path or '
                             'URL')
