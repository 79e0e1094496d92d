"""Checks of what a user writes into a config. Each raises a ValueError that
names the argument, its value and what it may be."""
import inspect
from typing import Any, Callable, Collection, Optional, Sequence, Tuple

import torch


def require(condition: bool, name: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f'{name}={value!r} must be {expected}')


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_positive_int(value: Any) -> bool:
    return is_int(value) and value > 0


def is_list_of(fits: Callable[[Any], bool], values: Any,
               length: Optional[int] = None) -> bool:
    """Whether it is a list or tuple, of that length if one is given, whose
    values all fit."""
    return (isinstance(values, (tuple, list))
            and length in (None, len(values)) and all(map(fits, values)))


def boolean(name: str, value: Any) -> None:
    require(is_bool(value), name, value, 'True or False')


def positive_int(name: str, value: Any) -> None:
    require(is_positive_int(value), name, value, 'a positive int')


def positive_ints(name: str, values: Any, length: int) -> Tuple[int, ...]:
    require(is_list_of(is_positive_int, values, length), name, values,
            f'{length} positive ints')
    return tuple(values)


def img_size(name: str, value: Any) -> Tuple[int, int]:
    """An int or (height, width), as (height, width)."""
    return positive_ints(name, (value, ) * 2 if is_int(value) else value, 2)


def out_indices(value: Any, num_stages: int) -> Tuple[int, ...]:
    require(is_list_of(is_int, value) and len(value) > 0
            and list(value) == sorted(set(value))
            and value[0] >= 0 and value[-1] < num_stages, 'out_indices',
            value, f'increasing ints from 0 to {num_stages - 1}')
    return tuple(value)


def frozen_stages(value: Any, num_stages: int) -> None:
    require(is_int(value) and -1 <= value <= num_stages, 'frozen_stages',
            value, f'an int from -1 (nothing frozen) to {num_stages}')


def drop_path_rate(value: Any) -> None:
    require(is_number(value) and 0 <= value < 1, 'drop_path_rate', value,
            'a number from 0 up to, but not including, 1')


def with_cp(value: Any, num_stages: int) -> Tuple[bool, ...]:
    return _per_stage('with_cp', value, is_bool, 'True or False', num_stages)


def window_size(value: Any, num_stages: int) -> Tuple[Optional[int], ...]:
    return _per_stage(
        'window_size', value, lambda v: v is None or is_positive_int(v),
        'None (global attention) or a positive int', num_stages)


def _per_stage(name: str, value: Any, fits: Callable[[Any], bool],
               expected: str, num_stages: int) -> tuple:
    """One value for all stages, or one for each, as one for each."""
    values = (value, ) * num_stages if fits(value) else value
    require(is_list_of(fits, values, num_stages), name, value,
            f'{expected}, or {num_stages} of them, one per stage')
    return tuple(values)


def norm_cfg(value: Any, types: Collection[str]) -> dict:
    """The given dict; plain BatchNorm for None."""
    if value is None:
        return dict(type='BN')
    known = {'type', 'requires_grad', 'eps', 'momentum'}
    require(isinstance(value, dict) and value.get('type') in types
            and set(value) <= known, 'norm_cfg', value,
            f'a dict with type, one of {sorted(types)}, and of the keys '
            f'{sorted(known)}')
    return value


def compile_cfg(value: Any, window_size: Sequence[Optional[int]]
                ) -> Optional[dict]:
    """The arguments for torch.compile; None: do not compile."""
    known = set(inspect.signature(torch.compile).parameters) - {'model'}
    require(is_bool(value) or isinstance(value, dict) and set(value) <= known,
            'compile', value,
            f'True, False or a dict with keys of {sorted(known)}')
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


def init_cfgs(value: Any) -> Sequence[dict]:
    """The dicts of an ``init_cfg``: none, one or a list."""
    cfgs = [] if value is None else [value] if isinstance(
        value, dict) else value
    require(is_list_of(lambda cfg: isinstance(cfg, dict) and 'type' in cfg,
                       cfgs), 'init_cfg', value,
            'None, a dict with a type, or a list of such dicts')
    for cfg in cfgs:
        if cfg['type'] == 'Pretrained' and not isinstance(
                cfg.get('checkpoint'), str):
            raise ValueError(f'init_cfg={value!r} needs checkpoint, a path, '
                             'URL or name')
    return cfgs
