"""Which frequencies the maps inside a network hold."""
from contextlib import ExitStack
from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..backbone.mixer import HIGH_BRANCHES, InceptionMixer
from .layer_maps import find_layer, last_tensor, to_maps

FLOOR = 1e-6  # added to amplitudes, as 0 has no logarithm
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


def relative_log_amplitude(spectrum: Tensor) -> Tuple[Tensor, Tensor]:
    """A spectrum by frequency alone, relative to frequency 0.

    Args:
        spectrum: From :func:`log_amplitude`.

    Returns:
        Frequencies in units of pi, 0 and the middle of each ring up to 1, the
        highest that a side can hold, and the log amplitude at each less that
        at 0. There are as many rings, of equal width, as the shorter side
        resolves.
    """
    height, width = spectrum.shape
    bins = max(min(height, width) // 2, 1)
    rows, columns = (
        (torch.arange(size, dtype=torch.double) - size // 2) / (size / 2)
        for size in (height, width))
    radius = torch.hypot(rows[:, None], columns)
    zero = spectrum[height // 2, width // 2]
    frequencies, values = [0.], [0.]
    for ring in range(bins):  # the corners, beyond radius 1, are in none
        inside = (radius > ring / bins) & (radius <= (ring + 1) / bins)
        if inside.any():
            frequencies.append((ring + 0.5) / bins)
            values.append(float(spectrum[inside].mean() - zero))
    return (torch.tensor(frequencies, dtype=torch.double),
            torch.tensor(values, dtype=torch.double))


@torch.no_grad()
def layer_spectra(model: nn.Module, images: Sequence[Tensor],
                  layers: Dict[str, str]) -> Dict[str, Tensor]:
    """Spectra of the outputs of layers, averaged over images.

    Args:
        model: A network, or a model of OpenMMLab, of which ``extract_feat``
            runs. In eval mode meanwhile.
        images: Each ``(1, 3, H, W)``, normalised, all of one size.
        layers: Layouts, see :data:`~.layer_maps.LAYOUTS`, by dotted name as in
            ``model.named_modules()``.

    Returns:
        The :func:`log_amplitude` by the layer's name.

    Raises:
        ValueError: There is no such layer, or its layout does not fit.
    """
    spectra: Dict[str, Tensor] = {}

    def add(name: str, layout: str):
        def hook(module, args, out) -> None:
            maps = to_maps(last_tensor(out), layout, size)
            spectra[name] = (spectra.get(name, 0)
                             + log_amplitude(maps) / len(images))
        return hook

    run = getattr(model, 'extract_feat', model)
    training, size = model.training, tuple(images[0].shape[2:])
    with ExitStack() as stack:
        for name, layout in layers.items():
            handle = find_layer(model, name).register_forward_hook(
                add(name, layout))
            stack.callback(handle.remove)
        stack.callback(model.train, training)
        model.eval()
        for image in images:
            run(image)
    return spectra


def mixer_layers(model: nn.Module, numbers: Sequence[int]) -> Dict[str, str]:
    """The branches of some mixers, for :func:`layer_spectra`.

    Args:
        model: A backbone, or a model that has one.
        numbers: Blocks, counted from 1 over all stages: the paper shows 6, 12
            and 18 of a small one.

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
