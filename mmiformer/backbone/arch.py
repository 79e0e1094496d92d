"""The published sizes, and the check of a size that a user writes."""
from typing import Any, Dict, Tuple, Union

from .arguments import (
    NUM_STAGES,
    Rules,
    check,
    is_bool,
    is_int,
    is_list_of,
    is_number,
    is_positive_int,
)
from .mixer import ATTENTION, HIGH_BRANCHES

# Only what differs between the sizes. `attention_heads` counts, for each
# block, the heads of the low mixer; an int stands for every block of a stage.
# Source: the released checkpoints; paper, appendix, table of architectures.
PRESETS: Dict[str, dict] = {
    'small': dict(
        embed_dims=(96, 192, 320, 384),
        depths=(3, 3, 9, 3),
        attention_heads=(1, 3, (7, ) * 4 + (9, ) * 5, 11)),
    'base': dict(
        embed_dims=(96, 192, 384, 512),
        depths=(4, 6, 14, 6),
        attention_heads=(1, 3, (8, ) * 7 + (10, ) * 7, 15)),
    'large': dict(
        embed_dims=(96, 192, 448, 640),
        depths=(4, 6, 18, 8),
        attention_heads=(1, 3, (10, ) * 9 + (12, ) * 9, 19)),
}

DEFAULTS = dict(
    pool_strides=(2, 2, 1, 1),
    layer_scale_init_values=(None, None, 1e-6, 1e-6),
    mlp_ratio=4,
    branches=('depthwise', 'max_pool', 'attention'),
    kernel_size=3,
    fusion=True)

HEAD_DIM = 32  # of every published size
BRANCHES = (*HIGH_BRANCHES, ATTENTION)


def _is_heads(value: Any) -> bool:
    return is_positive_int(value) or is_list_of(is_positive_int, value)


_POSITIVE_INTS = (lambda v: is_list_of(is_positive_int, v, NUM_STAGES),
                  f'{NUM_STAGES} positive ints')
RULES: Rules = dict(
    base=(tuple(PRESETS).__contains__, f'one of {sorted(PRESETS)}'),
    embed_dims=_POSITIVE_INTS,
    depths=_POSITIVE_INTS,
    num_heads=_POSITIVE_INTS,
    pool_strides=_POSITIVE_INTS,
    attention_heads=(
        lambda v: is_list_of(_is_heads, v, NUM_STAGES),
        f'{NUM_STAGES} entries, one for each stage: a positive int, or one '
        'for each block'),
    layer_scale_init_values=(
        lambda v: is_list_of(lambda x: x is None or is_number(x), v,
                             NUM_STAGES),
        f'{NUM_STAGES} numbers, None where a stage has no layer scale'),
    mlp_ratio=(lambda v: is_number(v) and v > 0, 'a positive number'),
    branches=(
        lambda v: is_list_of(BRANCHES.__contains__, v)
        and 0 < len(set(v)) == len(v),
        f'some of {list(BRANCHES)}, each once'),
    kernel_size=(lambda v: is_positive_int(v) and v % 2 == 1, 'an odd int'),
    fusion=(is_bool, 'True or False'))


def resolve_arch(arch: Union[str, dict]) -> dict:
    """Completes and checks an architecture.

    Args:
        arch: A key of :data:`PRESETS`, or a dict with ``embed_dims``,
            ``depths`` and ``attention_heads`` (one entry per stage; an entry
            of ``attention_heads`` is an int or one int per block), and
            optionally ``num_heads`` (one per stage, by default one for every
            32 channels), ``pool_strides``, ``layer_scale_init_values`` (None
            for no layer scale) and ``mlp_ratio``; for ablations of the mixer
            ``branches`` (any of ``'depthwise'``, ``'conv'``, ``'max_pool'``,
            ``'avg_pool'`` and ``'attention'``), ``kernel_size`` of the high
            mixer, and ``fusion`` (False: branches are only concatenated).
            With ``base``, a key of :data:`PRESETS`, only what differs from
            that one. If attention is the only branch it gets all heads; if it
            is absent, none.

    Returns:
        A new dict with all of these keys, ``attention_heads`` as one tuple
        of ints per stage.

    Raises:
        ValueError: A key is unknown or missing, or a value does not fit.
    """
    label = 'arch[{!r}]'
    if isinstance(arch, str) and arch in PRESETS:
        arch = PRESETS[arch]
    if not isinstance(arch, dict):
        raise ValueError(
            f'arch={arch!r} must be one of {sorted(PRESETS)} or a dict')
    if unknown := set(arch) - set(RULES):
        raise ValueError(f'arch has unknown keys {sorted(unknown)}: choose '
                         f'from {sorted(RULES)}')
    check(RULES, arch, label)
    arch = {**DEFAULTS, **PRESETS.get(arch.get('base'), {}), **arch}
    arch.pop('base', None)
    if missing := set(PRESETS['small']) - set(arch):
        raise ValueError(f'arch lacks {sorted(missing)}')
    if 'num_heads' not in arch:
        heads = tuple(dim // HEAD_DIM for dim in arch['embed_dims'])
        check(RULES, dict(num_heads=heads), label)
        arch['num_heads'] = heads
    arch = {key: tuple(value) if isinstance(value, list) else value
            for key, value in arch.items()}
    arch['attention_heads'] = _attention_heads(arch)
    return arch


def _attention_heads(arch: dict) -> Tuple[Tuple[int, ...], ...]:
    """One int per block of each stage, which leave channels for the high
    mixer that its branches can share."""
    branches = len(set(arch['branches']) - {ATTENTION})  # of the high mixer
    result = []
    for i, (dim, depth, heads, counts) in enumerate(
            zip(arch['embed_dims'], arch['depths'], arch['num_heads'],
                arch['attention_heads'])):
        if dim % 2 or dim % heads:
            raise ValueError(
                f'arch: embed_dims[{i}]={dim} must be even and a multiple of '
                f'num_heads[{i}]={heads}')
        if ATTENTION not in arch['branches']:
            counts = 0
        elif not branches:
            counts = heads
        counts = (counts, ) * depth if is_int(counts) else tuple(counts)
        if len(counts) != depth:
            raise ValueError(f"arch['attention_heads'][{i}]={counts} must be "
                             f'{depth} positive ints, one for each block')
        for count in counts:
            rest = dim - count * (dim // heads)
            if branches and (rest < branches or rest % branches):
                raise ValueError(
                    f'arch: {count} of {heads} heads of attention leave {rest} '
                    f'of the {dim} channels of stage {i}, which must be a '
                    f'multiple of the {branches} branches of the high mixer')
        result.append(counts)
    return tuple(result)
