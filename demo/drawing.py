"""Pictures of the demo: predictions beside the truth, and curves."""
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mmiformer.paper.logs import read_scalars, to_points
from mmiformer.paper.pictures import grey, make_grid

Colour = Tuple[int, int, int]


def overlay(image: np.ndarray, mask: np.ndarray, colour: Colour) -> np.ndarray:
    """Tints the part of an image, (H, W, 3) uint8 RGB, that a mask covers."""
    image = image.copy()
    image[mask] = (0.45 * image[mask] +
                   0.55 * np.array(colour)).astype(np.uint8)
    return image


def draw_pairs(path: Path, title: str, rows: List[List], draw,
               classes: Sequence[str], palette: Sequence[Colour]) -> None:
    """Saves a grid: image, truth and prediction side by side, twice a row.

    Args:
        path: PNG file.
        title: Above the grid.
        rows: One ``[image, truth, prediction]`` per picture.
        draw: ``draw(axes, image, what)`` paints a truth or a prediction.
        classes: Names for the legend.
        palette: Their colours, RGB.
    """
    height = -(-len(rows) // 2)
    ratio = max(image.shape[0] / image.shape[1] for image, *_ in rows)
    inches = (1.8 * ratio + 0.3) * height + 0.9
    figure, axes = make_grid(height, 6, (12, inches))
    for number, (image, truth, prediction) in enumerate(rows):
        line = axes[number // 2, 3 * (number % 2):][:3]
        line[0].imshow(image)
        draw(line[1], image, truth)
        draw(line[2], image, prediction)
    for ax, name in zip(axes[0], ('image', 'truth', 'prediction') * 2):
        ax.set_title(name)
    figure.suptitle(title)
    columns = min(len(classes), 8)
    lines = -(-len(classes) // columns)
    figure.legend(
        handles=[Patch(color=np.array(colour) / 255, label=name)
                 for name, colour in zip(classes, palette)],
        loc='lower center', ncol=columns, frameon=False)
    figure.tight_layout(rect=(0, (0.2 + 0.2 * lines) / inches, 1, 1))
    figure.savefig(path, dpi=80)


def draw_segments(ax, image: np.ndarray, labels: np.ndarray,
                  palette: Sequence[Colour]) -> None:
    """Paints a label map, (H, W), each class but the first, over an image."""
    image = grey(image)
    for label, colour in enumerate(palette[1:], 1):
        image = overlay(image, labels == label, colour)
    ax.imshow(image)


def draw_instances(ax, image: np.ndarray, instances: List[Dict],
                   palette: Sequence[Colour]) -> None:
    """Paints instances: ``mask`` (H, W) bool, ``box`` (x1, y1, x2, y2),
    ``label``, and for predictions ``score``."""
    image = grey(image)
    for instance in instances:
        image = overlay(image, instance['mask'], palette[instance['label']])
    ax.imshow(image)
    for instance in instances:
        left, top, right, bottom = instance['box']
        colour = np.array(palette[instance['label']]) / 255
        ax.add_patch(Rectangle((left - .5, top - .5), right - left,
                               bottom - top, fill=False, color=colour))
        if 'score' in instance:
            ax.text(left, max(top - 2, 6), f"{instance['score']:.2f}",
                    fontsize=6, color='white',
                    bbox=dict(facecolor=colour, pad=0.6, linewidth=0))


def draw_curves(path: Path, runs: Dict[str, Tuple[Path, Dict[str, str]]]
                ) -> None:
    """Saves a panel per run: loss by iteration, and metrics beside it.

    Args:
        path: PNG file.
        runs: For each title, the work dir and ``{logged name: label}`` of
            the metrics.
    """
    figure = Figure(figsize=(11, 3.8))
    axes = figure.subplots(1, len(runs), squeeze=False)
    for ax, (title, (work_dir, metrics)) in zip(axes[0], runs.items()):
        records = read_scalars(work_dir)
        train = [r for r in records if 'loss' in r]
        ax.plot([r['iter'] for r in train], [r['loss'] for r in train],
                color='tab:gray', label='loss')
        ax.set(title=title, xlabel='iteration', ylabel='loss', ylim=(0, None))
        right = ax.twinx()
        right.set(ylabel='metric on held-out images', ylim=(0, 1))
        # An epoch-based run logs a validation by its epoch.
        last = {r['epoch']: r['iter'] for r in train if 'epoch' in r}
        for name, label in metrics.items():
            tested = [r for r in records if name in r]
            right.plot([last.get(r['step'], r['step']) for r in tested],
                       [to_points(name, r[name]) / 100 for r in tested],
                       marker='o', label=label)
        lines = [*ax.get_lines(), *right.get_lines()]
        ax.legend(handles=lines, loc='upper center', ncol=len(lines),
                  bbox_to_anchor=(0.5, -0.15), frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
