"""Writes a synthetic data set: shapes on structured backgrounds.

    demo/shapes.py [data/shapes]

It is generated from a seed and written in the formats of COCO (polygons and
boxes), ADE20K (label maps) and ImageNet (a folder per class), so that mmdet,
mmseg and mmpretrain read it with their stock data set classes.
"""
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence, Tuple, Union

import cv2
import numpy as np

CLASSES = ('circle', 'square', 'triangle')
# RGB. A list: mmdet takes a tuple for a single colour.
PALETTE = [(230, 60, 60), (60, 180, 75), (70, 110, 250)]
MIN_VISIBLE = 0.3  # the least visible part of an annotated shape
MIN_AREA = 60  # pixels
MAX_TILT = 0.2  # radians; squares and triangles stand nearly upright
MANIFEST = 'shapes.json'  # written last: its presence says "complete"
JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95)


def make_shapes(root: Union[str, Path], train: int = 480, val: int = 96,
                size: int = 128, seed: int = 0) -> Path:
    """Generates the data set, unless it is there.

    ::

        root/images/{training,validation}/00000.jpg
        root/annotations/{training,validation}/00000.png    ADE20K style:
            0 unlabelled (the rest of a shape that others hide),
            1 background, 2 circle, 3 square, 4 triangle
        root/annotations/instances_{training,validation}.json    COCO style
        root/crops/{training,validation}/{circle,square,triangle}/00000_0.jpg
            ImageNet style: each shape with its surroundings

    Args:
        root: The folder. It appears complete or not at all.
        train: Training images.
        val: Validation images.
        size: Side of an image in pixels.
        seed: The same seed gives the same pictures.

    Returns:
        ``root``.

    Raises:
        ValueError: ``root`` exists and holds something else.
        OSError: A file cannot be written.
    """
    root = Path(root)
    wanted = dict(train=train, val=val, size=size, seed=seed, version=3)
    if root.exists():
        manifest = root / MANIFEST
        found = json.loads(manifest.read_text()) if manifest.exists() else None
        if found != wanted:
            raise ValueError(
                f'{root} holds {found or "no complete shapes data set"}, '
                f'wanted {wanted}: remove it or choose another folder')
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=root.parent, prefix=f'.{root.name}'))
    try:
        for number, (split, count) in enumerate(
                (('training', train), ('validation', val))):
            _write_split(scratch, split, count, size, (seed, number))
        (scratch / MANIFEST).write_text(json.dumps(wanted))
        scratch.chmod(0o755)
        os.replace(scratch, root)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return root


def _write_split(root: Path, split: str, count: int, size: int,
                 seed: Tuple[int, int]) -> None:
    images, annotations = [], []
    for kind in ('images', 'annotations'):
        (root / kind / split).mkdir(parents=True)
    for name in CLASSES:
        (root / 'crops' / split / name).mkdir(parents=True)
    for index in range(count):
        image, masks, labels, hidden = draw_scene(
            np.random.default_rng((*seed, index)), size)
        _write(root / 'images' / split / f'{index:05d}.jpg', image, JPEG)
        semantic = np.where(hidden, 0, 1).astype(np.uint8)
        for mask, label in zip(masks, labels):
            semantic[mask] = label + 2
        _write(root / 'annotations' / split / f'{index:05d}.png', semantic)
        images.append(dict(id=index, file_name=f'{index:05d}.jpg',
                           width=size, height=size))
        for number, (mask, label) in enumerate(zip(masks, labels)):
            annotations.append(dict(
                id=len(annotations) + 1, image_id=index,
                category_id=label + 1, **_describe(mask)))
            _write(
                root / 'crops' / split / CLASSES[label] /
                f'{index:05d}_{number}.jpg',
                _crop(image, annotations[-1]['bbox']), JPEG)
    coco = dict(images=images, annotations=annotations, categories=[
        dict(id=i + 1, name=name, supercategory='shape')
        for i, name in enumerate(CLASSES)])
    path = root / 'annotations' / f'instances_{split}.json'
    path.write_text(json.dumps(coco))


def _write(path: Path, image: np.ndarray,
           options: Sequence[int] = ()) -> None:
    if not cv2.imwrite(str(path), image, options):  # a full disk, say
        raise OSError(f'{path} could not be written')


