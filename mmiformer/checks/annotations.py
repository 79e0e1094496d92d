"""Looks for what could crash pycocotools, or lead out of the data's folder.

pycocotools draws masks in C. Coordinates and sizes far beyond an image end the
interpreter there, or take tens of gigabytes for one polygon; no ``except``
helps. Whether annotations are right is not asked here.
"""
import gc
import json
import os
from pathlib import Path
from typing import Callable, Iterator, List, Optional

FURTHEST = 10**5  # pixels from the corner that a polygon may reach: 40 MB
LARGEST = 1 << 28  # pixels of an image with run lengths
MOST_FAULTS = 5  # listed per file


def find_annotation_faults(path: Path,
                           folder: Optional[Path] = None) -> List[str]:
    """What is dangerous in a file of COCO's format, some faults of each.

    Args:
        path: The JSON file.
        folder: Of the images; None where they are not read.
    """
    try:
        content = read_json(path, parse_constant=_refuse)
        images = {image['id']: image for image in content.get('images', ())}
        faults = [*_check_names(images.values(), folder),
                  *_check_masks(content.get('annotations', ()), images)]
    except (ValueError, RecursionError) as error:
        return [f'{path} is no JSON that can be read ({error})']
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        return [f"{path} is not of COCO's format ({error!r})"]
    more = len(faults) - MOST_FAULTS
    return [f'{path}: {fault}' for fault in faults[:MOST_FAULTS]] + (
        [f'{path}: {more} more of these'] if more > 0 else [])


def read_json(path: os.PathLike, **options: Callable) -> object:
    """What is in a JSON file; options are those of :func:`json.loads`.

    Raises:
        OSError: The file cannot be read.
        ValueError, RecursionError: It is no JSON.
    """
    collecting = gc.isenabled()
    gc.disable()  # of use to nothing in a tree, and a third of the time
    try:
        return json.loads(Path(path).read_text(encoding='utf-8'), **options)
    finally:
        if collecting:
            gc.enable()


def _refuse(name: str) -> None:
    raise ValueError(f'{name} is no number of JSON')


def _check_names(images, folder: Optional[Path]) -> Iterator[str]:
    if folder is None:
        return
    top = os.path.join(os.path.normpath(os.path.abspath(folder)), '')
    for image in images:
        name = image['file_name']
        if not os.path.normpath(os.path.join(top, name)).startswith(top):
            yield (f'the image {name!r} lies outside of {folder}; if it '
                   'should, let data_prefix name a folder around it')


def _check_masks(annotations, images: dict) -> Iterator[str]:
    for annotation in annotations:
        mask = annotation.get('segmentation')
        if isinstance(mask, list):
            if any(polygon and not (max(polygon) <= FURTHEST
                                    and min(polygon) >= -FURTHEST)
                   for polygon in mask):
                yield (f'annotation {annotation.get("id")}: a polygon reaches '
                       f'further than {FURTHEST} pixels')
        elif isinstance(mask, dict):
            image = images[annotation['image_id']]
            size = [image['height'], image['width']]
            if mask.get('size') != size or size[0] * size[1] > LARGEST:
                yield (f'annotation {annotation.get("id")}: run lengths of '
                       f'the size {mask.get("size")}, the image has {size}, '
                       f'at most {LARGEST} pixels')
        elif mask is not None:
            yield (f'annotation {annotation.get("id")}: its segmentation is '
                   f'a {type(mask).__name__}')
