"""Checks folders of images and label maps as mmseg's BaseSegDataset reads
them."""
import os
from pathlib import Path
from typing import Dict, List, Tuple

import numpy as np

from .files import (
    IMAGE_MISSING,
    DamageError,
    Size,
    choose,
    is_file,
    read_map,
    read_size,
    run_each,
)
from .part import EMPTY, EMPTY_CLASS, UNBUILT, Found, Job, Part
from .report import Kind

MAP_MISSING = Kind(
    'label maps that are missing', 'the loader stops at the first', True)
MAP_SIZE = Kind(
    'label maps of another size than their image', 'mmseg stops where it crops '
    'or packs them, or lays them over the image as if they fitted', True)
LABEL_BEYOND = Kind(
    'labels beyond num_classes', 'the loss stops, on a GPU with a '
    'device-side assert', True)
MAP_IGNORED = Kind(
    'label maps of ignored pixels alone', 'mmseg learns nothing from them and '
    'says nothing', False)
MAP_SPARE = Kind(
    'label maps without an image', 'mmseg never reads them', False)
IMAGE_SPARE = Kind(
    'images of another suffix than img_suffix', 'mmseg never reads them',
    False)
IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')


def check_segmentation(part: Part, job: Job) -> Found:
    """Checks the images of a folder or list, and their label maps.

    Args:
        part: A data set that loads as BaseSegDataset does.
        job: How, and where the faults go.

    Returns:
        The images that are read.
    """
    try:
        items = part.dataset.load_data_list()
    except (AssertionError, OSError, UnicodeError, ValueError) as error:
        job.report.add(UNBUILT, f'{part.split}: {error}')
        return Found()
    if not part.dataset.ann_file:
        _find_spare(part, job, items)
    items = part.subset(items)
    job.report.read.append(
        f'{part.split}: {part.dataset.data_prefix.get("img_path")}, '
        f'{len(items)} images')
    if not items:
        job.report.add(
            EMPTY, f'{part.split}: {part.dataset.data_prefix.get("img_path")}'
            f' has no *{part.dataset.img_suffix}')
    maps = {item['img_path']: item.get('seg_map_path') for item in items}
    there = []
    for image, labels in maps.items():
        if not is_file(image):
            job.report.add(IMAGE_MISSING, image)
        if labels and not is_file(labels):
            job.report.add(MAP_MISSING, labels)
        if is_file(image) and (not labels or is_file(labels)):
            there.append((image, labels))
    _check_files(part, job, there)
    return Found([item['img_path'] for item in items])


def _find_spare(part: Part, job: Job, items: List[dict]) -> None:
    """What lies in the folders and is not read."""
    prefix, suffix = part.dataset.data_prefix, part.dataset.img_suffix
    for path in _walk(prefix.get('img_path')):
        if path.lower().endswith(IMAGES) and not path.endswith(suffix):
            job.report.add(IMAGE_SPARE, path)
    maps = {os.path.normpath(item['seg_map_path']) for item in items
            if item.get('seg_map_path')}
    if maps:
        for path in _walk(prefix.get('seg_map_path')):
            if path.endswith(part.dataset.seg_map_suffix) and (
                    os.path.normpath(path) not in maps):
                job.report.add(MAP_SPARE, path)


def _walk(folder: str) -> List[str]:
    return sorted(os.path.join(root, name)
                  for root, _, names in os.walk(folder or '')
                  for name in names if not name.startswith('.'))


def _check_files(part: Part, job: Job,
                 files: List[Tuple[str, str]]) -> None:
    classes = part.classes or ()
    limit = min([*part.heads.values()] or [len(classes) or 255])
    ignored = part.dataset.ignore_index
    totals = np.zeros(256, int)
    chosen = choose(files, job.sample)
    for (image, path), result in run_each(
            lambda pair: _read_pair(part, *pair), chosen,
            f'{part.split}: images and maps', job.track):
        if isinstance(result, DamageError):
            name = path if result.about_map else image
            job.report.add(result.kind, f'{name}: {result}')
            continue
        size, counts = result
        totals += counts
        if path:
            _check_labels(job, path, counts, limit, ignored)
    if job.sample is None and len(chosen) and chosen[0][1]:
        for label, name in enumerate(classes):
            if label != ignored and not totals[label]:
                job.report.add(EMPTY_CLASS, f'{part.split}: {name}')


def _check_labels(job: Job, path: str, counts: np.ndarray, limit: int,
                  ignored: int) -> None:
    labels = [int(v) for v in np.flatnonzero(counts) if v != ignored]
    if beyond := [v for v in labels if v >= limit]:
        said = ', '.join(f'{v} ({counts[v]} pixels)' for v in beyond[:4])
        job.report.add(LABEL_BEYOND, f'{path}: {said} of '
                       f'{len(beyond)} beyond, num_classes is {limit}')
    if not labels:
        job.report.add(MAP_IGNORED, path)


def _read_pair(part: Part, image: str, path: str
               ) -> Tuple[Size, np.ndarray]:
    """(H, W) of an image, and how many pixels each label has, (256, )."""
    size = read_size(image)
    if not path:
        return size, np.zeros(256, int)
    labels = read_map(path)
    if labels.shape != size:
        raise DamageError(
            MAP_SIZE, f'{_times(labels.shape)}, its image {Path(image).name} '
            f'is {_times(size)}', about_map=True)
    return size, _relabel(
        np.bincount(labels.ravel(), minlength=256), part.dataset)


def _relabel(counts: np.ndarray, dataset) -> np.ndarray:
    """Counts (256, ) by label as mmseg's LoadAnnotations renames them."""
    names: Dict[int, int] = {label: label for label in range(256)}
    if dataset.reduce_zero_label:
        names = {label: label - 1 if 0 < label < 255 else 255
                 for label in names}
    moved = dataset.label_map or {}
    after = np.zeros(256, int)
    for label, count in enumerate(counts):
        after[moved.get(names[label], names[label])] += count
    return after


def _times(size: Tuple[int, ...]) -> str:
    """Width times height, as people say it."""
    return 'x'.join(str(side) for side in size[::-1])
