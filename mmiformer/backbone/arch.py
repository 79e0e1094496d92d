"""The published sizes, and the check of a size that a user writes."""
from typing import Dict, Union

from . import checks
from .mixer import ATTENTION, HIGH_BRANCHES

NUM_STAGES = 4

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
            that one. Where attention is the only branch it has all heads,
            where it is none of them, no head.

    Returns:
        A new dict with all of these keys, ``attention_heads`` as one tuple
        of ints per stage.

    Raises:
        ValueError: A key is unknown or missing, or a value does not fit.
    """
    if isinstance(arch, str):
        if arch not in PRESETS:
            raise ValueError(f'arch={arch!r} is unknown: choose from '
                             f'{sorted(PRESETS)} or give a dict')
        arch = PRESETS[arch]
    if not isinstance(arch, dict):
        raise ValueError(f'arch={arch!r} must be one of {sorted(PRESETS)} '
                         'or a dict')
    if 'base' in arch:
        if arch['base'] not in PRESETS:
            raise ValueError(f"arch['base']={arch['base']!r} is unknown: "
                             f'choose from {sorted(PRESETS)}')
        arch = {**PRESETS[arch['base']], **arch}
        del arch['base']
    required = {'embed_dims', 'depths', 'attention_heads'}
    known = required | {'num_heads'} | set(DEFAULTS)
    if missing := required - set(arch):
        raise ValueError(f'arch lacks {sorted(missing)}')
    if unknown := set(arch) - known:
        raise ValueError(f'arch has unknown keys {sorted(unknown)}: choose '
                         f'from {sorted(known)}')
    arch = {**DEFAULTS, **arch}
    for key in ('embed_dims', 'depths', 'num_heads', 'pool_strides'):
        if key == 'num_heads' and key not in arch:
            arch[key] = tuple(dim // HEAD_DIM for dim in arch['embed_dims'])
        arch[key] = checks.positive_ints(
            f"arch['{key}']", arch[key], NUM_STAGES)
    _check_mixer(arch)
    attention = ATTENTION in arch['branches']
    if attention and len(arch['branches']) > 1:
        arch['attention_heads'] = _expand_heads(arch['attention_heads'],
                                                arch['depths'])
    else:
        arch['attention_heads'] = tuple(
            (heads * attention, ) * depth
            for heads, depth in zip(arch['num_heads'], arch['depths']))
    _check_channels(arch)
    _check_layer_scale(arch['layer_scale_init_values'])
    if not checks.is_number(arch['mlp_ratio']) or arch['mlp_ratio'] <= 0:
        raise ValueError(f"arch['mlp_ratio']={arch['mlp_ratio']!r} must be a "
                         'positive number')
    return arch


def _expand_heads(heads, depths) -> tuple:
    if not isinstance(heads, (tuple, list)) or len(heads) != len(depths):
        raise ValueError(f"arch['attention_heads']={heads!r} must have one "
                         f'entry for each of the {len(depths)} stages')
    return tuple(
        checks.positive_ints(
            f"arch['attention_heads'][{i}]",
            (entry, ) * depth if checks.is_int(entry) else entry, depth)
        for i, (entry, depth) in enumerate(zip(heads, depths)))


def _check_mixer(arch: dict) -> None:
    branches, known = arch['branches'], (*HIGH_BRANCHES, ATTENTION)
    if (not isinstance(branches, (tuple, list)) or not branches
            or len(set(branches)) < len(branches)
            or not set(branches) <= set(known)):
        raise ValueError(f"arch['branches']={branches!r} must be some of "
                         f'{list(known)}, each once')
    size = arch['kernel_size']
    if not checks.is_int(size) or size < 1 or size % 2 == 0:
        raise ValueError(f"arch['kernel_size']={size!r} must be an odd int")
    checks.boolean("arch['fusion']", arch['fusion'])


def _check_channels(arch: dict) -> None:
    sharers = len(set(arch['branches']) - {ATTENTION})
    for i, (dim, heads, attention_heads) in enumerate(
            zip(arch['embed_dims'], arch['num_heads'],
                arch['attention_heads'])):
        if dim % 2 or dim % heads:
            raise ValueError(
                f'arch: embed_dims[{i}]={dim} must be even and a multiple of '
                f'num_heads[{i}]={heads}')
        for count in attention_heads:
            high_dim = dim - count * (dim // heads)
            if sharers and (high_dim < sharers or high_dim % sharers):
                raise ValueError(
                    f'arch: stage {i} has {heads} heads of {dim // heads} '
                    f'channels; with {count} of them for attention, '
                    f'{high_dim} channels are left for the {sharers} branches '
                    'of the high mixer: they need a multiple of that')


def _check_layer_scale(values) -> None:
    if (not isinstance(values, (tuple, list)) or len(values) != NUM_STAGES
            or not all(v is None or checks.is_number(v) for v in values)):
        raise ValueError(
            f"arch['layer_scale_init_values']={values!r} must be "
            f'{NUM_STAGES} numbers, None where a stage has no layer scale')
