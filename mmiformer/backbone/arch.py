"""The published sizes, and the check of a size that a user writes."""
from typing import Dict, Tuple, Union

from .arguments import (
    NUM_STAGES,
    is_bool,
    is_int,
    is_list_of,
    is_number,
    positive_ints,
    require,
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
    choices = f'one of {sorted(PRESETS)} or a dict'
    if isinstance(arch, str):
        require(arch in PRESETS, 'arch', arch, choices)
        arch = PRESETS[arch]
    require(isinstance(arch, dict), 'arch', arch, choices)
    if 'base' in arch:
        base = arch['base']
        require(base in PRESETS, "arch['base']", base,
                f'one of {sorted(PRESETS)}')
        arch = {**PRESETS[base], **arch}
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
        arch[key] = positive_ints(f"arch['{key}']", arch[key], NUM_STAGES)
    _check_mixer(arch)
    arch['attention_heads'] = _attention_heads(arch)
    _check_channels(arch)
    values = arch['layer_scale_init_values']
    require(is_list_of(lambda v: v is None or is_number(v), values,
                       NUM_STAGES), "arch['layer_scale_init_values']", values,
            f'{NUM_STAGES} numbers, None where a stage has no layer scale')
    ratio = arch['mlp_ratio']
    require(is_number(ratio) and ratio > 0, "arch['mlp_ratio']", ratio,
            'a positive number')
    return arch


def _attention_heads(arch: dict) -> Tuple[Tuple[int, ...], ...]:
    """One int per block of each stage."""
    if ATTENTION not in arch['branches']:
        return tuple((0, ) * depth for depth in arch['depths'])
    if len(arch['branches']) == 1:
        return tuple((heads, ) * depth for heads, depth in zip(
            arch['num_heads'], arch['depths']))
    heads = arch['attention_heads']
    require(isinstance(heads, (tuple, list)) and len(heads) == NUM_STAGES,
            "arch['attention_heads']", heads,
            f'{NUM_STAGES} entries, one for each stage')
    return tuple(
        positive_ints(f"arch['attention_heads'][{i}]",
                      (entry, ) * depth if is_int(entry) else entry, depth)
        for i, (entry, depth) in enumerate(zip(heads, arch['depths'])))


def _check_mixer(arch: dict) -> None:
    branches, known = arch['branches'], (*HIGH_BRANCHES, ATTENTION)
    require(is_list_of(known.__contains__, branches)
            and 0 < len(set(branches)) == len(branches),
            "arch['branches']", branches,
            f'some of {list(known)}, each once')
    size = arch['kernel_size']
    require(is_int(size) and size > 0 and size % 2 == 1,
            "arch['kernel_size']", size, 'an odd int')
    require(is_bool(arch['fusion']), "arch['fusion']", arch['fusion'],
            'True or False')


def _check_channels(arch: dict) -> None:
    branches = len(set(arch['branches']) - {ATTENTION})  # of the high mixer
    for i, (dim, heads, attention_heads) in enumerate(
            zip(arch['embed_dims'], arch['num_heads'],
                arch['attention_heads'])):
        if dim % 2 or dim % heads:
            raise ValueError(
                f'arch: embed_dims[{i}]={dim} must be even and a multiple of '
                f'num_heads[{i}]={heads}')
        for count in attention_heads:
            high_dim = dim - count * (dim // heads)
            if branches and (high_dim < branches or high_dim % branches):
                raise ValueError(
                    f'arch: stage {i} has {heads} heads of {dim // heads} '
                    f'channels; with {count} of them for attention, '
                    f'{high_dim} channels are left for the {branches} '
                    'branches of the high mixer, which must be a multiple of '
                    f'{branches}')
