"""Which frequencies the maps inside a network hold."""
from contextlib import ExitStack
from typing import Dict, Optional, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..backbone.mixer import HIGH_BRANCHES, InceptionMixer

FLOOR = 1e-6  # added to amplitudes: what is exactly 0 has no logarithm
LAYOUTS = ('NCHW', 'NHWC', 'tokens')
BRANCHES = (*(name for name, _ in HIGH_BRANCHES.values()), 'low_mixer')


def log_amplitude(maps: Tensor) -> Tensor:
    """The 2-D spectrum of maps: the natural logarithm of the amplitudes of
    the Fourier transform, averaged over images and channels.

    Source: Park and Kim, "How Do Vision Transformers Work?", ICLR 2022,
    section 3; figures 1 and 4 of the iFormer paper.

    Args:
        maps: ``(B, C, H, W)``.

    Returns:
        ``(H, W)``, frequency 0 at ``(H // 2, W // 2)``.
    """
    amplitude = torch.fft.fft2(maps.double(), norm='forward').abs()
    return torch.fft.fftshift((amplitude + FLOOR).log().mean((0, 1)))


def relative_log_amplitude(spectrum: Tensor, bins: Optional[int] = None
                           ) -> Tuple[Tensor, Tensor]:
    """A spectrum by frequency alone, relative to that of frequency 0.

    Args:
        spectrum: Of :func:`log_amplitude`.
        bins: Rings of equal width that the frequencies are averaged in; by
            default one for each that the shorter side resolves.

    Returns:
        Frequencies in units of pi (0, then the middle of each ring up to 1,
        the highest that a side can hold), and what the logarithm has there
        above that at 0.
    """
    height, width = spectrum.shape
    bins = bins or max(min(height, width) // 2, 1)
    rows, columns = (
        (torch.arange(size, dtype=torch.double) - size // 2) / (size / 2)
        for size in (height, width))
    radius = torch.hypot(rows[:, None], columns)
    zero = spectrum[height // 2, width // 2]
    frequencies, values = [0.], [0.]
    for ring in range(bins):
        # Half a ring is left to frequency 0 and the corners are left out.
        inside = (radius > ring / bins) & (radius <= (ring + 1) / bins)
        if inside.any():
            frequencies.append((ring + 0.5) / bins)
            values.append(float(spectrum[inside].mean() - zero))
    return (torch.tensor(frequencies, dtype=torch.double),
            torch.tensor(values, dtype=torch.double))


def to_maps(x: Tensor, layout: str, size: Tuple[int, int]) -> Tensor:
    """What a layer emits, as maps.

    Args:
        x: ``(B, C, H, W)``, ``(B, H, W, C)`` or ``(B, N, C)``.
        layout: Of :data:`LAYOUTS`. Tokens may begin with some that belong to
            no place (a class token); they are left out.
        size: Of the image that went in, in pixels: the shape of the grid
            that tokens stand for.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ValueError: The layout does not fit the tensor.
    """
    if layout not in LAYOUTS:
        raise ValueError(f'unknown layout {layout!r}: choose from '
                         f'{list(LAYOUTS)}')
    if x.dim() != (3 if layout == 'tokens' else 4):
        raise ValueError(f'a tensor of shape {tuple(x.shape)} is not '
                         f'{layout}: choose another layout')
    if layout == 'NCHW':
        return x
    if layout == 'NHWC':
        return x.permute(0, 3, 1, 2)
    height, width = size
    for h in range(int((x.shape[1] * height / width) ** 0.5), 0, -1):
        if h * width % height == 0:
            w = h * width // height
            break
    else:
        raise ValueError(f'{x.shape[1]} tokens are no grid of an image of '
                         f'{height}x{width} pixels')
    return x[:, x.shape[1] - h * w:].transpose(1, 2).unflatten(2, (h, w))


@torch.no_grad()
def layer_spectra(model: nn.Module, images: Sequence[Tensor],
                  layers: Dict[str, str]) -> Dict[str, Tensor]:
    """Spectra of what layers emit, averaged over images.

    Args:
        model: A network, or a model of OpenMMLab, of which those parts run
            that make features; set to eval mode meanwhile.
        images: Each ``(1, 3, H, W)``, normalised, all of one size.
        layers: The layout, of :data:`LAYOUTS`, by the layer's dotted name
            as in ``model.named_modules()``.

    Returns:
        The :func:`log_amplitude` by the layer's name.

    Raises:
        ValueError: There is no such layer, or its layout does not fit.
    """
    modules = dict(model.named_modules())
    if unknown := [name for name in layers if name not in modules]:
        raise ValueError(f'no layer {unknown[0]!r}: choose from '
                         f'{[name for name in modules if name]}')
    spectra: Dict[str, Tensor] = {}
    size = (0, 0)

    def keep(name: str, layout: str):
        def hook(module, args, out) -> None:
            out = out[-1] if isinstance(out, (tuple, list)) else out
            spectrum = log_amplitude(to_maps(out, layout, size))
            spectra[name] = spectra.get(name, 0) + spectrum / len(images)
        return hook

    run = getattr(model, 'extract_feat', model)
    training = model.training
    with ExitStack() as stack:
        for name, layout in layers.items():
            handle = modules[name].register_forward_hook(keep(name, layout))
            stack.callback(handle.remove)
        try:
            model.eval()
            for image in images:
                size = tuple(image.shape[2:])
                run(image)
        finally:
            model.train(training)
    return spectra


def mixer_layers(model: nn.Module, numbers: Sequence[int]) -> Dict[str, str]:
    """The branches of some mixers, for :func:`layer_spectra`.

    Args:
        model: A backbone, or a model that has one.
        numbers: Of the blocks, counted from 1 over all stages: the paper
            shows 6, 12 and 18 of a small one.

    Raises:
        ValueError: There are not so many blocks.
    """
    mixers = [name for name, module in model.named_modules()
              if isinstance(module, InceptionMixer)]
    if not 1 <= min(numbers) <= max(numbers) <= len(mixers):
        raise ValueError(f'no blocks {list(numbers)}: there are 1 to '
                         f'{len(mixers)}')
    return {f'{name}.{branch}': 'NHWC'
            for name in (mixers[number - 1] for number in numbers)
            for branch in BRANCHES
            if hasattr(model.get_submodule(name), branch)}
