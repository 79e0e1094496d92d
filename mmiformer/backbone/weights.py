"""Fits released and trained weights to the backbone; reads no files."""
import logging
import re
import textwrap
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

# A checkpoint may lack these, or have them in excess: the released network has
# only one output norm, and old versions of torch did not count batches.
OPTIONAL = re.compile(r'\.out_norm\.|\.num_batches_tracked$')

# Keys under which checkpoints keep the weights.
WRAPPERS = ('state_dict', 'model')
MAX_WRAPPERS = 4  # one in another; a dict may contain itself

STAGE = re.compile(r'stages\.([0-3])\.')
STEM = 'stages.0.patch_embed.proj1.weight'  # (C / 2, in_channels, 3, 3)


def rename(name: str) -> Optional[str]:
    """Our name of a released tensor; None where it is dropped on purpose."""
    for pattern, replacement in RELEASED_NAMES:
        if replacement is None:
            if re.search(pattern, name):
                return None
        else:
            name = re.sub(pattern, replacement, name)
    return name


def unwrap(checkpoint: Mapping[str, Any],
           prefix: Optional[str] = None) -> Dict[str, Any]:
    """The backbone's weights out of any of the usual wrappings.

    Args:
        checkpoint: Plain names, or below ``state_dict`` or ``model``, with or
            without the prefix ``module.``.
        prefix: Take only the names that begin with it, by default
            ``backbone.`` where there are any: the others belong to other
            modules.

    Returns:
        Names relative to the backbone, and their values.
    """
    for _ in range(MAX_WRAPPERS):
        checkpoint = next((checkpoint[key] for key in WRAPPERS if isinstance(
            checkpoint.get(key), Mapping)), checkpoint)
    weights = {str(name): value for name, value in checkpoint.items()}
    if prefix:
        return strip_prefix(weights, prefix)
    weights = strip_prefix(weights, 'module.') or weights
    return strip_prefix(weights, 'backbone.') or weights


def strip_prefix(weights: Mapping[str, Any], prefix: str) -> Dict[str, Any]:
    """What has names that begin with the prefix, without it."""
    return {name[len(prefix):]: value for name, value in weights.items()
            if name.startswith(prefix)}


def adapt_state_dict(model: nn.Module, state_dict: Dict[str, Any],
                     prefix: str = '') -> None:
    """Rewrites what a state dict holds for an IFormer into its own names.

    Renames released weights, drops their classification head and the stages
    that the model does not have, resizes position maps of another grid, and
    gives output norms that the checkpoint lacks their present values. One log
    line says what was done. torch reports what is missing or unexpected.

    Args:
        model: The backbone.
        state_dict: Changed in place, below ``prefix`` only.
        prefix: Where the backbone is in it; empty where it is the root.
    """
    own = model.state_dict()
    source = strip_prefix(state_dict, prefix) if prefix else unwrap(state_dict)
    weights, notes = fit_weights(source, own)
    matching = own.keys() & weights
    line = f'{type(model).__name__}: loaded {len(matching)} of {len(weights)}'
    if matching:
        fresh = {name: value for name, value in own.items()
                 if name not in weights and OPTIONAL.search(name)}
        if fresh:
            notes.append(f'not in it: {", ".join(fresh)}')
        weights.update(fresh)
    else:
        notes.append('the weights stay as they are; those of a backbone alone '
                     "go into init_cfg=dict(type='Pretrained', checkpoint=...)")
    print_log('; '.join([f'{line} tensors', *notes]), 'current',
              logging.INFO if matching else logging.WARNING)
    for name in [name for name in state_dict if name.startswith(prefix)]:
        del state_dict[name]
    for name, value in weights.items():
        state_dict[prefix + name] = value


def fit_weights(source: Mapping[str, Any], own: Mapping[str, Tensor]
                ) -> Tuple[Dict[str, Any], List[str]]:
    """Gives weights our names, and position maps our grids.

    Args:
        source: As :func:`unwrap` returns it.
        own: The state dict of the backbone.

    Returns:
        The weights without what the backbone does not have on purpose, and a
        note of everything that was dropped, skipped or resized.
    """
    built = {name.split('.')[1] for name in own}
    weights, dropped, unbuilt, resized = {}, [], [], []
    for old, value in source.items():
        name = rename(old)
        stage = STAGE.match(name or '')
        if stage and stage[1] not in built:
            unbuilt.append(stage[1])
            continue
        if name is None or name not in own and OPTIONAL.search(name):
            dropped.append(old)
            continue
        if (name.endswith('.pos_embed') and name in own
                and getattr(value, 'ndim', 0) == 4):
            size = own[name].shape[1:3]
            if value.shape[1:3] != size:
                resized.append('resized {} from {}x{} to {}x{}'.format(
                    name, *value.shape[1:3], *size))
                value = resize_pos_embed(value.float(), size).to(value)
        weights[name] = value
    notes = [f'dropped {", ".join(dropped)}'] if dropped else []
    if unbuilt:
        notes.append(f'skipped {len(unbuilt)} tensors of stages not built for '
                     f'these out_indices: {", ".join(sorted(set(unbuilt)))}')
    return weights, notes + resized


def check_fit(model: nn.Module, source: Mapping[str, Any]) -> None:
    """Checks that weights fill an IFormer; output norms may be missing.

    Args:
        model: The backbone.
        source: As :func:`unwrap` returns it.

    Raises:
        ValueError: They have nothing for the backbone, lack a tensor, or have
            one that is unknown or of another shape.
    """
    own = model.state_dict()
    weights, _ = fit_weights(source, own)
    if not own.keys() & weights:
        raise ValueError(
            'the checkpoint matches no tensor of the iFormer backbone: it '
            f'holds {_listing(sorted(weights)) or "nothing"}')
    shapes, wanted = ({name: tuple(getattr(value, 'shape', ()))
                       for name, value in tensors.items()}
                      for tensors in (weights, own))
    problems = {
        'missing': [name for name in own if name not in weights
                    and not OPTIONAL.search(name)],
        'unknown': [name for name in weights if name not in own],
        'of another shape': [
            f'{name} {shape} instead of {wanted[name]}'
            for name, shape in shapes.items()
            if shape != wanted.get(name, shape)]}
    if any(problems.values()):
        question, stem = 'is arch the same?', shapes.get(STEM, ())
        if len(stem) == 4 and stem[1] != wanted[STEM][1]:
            question = (f'in_channels is {wanted[STEM][1]}, the checkpoint was '
                        f'trained with {stem[1]}: change the input, or '
                        f'{STEM} of the file')
        raise ValueError(
            'the checkpoint fits the iFormer backbone only in part '
            f'({question}); ' + '; '.join(
                f'{what} {len(names)}: {_listing(names)}'
                for what, names in problems.items() if names))


def _listing(names: List[str]) -> str:
    return textwrap.shorten(', '.join(names), 1000)
