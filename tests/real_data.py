"""Tiny data sets laid out as the real ones are."""
from pathlib import Path

import cv2
import numpy as np

VOID = 11


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def write_nucleus(src: Path, name: str, *masks, size=(256, 256)) -> None:
    """An image of stage1_train, with four channels, and a mask for each index
    of its pixels."""
    rows = np.arange(size[0], dtype=np.uint8) + ord(name[0])
    image = np.broadcast_to(rows[:, None, None], (*size, 4))
    write(src / name / 'images' / f'{name}.png', image)
    for number, mask in enumerate(masks):
        pixels = np.zeros(size, np.uint8)
        pixels[mask] = 255
        write(src / name / 'masks' / f'{number}.png', pixels)


def write_camvid(root: Path, per_split: int = 2) -> None:
    """Images of 480x360 with a vertical stripe for each class, and void."""
    labels = np.broadcast_to(
        np.arange(480) // 40, (360, 480)).astype(np.uint8)
    assert set(labels.flat) == {*range(VOID + 1)}
    for split in ('train', 'val', 'test'):
        for number in range(per_split):
            name = f'{split}_{number}.png'
            image = np.repeat(labels[..., None] * 20, 3, axis=2)
            image[0] = ord(split[1]) + number  # no two images are alike
            write(root / split / name, image)
            write(root / f'{split}annot' / name, labels)
