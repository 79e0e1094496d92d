"""Which frequencies the branches of a mixer hold."""
from contextlib import ExitStack
from functools import partial
from typing import Dict, Sequence, Tuple

import torch
from torch import Tensor, nn

from ..backbone.mixer import InceptionMixer

FLOOR = 1e-6  # added to amplitudes, as 0 has no logarithm


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
    # Ring 0 is frequency 0 alone; the corners, beyond radius 1, are in none.
    edges = torch.arange(bins + 1, dtype=torch.double) / bins
    rings = torch.bucketize(radius, edges)
    values = torch.stack([spectrum[rings == i].mean()
                          for i in range(bins + 1)])
    frequencies = torch.cat([edges[:1], edges[1:] - 0.5 / bins])
    return frequencies, values - values[0]


@torch.no_grad()
def mixer_spectra(backbone: nn.Module, images: Sequence[Tensor],
                  numbers: Sequence[int]) -> Dict[str, Tensor]:
    """Spectra of the branches of some mixers, averaged over images.

    Args:
        backbone: An IFormer in eval mode.
        images: Each ``(1, 3, H, W)``, normalised, all of one size.
        numbers: Blocks, counted from 1 over all stages: the paper shows 6, 12
            and 18 of a small one.

    Returns:
        The :func:`log_amplitude` by the branch's dotted name.

    Raises:
        ValueError: There are not so many blocks.
    """
    mixers = [(name, module) for name, module in backbone.named_modules()
              if isinstance(module, InceptionMixer)]
    if not 1 <= min(numbers) <= max(numbers) <= len(mixers):
        raise ValueError(f'no blocks {list(numbers)}: there are 1 to '
                         f'{len(mixers)}')
    spectra: Dict[str, Tensor] = {}

    def add(name: str, module: nn.Module, args: tuple, maps: Tensor) -> None:
        spectra[name] = spectra.get(name, 0) + log_amplitude(
            maps.permute(0, 3, 1, 2)) / len(images)  # of (1, H, W, C)

    with ExitStack() as stack:
        for name, mixer in (mixers[i - 1] for i in sorted({*numbers})):
            for part in mixer.parts:
                stack.callback(getattr(mixer, part).register_forward_hook(
                    partial(add, f'{name}.{part}')).remove)
        for image in images:
            backbone(image)
    return spectra
