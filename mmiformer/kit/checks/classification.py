"""Checks folders and lists of images as mmpretrain's CustomDataset and
ImageNet read them."""
import math
import os
from collections import Counter
from typing import Dict, Tuple

from mmengine.fileio import list_dir_or_file, list_from_file

from . import kinds
from .context import CheckContext, CheckResult
from .dataset_split import DatasetSplit
from .settings import check_batches


def check_classification(split: DatasetSplit, context: CheckContext
                         ) -> CheckResult:
    """Checks the images of class folders, or of a list with labels."""
    prefix, with_label = split.dataset.img_prefix, split.dataset.with_label
    folders = None
    if split.dataset.ann_file:
        labels = _read_list(split, context)
        names = dict(enumerate(split.classes or ()))
    elif with_label:
        entries = sorted(os.scandir(prefix), key=lambda entry: entry.name)
        folders = tuple(entry.name for entry in entries if entry.is_dir())
        for entry in entries:
            if not (entry.is_dir() or entry.name.startswith('.')):
                context.add(kinds.SPARE, entry.path)
        _check_folders(split, context, folders)
        names = dict(context.choose(list(enumerate(folders))))
        labels = _read_folders(split, context, names)
    else:
        labels = _read_folders(split, context, {-1: ''})
    images = split.subset(list(labels))
    context.report.read.append(
        f'{split.split}: {prefix}, {len(images)} images')
    if not images:
        context.add(kinds.EMPTY, f'{split.split}: {prefix}')
    if with_label:
        _check_labels(split, context, labels, names)
    sizes = {size for _, size, _ in split.read_images(images, context)}
    check_batches(split.loader, split.cfg.get('pipeline') or (),
                  (math.inf, math.inf), sorted(sizes), split.split, context)
    return CheckResult(images, folders)


def _read_list(split: DatasetSplit, context: CheckContext) -> Dict[str, int]:
    """Labels by image; lines are split as mmpretrain does."""
    path = split.dataset.ann_file
    try:
        lines = list_from_file(path)
    except (OSError, ValueError) as error:
        context.add(kinds.LIST_UNREADABLE, f'{path}: {error}')
        return {}
    labels = {}
    for number, line in enumerate(lines, 1):
        name, _, label = line.strip().rpartition(' ')
        if not split.dataset.with_label:
            name, label = line, '-1'
        try:
            labels[os.path.join(split.dataset.img_prefix, name)] = int(label)
        except ValueError:
            context.add(kinds.LINE_MALFORMED,
                        f'{path}: line {number}: {line!r}')
    return labels


def _read_folders(split: DatasetSplit, context: CheckContext,
                  folders: Dict[int, str]) -> Dict[str, int]:
    """Labels by image, of the folders by label."""
    root, labels = split.dataset.img_prefix, {}
    for label, folder in folders.items():
        top, spare, used = os.path.join(root, folder), 0, 0
        for name in sorted(list_dir_or_file(
                top, list_dir=False, recursive=True)):
            path = os.path.join(top, name)
            if split.dataset.is_valid_file(name):
                labels[path], used = label, used + 1
            else:
                context.add(kinds.SPARE, path)
                spare += 1
        if spare and not used:
            context.add(kinds.UNUSED, f'{split.split}: {top}: none of '
                        f'{spare} files has a suffix of extensions, '
                        f'{", ".join(split.dataset.extensions)}')
    return labels


def _check_labels(split: DatasetSplit, context: CheckContext,
                  labels: Dict[str, int], names: Dict[int, str]) -> None:
    for path, label in labels.items():
        if not 0 <= label < split.label_limit:
            context.add(kinds.LABEL_BEYOND, f'{path}: {label}, num_classes is '
                        f'{split.label_limit}')
    counts = Counter(labels.values())
    for label, name in names.items():
        if labels and not counts[label]:
            context.add(kinds.EMPTY_CLASS, f'{split.split}: {name}')


def _check_folders(split: DatasetSplit, context: CheckContext,
                   folders: Tuple[str, ...]) -> None:
    root, classes = split.dataset.img_prefix, tuple(split.classes or folders)
    if len(folders) != len(classes):
        spare = [name for name in folders if name not in classes]
        missing = [name for name in classes if name not in folders]
        context.add(
            kinds.FOLDER_COUNT, f'{root}: {len(folders)} folders, '
            f'{len(classes)} classes; no class: {spare[:5]}, no folder: '
            f'{missing[:5]}')
    elif folders != classes and set(folders) & set(classes):
        # Folders may have other names (ImageNet's have), not others' names.
        context.add(kinds.FOLDER_ORDER, f'{root}: the folders {folders[:5]}, '
                    f'the classes {classes[:5]}')
