"""Pictures of spectra and activations.

Figures are made without pyplot, so importing this changes no matplotlib state.
"""
import argparse
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from torch import Tensor

from ..config import output_file
from .spectrum import relative_log_amplitude


def image_file(text: str) -> Path:
    """An argparse type: an image that can be read."""
    if not cv2.haveImageReader(text):
        raise argparse.ArgumentTypeError(f'{text}: not an image')
    return Path(text)


def picture_file(text: str) -> Path:
    """An argparse type: a picture to write, whose folder is created."""
    known = FigureCanvasBase.get_supported_filetypes()
    if Path(text).suffix[1:] not in known:
        raise argparse.ArgumentTypeError(
            f'{text}: name a file of the suffix .' + ', .'.join(known))
    return output_file(text)


def make_grid(rows: int, columns: int, size: Tuple[float, float]
          ) -> Tuple[Figure, np.ndarray]:
    """A figure of a size in inches, and its axes (rows, columns)."""
    figure = Figure(figsize=size)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.axis('off')
    return figure, axes


def grey(image: np.ndarray) -> np.ndarray:
    """Takes the colours out of an image, so that tints can be told apart."""
    values = (image @ np.array([0.3, 0.59, 0.11])).astype(np.uint8)
    return np.repeat(values[..., None], 3, axis=2)


def draw_spectra(path: Path, spectra: Dict[str, Tensor], title: str) -> None:
    """Saves the curves of relative log amplitude, and each 2-D spectrum.

    Args:
        path: PNG file.
        spectra: From :func:`~.spectrum.mixer_spectra`.
        title: Above the picture.
    """
    columns = -(-len(spectra) // 3)
    figure = Figure(figsize=(5 + 2.2 * columns, 6.4))
    left, right = figure.subfigures(1, 2, width_ratios=(5, 2.2 * columns))
    ax = left.subplots()
    grid = right.subplots(3, columns, squeeze=False)
    for cell in grid.flat:
        cell.axis('off')
    for cell, (name, spectrum) in zip(grid.T.flat, spectra.items()):
        label = name.replace('.mixer.', '\n')  # block and branch
        frequencies, values = relative_log_amplitude(spectrum)
        ax.plot(frequencies, values, marker='.', label=label)
        cell.imshow(spectrum - spectrum.max(), vmin=-8, vmax=0)
        cell.set_title(label, fontsize=7)
    ax.set(xlabel='frequency, in units of pi',
           ylabel='log amplitude, relative to that of frequency 0')
    ax.legend(fontsize=7, ncol=3, loc='upper center',
              bbox_to_anchor=(0.5, -0.12))
    left.subplots_adjust(bottom=0.28)
    right.subplots_adjust(hspace=0.4, bottom=0.05)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=80)


def draw_activations(
        path: Path, names: Sequence[str], images: Sequence[np.ndarray],
        rows: List[List[Tuple[np.ndarray, Optional[np.ndarray], str]]]
) -> None:
    """Saves a grid: each image, and beside it where each model sees a class.

    Args:
        path: PNG file.
        names: Models, one per column.
        images: ``(H, W, 3)`` uint8 RGB, one per row.
        rows: Per image, per model: the image as the model sees it
            ``(h, w, 3)``, the activation ``(h, w)`` from 0 to 1 or None where
            the class is not seen, and a title.
    """
    columns = 1 + len(names)
    figure, axes = make_grid(
        len(rows), columns, (2.6 * columns, 2.8 * len(rows)))
    for line, image, cells in zip(axes, images, rows):
        line[0].imshow(image)
        for ax, (seen, heat, title) in zip(line[1:], cells):
            ax.imshow(grey(seen))
            if heat is not None:
                ax.imshow(heat, cmap='jet', alpha=0.5, vmin=0, vmax=1)
            ax.set_title(title, fontsize=8)
    for ax, name in zip(axes[0], ('image', *names)):
        ax.set_title(f'{name}\n{ax.get_title()}', fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
