"""Checks folders of images and label maps as mmseg's BaseSegDataset reads
them."""
import math
import os
from typing import Any, Iterator, List, Optional, Tuple

import numpy as np
from mmengine.fileio import list_dir_or_file

from . import kinds
from .context import CheckContext, CheckResult
from .dataset_split import DatasetSplit
from .files import (
    DamageError,
    Size,
    find_turn,
    is_hidden,
    read_map,
    read_size,
    times,
)
from .settings import check_batches

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')

Faults = List[Tuple[kinds.Kind, str]]


def check_segmentation(split: DatasetSplit, context: CheckContext
                       ) -> CheckResult:
    """Checks the images of a folder or list, and their label maps."""
    prefix = split.dataset.data_prefix
    try:
        items = split.dataset.load_data_list()
    except (AssertionError, OSError, ValueError) as error:
        context.add(kinds.UNBUILT, f'{split.split}: {error}')
        return CheckResult()
    if not (split.dataset.ann_file or context.brief):
        _find_spare(split, context, items)
    items = split.subset(items)
    context.report.read.append(
        f'{split.split}: {prefix.get("img_path")}, {len(items)} images')
    if not items:
        context.add(kinds.EMPTY, f'{split.split}: {prefix.get("img_path")} has '
                    f'no *{split.dataset.img_suffix}')
    step = split.find_step('LoadAnnotations') or {}
    own, other = split.dataset.reduce_zero_label, step.get('reduce_zero_label')
    if other is not None and other != own:
        context.add(kinds.REDUCED_ONCE, f'{split.split}: the pipeline has '
                    f'{other}, the data set {own}')
    _check_files(split, context, items)
    return CheckResult([item['img_path'] for item in items])


def _find_spare(split: DatasetSplit, context: CheckContext,
                items: List[dict]) -> None:
    """What lies in the folders and is not read."""
    images, maps = (split.dataset.data_prefix.get(key)
                    for key in ('img_path', 'seg_map_path'))
    for path in _list_files(images):
        if path.lower().endswith(IMAGES) and not path.endswith(
                split.dataset.img_suffix):
            context.add(kinds.IMAGE_SPARE, path)
    wanted = {item.get('seg_map_path') for item in items}
    for path in _list_files(maps):
        if path.endswith(split.dataset.seg_map_suffix) and (
                path not in wanted):
            context.add(kinds.MAP_SPARE, path)


def _list_files(folder: Optional[str]) -> List[str]:
    if not (folder and os.path.isdir(folder)):
        return []
    return sorted(os.path.join(folder, name) for name in list_dir_or_file(
        folder, list_dir=False, recursive=True))


def _check_files(split: DatasetSplit, context: CheckContext,
                 items: List[dict]) -> None:
    loader, maps = split.build_loader(context), split.find_step(
        'LoadAnnotations')
    if loader is None:
        return
    backend = (maps or {}).get('imdecode_backend', 'pillow')

    def read(item: dict) -> Tuple[Faults, Optional[Size], np.ndarray]:
        """The faults of a pair, the image's size, and how many pixels of the
        map have each value."""
        faults, counts, size = [], np.zeros(256, int), None
        image, path = item['img_path'], item.get('seg_map_path')
        try:
            size = read_size(image, loader)
        except DamageError as error:
            faults.append((error.kind, f'{image}: {error}'))
        try:
            if maps and path:
                labels = read_map(path, backend)
                if size and labels.shape != size:
                    raise DamageError(
                        kinds.MAP_SIZE, f'{times(labels.shape)}, its image '
                        f'{image} is {times(size)}')
                turn = find_turn(image, loader) if size else 1
                if size and is_hidden(turn, size):
                    faults.append((kinds.IMAGE_TURNED, f'{image}: {turn}'))
                counts = np.bincount(labels.ravel(), minlength=256)
                faults += _find_label_faults(
                    split, path, relabel(counts, split.dataset))
        except DamageError as error:
            faults.append((error.kind, f'{path}: {error}'))
        return faults, size, counts

    totals, sizes = np.zeros(256, int), set()
    for _, (faults, size, counts) in context.read_each(
            read, items, f'{split.split}: images and maps'):
        totals += counts
        sizes |= {size} - {None}
        for kind, text in faults:
            context.add(kind, text)
    padding: Any = (0, 0)  # in testing mmseg pads no image to another
    if split.split == 'train':
        padding = split.preprocessor.get('size') or (math.inf, math.inf)
    check_batches(split.loader, split.cfg.get('pipeline') or (), padding,
                  sorted(sizes), split.split, context)
    if totals.any():
        _check_labels(split, context, totals)


def _check_labels(split: DatasetSplit, context: CheckContext,
                  totals: np.ndarray) -> None:
    """What all maps together leave to learn; ``totals`` (256, ) are their
    pixels by value."""
    labels, ignored = relabel(totals, split.dataset), split.dataset.ignore_index
    classes = split.classes or ()
    lost = labels[ignored] / labels.sum()
    top = int(np.argmax(np.where(relabel_values(split.dataset) == ignored,
                                 totals, -1)))
    text = (f'{split.split}: {lost:.0%} of the pixels are ignore_index '
            f'{ignored}, most of value {top} in the maps')
    if top == 255:
        text += '; where 255 stands for a class, write its index'
    elif top == 0 and split.dataset.reduce_zero_label:
        text += '; reduce_zero_label=True makes 0 that'
    if lost == 1 or {*np.flatnonzero(totals)} == {0, 255} and len(classes) > 1:
        context.add(kinds.UNUSED, text)
    elif lost > .5:
        context.add(kinds.MOSTLY_LOST, text)
    if not context.brief:
        for label, name in enumerate(classes):
            if label != ignored and not labels[label]:
                context.add(kinds.EMPTY_CLASS, f'{split.split}: {name}')


def _find_label_faults(split: DatasetSplit, path: str, counts: np.ndarray
                       ) -> Iterator[Tuple[kinds.Kind, str]]:
    labels = [int(label) for label in np.flatnonzero(counts)
              if label != split.dataset.ignore_index]
    if beyond := [label for label in labels if label >= split.label_limit]:
        shown = ', '.join(f'{label} ({counts[label]} pixels)'
                          for label in beyond[:4])
        yield kinds.LABEL_BEYOND, (
            f'{path}: {shown} of {len(beyond)} beyond, num_classes is '
            f'{split.label_limit}')
    if not labels:
        yield kinds.MAP_IGNORED, path


def relabel(counts: np.ndarray, dataset: Any) -> np.ndarray:
    """Counts (256, ) by label as mmseg's LoadAnnotations renames them."""
    return np.bincount(relabel_values(dataset), counts, 256).astype(int)


def relabel_values(dataset: Any) -> np.ndarray:
    """The label (256, ) that mmseg's LoadAnnotations makes of each value."""
    labels = np.arange(256)
    if dataset.reduce_zero_label:
        labels = np.where((labels == 0) | (labels == 255), 255, labels - 1)
    moved = dataset.label_map or {}
    return np.array([moved.get(label, label) for label in labels.tolist()])
