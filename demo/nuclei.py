"""Converts the nuclei of the 2018 Data Science Bowl to COCO's format.

    demo/nuclei.py data/nuclei/stage1_train data/nuclei

SRC has a folder per image, ID/images/ID.png with a file per nucleus in
ID/masks/. Of its images of 256x256 pixels, the first 250 in the order of their
ids go into OUT/train.json, the others (84) into OUT/val.json. Images stay
where they are: the files name them by their path from OUT.
"""
import argparse
import json
import os
import sys
from pathlib import Path
from typing import Iterator, List, Tuple

import cv2
import numpy as np
from pycocotools import mask as coco_mask

SIZE = (256, 256)  # half of the data set; the others have many sizes


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('src', type=Path, metavar='SRC')
    parser.add_argument('out', type=Path, metavar='OUT')
    parser.add_argument('--train', type=int, default=250, metavar='N',
                        help='images of the training split (default: 250)')
    return parser.parse_args()


def find_images(src: Path) -> Tuple[List[Path], int]:
    """The images of ``SIZE`` in the order of their ids, and how many have
    another size.

    Raises:
        ValueError: A folder has no image, or there is none of ``SIZE``.
    """
    if not src.is_dir():
        raise ValueError(f'{src} is no folder')
    images, others = [], 0
    for folder in sorted(path for path in src.iterdir() if path.is_dir()):
        path = folder / 'images' / f'{folder.name}.png'
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f'{path} cannot be read: SRC is stage1_train, a '
                             'folder per image, named by its id')
        if image.shape[:2] == SIZE:
            images.append(path)
        else:
            others += 1
    if not images:
        raise ValueError(f'{src} has no image of {SIZE[0]}x{SIZE[1]} pixels')
    return images, others


def read_objects(image: Path) -> Iterator[dict]:
    """COCO's annotation of each nucleus, but for its ids.

    Raises:
        ValueError: A mask cannot be read, is of another size or empty, or
            there is none.
    """
    folder = image.parents[1] / 'masks'
    paths = sorted(folder.glob('*.png'))
    if not paths:
        raise ValueError(f'{folder} has no mask')
    for path in paths:
        mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if mask is None or mask.shape != SIZE or not mask.any():
            found = 'cannot be read' if mask is None else (
                f'is {mask.shape[0]}x{mask.shape[1]}, the image '
                f'{SIZE[0]}x{SIZE[1]}' if mask.shape != SIZE else 'is empty')
            raise ValueError(f'{path} {found}')
        code = coco_mask.encode(np.asfortranarray(mask > 0, dtype=np.uint8))
        yield dict(
            category_id=1,
            iscrowd=0,
            area=int(coco_mask.area(code)),
            bbox=coco_mask.toBbox(code).tolist(),
            segmentation=dict(
                size=code['size'], counts=code['counts'].decode()))


def to_coco(images: List[Path], out: Path) -> dict:
    """The content of an annotation file in the folder ``out``."""
    content = dict(
        images=[], annotations=[], categories=[dict(id=1, name='nucleus')])
    for number, path in enumerate(images, 1):
        content['images'].append(dict(
            id=number, height=SIZE[0], width=SIZE[1],
            file_name=Path(os.path.relpath(path, out)).as_posix()))
        for entry in read_objects(path):
            content['annotations'].append(dict(
                entry, id=len(content['annotations']) + 1, image_id=number))
    return content


def main() -> None:
    args = parse_args()
    try:
        images, others = find_images(args.src)
        if not 0 < args.train < len(images):
            raise ValueError(
                f'--train {args.train}: {args.src} has {len(images)} images '
                f'of {SIZE[0]}x{SIZE[1]} pixels; choose 1 to '
                f'{len(images) - 1}')
        splits = dict(train=images[:args.train], val=images[args.train:])
        contents = {name: to_coco(split, args.out)
                    for name, split in splits.items()}
        args.out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    for name, content in contents.items():
        path = args.out / f'{name}.json'
        path.write_text(json.dumps(content) + '\n')
        print(f'{path}: {len(content["images"])} images, '
              f'{len(content["annotations"])} nuclei')
    if others:
        print(f'{others} images of other sizes are left out')


if __name__ == '__main__':
    main()
