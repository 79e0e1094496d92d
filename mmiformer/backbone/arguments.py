"""Checks of what a user writes into a config. Each raises a ValueError that
names the argument, its value and what it may be."""
import inspect
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import torch
from mmengine.model import PretrainedInit

from ..compat import TORCH
from ..config import as_list
from .layers import BATCH_NORMS

NUM_STAGES = 4
NORM_KEYS = {'type', 'requires_grad', 'eps', 'momentum'}
PRETRAINED = 'Pretrained', 'PretrainedInit', PretrainedInit
COMPILE_KEYS = {*inspect.signature(torch.compile).parameters} - {'model'}
# Whether a value fits, and what it may be; by the argument's name.
Rules = Dict[str, Tuple[Callable[[Any], bool], str]]


def check(rules: Rules, values: Dict[str, Any], label: str = '{}') -> None:
    """Raises ValueError for the first value that does not fit its rule; the
    label shows its name, as in ``'arch[{!r}]'``."""
    for name, value in values.items():
        fits, expected = rules[name]
        if not fits(value):
            raise ValueError(
                f'{label.format(name)}={value!r} must be {expected}')


def is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def is_int(value: Any) -> bool:
    return isinstance(value, int) and not is_bool(value)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not is_bool(value)


def is_positive_int(value: Any) -> bool:
    return is_int(value) and value > 0


def is_list_of(fits: Callable[[Any], bool], values: Any,
               length: Optional[int] = None) -> bool:
    """Whether it is a list or tuple, of that length if one is given, whose
    values all fit."""
    return (isinstance(values, (tuple, list))
            and length in (None, len(values)) and all(map(fits, values)))


def per_stage(value: Any) -> tuple:
    """One value for all stages, or one for each, as one for each."""
    return tuple(value) if isinstance(value, (tuple, list)) else (
        value, ) * NUM_STAGES


RULES: Rules = dict(
    pretrain_img_size=(
        lambda v: is_positive_int(v) or is_list_of(is_positive_int, v, 2),
        'a positive int, or 2 positive ints'),
    in_channels=(is_positive_int, 'a positive int'),
    out_indices=(
        lambda v: is_list_of(is_int, v) and len(v) > 0
        and list(v) == sorted({*range(NUM_STAGES)} & {*v}),
        f'increasing ints from 0 to {NUM_STAGES - 1}'),
    out_norms=(is_bool, 'True or False'),
    frozen_stages=(
        lambda v: is_int(v) and -1 <= v <= NUM_STAGES,
        f'an int from -1 (nothing frozen) to {NUM_STAGES}'),
    norm_eval=(is_bool, 'True or False'),
    norm_cfg=(
        lambda v: v is None or isinstance(v, dict)
        and v.get('type') in BATCH_NORMS and set(v) <= NORM_KEYS,
        f'a dict with type, one of {sorted(BATCH_NORMS)}, and of the keys '
        f'{sorted(NORM_KEYS)}'),
    drop_path_rate=(
        lambda v: is_number(v) and 0 <= v < 1,
        'a number from 0 up to, but not including, 1'),
    with_cp=(
        lambda v: is_list_of(is_bool, per_stage(v), NUM_STAGES),
        f'True or False, or {NUM_STAGES} of them, one per stage'),
    window_size=(
        lambda v: is_list_of(lambda side: side is None or is_positive_int(side),
                             per_stage(v), NUM_STAGES),
        'None (global attention) or a positive int, or '
        f'{NUM_STAGES} of them, one per stage'),
    compile=(
        lambda v: is_bool(v) or isinstance(v, dict) and set(v) <= COMPILE_KEYS,
        f'True, False or a dict with keys of {sorted(COMPILE_KEYS)}'),
    init_cfg=(
        lambda v: all(isinstance(cfg, dict) and 'type' in cfg and (
            cfg['type'] not in PRETRAINED or isinstance(
                cfg.get('checkpoint'), str)) for cfg in as_list(v)),
        'None, a dict with a type, or a list of such dicts; Pretrained needs '
        'checkpoint, a path, URL or name'))


def compile_cfg(value: Any, window_size: Sequence[Optional[int]]
                ) -> Optional[dict]:
    """The arguments for torch.compile; None: do not compile."""
    if value is False:
        return None
    if TORCH < (2, 1):
        raise ValueError(
            f'compile={value!r} needs torch 2.1, found {torch.__version__}')
    cfg = {} if value is True else dict(value)
    # Windows of symbolic sizes keep torch 2.13 busy for more than 10 minutes.
    if any(window_size) and cfg.setdefault('dynamic', False) is not False:
        raise ValueError(
            f'compile={value!r} with window_size={tuple(window_size)!r}: '
            'torch does not get through dynamic sizes of windows; leave '
            'dynamic out, and every image size gets a graph of its own')
    return cfg
