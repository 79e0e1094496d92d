"""Loads released and trained weights into the backbone, all or nothing."""
import pickle
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, Union

import torch
from mmengine.logging import print_log
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .bounds import check_bounds, zipped
from .layers import resize_pos_embed
from .safe_load import GUARDED, allow_history_buffer, drop_code
from .weights import PREFIXES, RELEASE, SCHEME, cache_path, find


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

# The road for a file that needs a full pickle.
RESAVE = ('where you trust it as you trust a program, re-save it: '
          "torch.save(torch.load(path, weights_only=False)['state_dict'], "
          'new_path)')

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


def load_pretrained(model: nn.Module, checkpoint: str,
                    prefix: Optional[str] = None) -> None:
    """Loads a checkpoint file into an IFormer; all of it or an error.

    Args:
        model: The backbone.
        checkpoint: Path, URL or name, see :func:`read_checkpoint`.
        prefix: Use only the names that begin with it; by default
            ``backbone.`` where there are such names.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As
            :func:`read_checkpoint` and :func:`adapt_state_dict` say.
    """
    content = read_checkpoint(checkpoint)
    if not isinstance(content, Mapping):
        raise ValueError(f'{checkpoint} holds a {type(content).__name__}, '
                         'not the weights of a model')
    try:
        if prefix:
            prefix = prefix.rstrip('.') + '.'
            wrapped = next((content[key] for key in WRAPPERS
                            if key in content), content)
            content = {key[len(prefix):]: value
                       for key, value in wrapped.items()
                       if str(key).startswith(prefix)}
        model.load_state_dict(unwrap(content))
    except (ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(f'{checkpoint}: {error}') from None


def read_checkpoint(source: str, map_location: Any = 'cpu') -> Any:
    """Opens a checkpoint with ``weights_only=True``.

    Args:
        source: One of the released files (``mmiformer://iformer_small``), an
            ``http(s)`` URL or a path, see :func:`~.weights.find`; or any
            scheme that mmengine knows (``openmmlab://...``).
        map_location: Of ``torch.load``.

    Raises:
        FileNotFoundError: There is no such file, here or on the server.
        ConnectionError: The server cannot be reached.
        ValueError: The file is damaged, is not the released one, or needs
            more than ``weights_only`` allows.
    """
    if '://' in source and not source.startswith(PREFIXES):
        return drop_code(
            CheckpointLoader.load_checkpoint(source, map_location))
    path = find(source)
    try:
        return _read(path, map_location)
    except ValueError:
        if '://' in source and path == cache_path(path.name):
            path.unlink()  # so that the next try downloads it again
        raise


# So mmengine's own load_from and Pretrained, and whatever else calls its
# loader, get the verified file too.
@CheckpointLoader.register_scheme((SCHEME, RELEASE), force=True)
def load_from_mmiformer(filename: str, map_location: Any = None) -> Any:
    """Opens a released file for mmengine, which gives the arguments."""
    return read_checkpoint(filename, map_location)


def _read(path: Path, map_location: Any) -> Any:
    allow_history_buffer()  # a fork's mmengine takes it back after its loads
    if not GUARDED and not zipped(path):
        raise ValueError(f'{path} is refused: it is no zipped file of torch. '
                         'Others are safe to open with torch 2.6 or later')
    try:
        check_bounds(path)
        return drop_code(
            torch.load(path, map_location=map_location, weights_only=True))
    except pickle.UnpicklingError as error:
        if match := re.search(
                r'(?:GLOBAL |global |Trying to \w+ |Can only build |getattr\()'
                r'[^\n]*', str(error)):
            raise ValueError(
                f'{path} is refused: it asks for more than tensors '
                f'({match[0][:200]}), which could run code from the file. Ask '
                f'its author for a plain state dict, or, {RESAVE}') from None
        damage = error
    except Exception as error:  # whatever the file's bytes have led to
        damage = error
    reason = (str(damage) or repr(damage)).splitlines()[0][:300]
    raise ValueError(
        f'{path} is damaged or no checkpoint, {path.stat().st_size} bytes '
        f'({reason}); download or copy it again')
