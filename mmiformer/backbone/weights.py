"""Loads released and trained weights into the backbone, all or nothing."""
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

from mmengine.logging import print_log
from torch import Tensor, nn

from .layers import resize_pos_embed


def _stage(template: str) -> Callable[[re.Match], str]:
    """Released names count the stages from 1, ours from 0."""
    return lambda match: template.format(int(match[1]) - 1)


# Released names to ours, each pattern applied in turn. None: dropped on
# purpose. Our own names match nothing here and pass unchanged.
RELEASED_NAMES: Tuple[Tuple[str, Union[str, Callable, None]], ...] = (
    (r'^pos_embed([1-4])$', _stage('stages.{}.pos_embed')),
    (r'^patch_embed\.', 'stages.0.patch_embed.'),
    (r'^patch_embed([2-4])\.', _stage('stages.{}.patch_embed.')),
    (r'^blocks([1-4])\.', _stage('stages.{}.blocks.')),
    (r'\.layer_scale_([12])$', r'.scale\1.layer_scale'),
    (r'\.attn\.high_mixer\.conv1\.', '.mixer.depthwise_branch.pointwise.'),
    (r'\.attn\.high_mixer\.proj1\.', '.mixer.depthwise_branch.depthwise.'),
    (r'\.attn\.high_mixer\.proj2\.', '.mixer.max_pool_branch.pointwise.'),
    (r'\.attn\.low_mixer\.', '.mixer.low_mixer.'),
    (r'\.attn\.conv_fuse\.', '.mixer.fuse.'),
    (r'\.attn\.proj\.', '.mixer.proj.'),
    (r'^norm\.', 'stages.3.out_norm.'),
    (r'^head\.', None),
)

# A checkpoint may lack these: the released network has but one output norm,
# and old versions of torch did not count batches.
OPTIONAL = re.compile(r'\.out_norm\.|\.num_batches_tracked$')

# Where downstream files keep the weights.
WRAPPERS = ('state_dict', 'model')
MOST_WRAPPERS = 4  # around one another; a file may hold itself


def rename(name: str) -> Optional[str]:
    """Our name of a released tensor; None where it is dropped on purpose."""
    for pattern, replacement in RELEASED_NAMES:
        if replacement is None:
            if re.search(pattern, name):
                return None
        else:
            name = re.sub(pattern, replacement, name)
    return name


def unwrap(checkpoint: Mapping[str, Any]) -> Dict[str, Any]:
    """The backbone's weights out of any of the usual wrappings.

    Args:
        checkpoint: Plain names, or below ``state_dict`` or ``model``, with or
            without the prefixes ``module.`` and ``backbone.``. Where some
            names have the latter, the others belong to other modules.

    Returns:
        Names relative to the backbone, and their values.
    """
    for _ in range(MOST_WRAPPERS):
        checkpoint = next((checkpoint[key] for key in WRAPPERS if isinstance(
            checkpoint.get(key), Mapping)), checkpoint)
    weights = {str(name): value for name, value in checkpoint.items()}
    for prefix in ('module.', 'backbone.'):
        inner = {name[len(prefix):]: value for name, value in weights.items()
                 if name.startswith(prefix)}
        weights = inner or weights
    return weights


def adapt_state_dict(model: nn.Module, state_dict: Dict[str, Any],
                     prefix: str = '') -> None:
    """Rewrites what a state dict holds for an IFormer into its own names.

    Renames released weights, drops their classification head, and resizes
    position maps of another grid. Output norms that the checkpoint lacks keep
    their present values. One log line says what was done. Whatever ``strict``
    says, what does not fit raises: load other parts into their own modules.

    Args:
        model: The backbone.
        state_dict: Changed in place, below ``prefix`` only.
        prefix: Where the backbone stands in it; empty where it is the root.

    Raises:
        ValueError: The checkpoint holds nothing for the backbone, lacks a
            tensor, or has one that is unknown or of another shape.
    """
    if prefix:
        source = {key[len(prefix):]: value for key, value in state_dict.items()
                  if key.startswith(prefix)}
    else:
        source = unwrap(state_dict)
    renamed = {name: rename(name) for name in source}
    weights = {new: source[old] for old, new in renamed.items()
               if new is not None}
    own = model.state_dict()
    notes = _resize_pos_embeds(weights, own)
    _check_fit(weights, own, prefix)

    dropped = [old for old, new in renamed.items()
               if new is None or new not in own]
    fresh = [name for name in own if '.out_norm.' in name
             and name not in weights]
    weights = {name: value for name, value in weights.items() if name in own}
    if dropped:
        notes.append(f'dropped {", ".join(dropped)}')
    if fresh:
        notes.append(f'not in it: {", ".join(fresh)}')
    print_log(
        f'{type(model).__name__}: loaded {len(weights)} of '
        f'{len(source) - len(dropped)} tensors' +
        ''.join(f'; {note}' for note in notes), logger='current')

    for key in [key for key in state_dict if key.startswith(prefix)]:
        del state_dict[key]
    for name, value in own.items():
        state_dict[prefix + name] = weights.get(name, value)


def _resize_pos_embeds(weights: Dict[str, Tensor],
                       own: Mapping[str, Tensor]) -> List[str]:
    """Fits position maps to the model's grids, in place; says which."""
    notes = []
    for name, value in weights.items():
        if (not name.endswith('.pos_embed') or name not in own
                or getattr(value, 'ndim', 0) != 4):
            continue
        size = tuple(own[name].shape[1:3])
        if tuple(value.shape[1:3]) != size:
            stored = value.untyped_storage().nbytes()
            if not 0 < value.numel() * value.element_size() <= stored:
                raise ValueError(f'{name} {tuple(value.shape)} is empty, or '
                                 f'more than the {stored} bytes stored for it')
            weights[name] = resize_pos_embed(value.float(), size).to(value)
            notes.append(f'resized {name} from {value.shape[1]}x'
                         f'{value.shape[2]} to {size[0]}x{size[1]}')
    return notes


def _check_fit(weights: Mapping[str, Any], own: Mapping[str, Tensor],
               prefix: str) -> None:
    where = f'below {prefix!r} ' if prefix else ''
    if not set(weights) & set(own):
        names = _listing(sorted(weights)) if weights else 'nothing'
        raise ValueError(
            f'the checkpoint matches no tensor of the iFormer backbone: it '
            f'holds {where}{names}. Released classification weights and those '
            "of other models' backbones go into "
            "backbone.init_cfg=dict(type='Pretrained', checkpoint=...)")
    missing = [name for name in own
               if name not in weights and not OPTIONAL.search(name)]
    unknown = [name for name in weights
               if name not in own and not OPTIONAL.search(name)]
    misfits = [
        f'{name} {tuple(getattr(value, "shape", ()))} instead of '
        f'{tuple(own[name].shape)}' for name, value in weights.items()
        if name in own and getattr(value, 'shape', None) != own[name].shape]
    if missing or unknown or misfits:
        parts = [f'{what} {len(names)}: {_listing(names)}' for what, names in (
            ('missing', missing), ('unknown', unknown),
            ('of another shape', misfits)) if names]
        raise ValueError(
            f'the checkpoint fits the iFormer backbone {where}only in part '
            f'(is arch the same?); ' + '; '.join(parts))


def _listing(names: List[str], most: int = 20) -> str:
    rest = f' and {len(names) - most} more' if len(names) > most else ''
    return ', '.join(names[:most]) + rest
