"""Layers of any model: found by name, their outputs as maps."""
import difflib
from typing import Any, Iterable, Tuple

from torch import Tensor, nn

LAYOUTS = ('NCHW', 'NHWC', 'tokens')


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of a dotted name, as in ``model.named_modules()``.

    Raises:
        ValueError: There is none.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        raise ValueError(f'no layer {name!r}: {suggest(name, modules)}')
    return modules[name]


def suggest(name: str, choices: Iterable[str]) -> str:
    """For a message: the choices that are most like the name."""
    similar = difflib.get_close_matches(
        name, filter(None, choices), n=12, cutoff=0.)
    return f'choose from {similar}'


def last_tensor(output: Any) -> Tensor:
    """The tensor that a layer returns, or the last of several.

    Raises:
        ValueError: There is none.
    """
    outputs = output if isinstance(output, (tuple, list)) else (output, )
    tensors = [x for x in outputs if isinstance(x, Tensor)]
    if not tensors:
        raise ValueError('the layer returns no tensor: choose another layer')
    return tensors[-1]


def to_maps(x: Tensor, layout: str, size: Tuple[int, int]) -> Tensor:
    """The output of a layer as feature maps ``(B, C, h, w)``.

    Args:
        x: ``(B, C, H, W)``, ``(B, H, W, C)`` or ``(B, N, C)``.
        layout: One of :data:`LAYOUTS`. Leading tokens without a position, such
            as a class token, are dropped.
        size: ``(H, W)`` of the input image in pixels, whose shape the grid of
            tokens has.

    Raises:
        ValueError: The layout is unknown or does not fit the tensor.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'unknown layout {layout!r}: choose from '
                         f'{list(LAYOUTS)}')
    if x.dim() != (3 if layout == 'tokens' else 4):
        raise ValueError(f'a tensor of shape {tuple(x.shape)} is not '
                         f'{layout}: choose another layout or layer')
    if layout == 'NCHW':
        return x
    if layout == 'NHWC':
        return x.permute(0, 3, 1, 2)
    height, width = size
    # The largest grid of the image's shape that the tokens fill.
    for h in range(int((x.shape[1] * height / width) ** 0.5), 0, -1):
        if h * width % height == 0:
            w = h * width // height
            return x[:, x.shape[1] - h * w:].transpose(1, 2).unflatten(
                2, (h, w))
    raise ValueError(f'{x.shape[1]} tokens are no grid of an image of '
                     f'{height}x{width} pixels')