def _crop(image: np.ndarray, box: List[int]) -> np.ndarray:
    """A square around a box, half as large again, inside the image."""
    left, top, width, height = box
    size = len(image)
    side = min(size, int(1.5 * max(width, height)))
    left = min(max(left + (width - side) // 2, 0), size - side)
    top = min(max(top + (height - side) // 2, 0), size - side)
    return image[top:top + side, left:left + side]


def draw_scene(rng: np.random.Generator, size: int
               ) -> Tuple[np.ndarray, List[np.ndarray], List[int], np.ndarray]:
    """Draws a picture; later shapes hide earlier ones.

    Returns:
        The image, ``(size, size, 3)`` uint8; for each shape that can be seen
        its visible mask, ``(size, size)`` bool; the classes; and the mask of
        what is left of the shapes that others hide.
    """
    image = _background(rng, size)
    masks, areas, labels, placed = [], [], [], []
    for _ in range(rng.integers(3, 9)):
        label = int(rng.integers(len(CLASSES)))
        radius = size * rng.uniform(0.08, 0.18)
        for _ in range(20):  # tries to leave most of the others in sight
            centre = rng.uniform(0.8 * radius, size - 0.8 * radius, 2)
            if all(np.hypot(*(centre - c)) > 0.85 * (radius + r)
                   for c, r in placed):
                break
        placed.append((centre, radius))
        distance = _distance(CLASSES[label], centre, radius,
                             rng.uniform(-MAX_TILT, MAX_TILT), size)
        alpha = np.clip(0.5 - distance, 0, 1)[..., None]
        image = (1 - alpha) * image + alpha * _texture(rng, size)
        mask = distance < 0
        masks = [other & ~mask for other in masks] + [mask]
        areas.append(mask.sum())
        labels.append(label)
    image = image + rng.normal(0, 4, image.shape)
    seen = [i for i, mask in enumerate(masks)
            if mask.sum() >= max(MIN_AREA, MIN_VISIBLE * areas[i])]
    hidden = np.any([mask for i, mask in enumerate(masks) if i not in seen] +
                    [np.zeros((size, size), bool)], axis=0)
    return (np.clip(image, 0, 255).astype(np.uint8),
            [masks[i] for i in seen], [labels[i] for i in seen], hidden)


def _distance(name: str, centre: np.ndarray, radius: float, angle: float,
              size: int) -> np.ndarray:
    """Signed distance of each pixel to the outline, negative inside."""
    y, x = np.mgrid[:size, :size] - centre[:, None, None]
    if name == 'circle':
        return np.hypot(x, y) - radius
    corners = 4 if name == 'square' else 3
    normals = angle + np.pi / 2 + 2 * np.pi * np.arange(corners) / corners
    # As large as the circle of that radius: size must not tell the class.
    inner = radius * np.sqrt(np.pi / corners / np.tan(np.pi / corners))
    return np.max([x * np.cos(a) + y * np.sin(a) for a in normals],
                  axis=0) - inner


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """A muted gradient with stripes, a checkerboard or clouds over it."""
    y, x = np.mgrid[:size, :size] / size
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (x * np.cos(angle) + y * np.sin(angle) + 1) / 2
    first, second = rng.uniform(50, 205, (2, 1)) + rng.uniform(-20, 20, (2, 3))
    image = first + (second - first) * ramp[..., None]
    kind = rng.integers(4)
    if kind == 0:
        pattern = np.sin(2 * np.pi * rng.uniform(3, 12) * ramp)
    elif kind == 1:
        cells = rng.integers(3, 10)
        pattern = ((x * cells).astype(int) + (y * cells).astype(int)) % 2 - .5
    elif kind == 2:
        pattern = cv2.resize(rng.normal(0, .7, (8, 8)), (size, size),
                             interpolation=cv2.INTER_CUBIC)
    else:
        pattern = np.zeros((size, size))
    return image + rng.uniform(10, 35) * pattern[..., None]


def _texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """The paint of a shape: plain, striped, dotted or shaded."""
    y, x = np.mgrid[:size, :size]
    # A vivid colour: one channel high, one low, one anywhere.
    colour = rng.permutation([
        rng.uniform(170, 255), rng.uniform(0, 60), rng.uniform(0, 255)])
    angle, period = rng.uniform(0, 2 * np.pi), rng.uniform(5, 12)
    along = x * np.cos(angle) + y * np.sin(angle)
    kind = rng.integers(4)
    if kind == 0:
        pattern = np.zeros((size, size))
    elif kind == 1:
        pattern = np.sign(np.sin(2 * np.pi * along / period))
    elif kind == 2:
        pattern = (np.hypot(x % period - period / 2, y % period - period / 2)
                   < period / 4) * 2. - .5
    else:
        pattern = 3 * (along - along.mean()) / size
    return colour + 30 * pattern[..., None]


def _describe(mask: np.ndarray) -> Dict[str, object]:
    """COCO's polygons, box (x, y, width, height) and area of a mask."""
    # Traced at twice the size, so that the outline runs around the pixels and
    # not through their centres.
    contours, _ = cv2.findContours(
        mask.repeat(2, 0).repeat(2, 1).astype(np.uint8), cv2.RETR_EXTERNAL,
        cv2.CHAIN_APPROX_SIMPLE)
    polygons = [((contour.reshape(-1) + .5) / 2).tolist()
                for contour in contours]
    ys, xs = np.nonzero(mask)
    box = [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1,
           int(np.ptp(ys)) + 1]
    return dict(segmentation=polygons, bbox=box, area=int(mask.sum()),
                iscrowd=0)


if __name__ == '__main__':
    print(make_shapes(*(sys.argv[1:] or ['data/shapes'])))
