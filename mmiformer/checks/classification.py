"""Checks folders and lists of images as mmpretrain's CustomDataset and
ImageNet read them."""
import os
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from .part import EMPTY, EMPTY_CLASS, Found, Job, Part
from .report import Kind
from .segmentation import LABEL_BEYOND

LIST_UNREADABLE = Kind(
    'lists of images that cannot be read', 'mmpretrain stops', True)
LINE_MALFORMED = Kind(
    'lines of a list without a file and a label', 'mmpretrain stops with a '
    'ValueError', True)
FOLDER_COUNT = Kind(
    "folders that are not the model's classes", 'mmpretrain asks for a folder '
    'per class and stops', True)
FOLDER_ORDER = Kind(
    "folders in another order than the model's classes", 'mmpretrain labels '
    'folders in alphabetical order: classes get the names of others', True)
SPARE = Kind(
    'files that are no image by their suffix, or lie in no class folder',
    'mmpretrain never reads them', False)


def check_classification(part: Part, job: Job) -> Found:
    """Checks the images of class folders, or of a list with labels.

    Args:
        part: A data set that loads as CustomDataset does.
        job: How, and where the faults go.

    Returns:
        The images that are read, and the folders as they are labelled.
    """
    listed = bool(part.dataset.ann_file)
    classes: Optional[Tuple[str, ...]] = None
    if listed:
        labels = _read_list(part, job)
    else:
        classes, labels = _read_folders(part, job)
    prefix = part.dataset.img_prefix
    images = part.subset(list(labels))
    job.report.read.append(f'{part.split}: {prefix}, {len(images)} images')
    if not images:
        job.report.add(EMPTY, f'{part.split}: {prefix}')
    if part.dataset.with_label:
        _check_labels(part, job, labels, classes)
    list(job.read_images(dict.fromkeys(images), part.split))
    return Found(images, classes)


def _read_list(part: Part, job: Job) -> Dict[str, int]:
    """Labels by image; lines are taken apart as mmpretrain does."""
    path = part.dataset.ann_file
    try:
        lines = Path(path).read_text(encoding='utf-8').split('\n')
    except (OSError, ValueError) as error:
        job.report.add(LIST_UNREADABLE, f'{path}: {error}')
        return {}
    if lines[-1] == '':
        lines.pop()
    labels = {}
    for number, line in enumerate(lines, 1):
        name, _, label = line.strip().rpartition(' ')
        if not part.dataset.with_label:
            name, label = line.rstrip('\r'), '-1'
        try:
            labels[os.path.join(part.dataset.img_prefix, name)] = int(label)
        except ValueError:
            job.report.add(LINE_MALFORMED, f'{path}: line {number}: {line!r}')
    return labels


def _read_folders(part: Part, job: Job
                  ) -> Tuple[Optional[Tuple[str, ...]], Dict[str, int]]:
    root = part.dataset.img_prefix
    with_label = part.dataset.with_label
    folders = sorted(
        entry.name for entry in os.scandir(root)
        if entry.is_dir()) if os.path.isdir(root) else []
    labels = {}
    for folder, _, names in sorted(os.walk(root, followlinks=True)):
        first = os.path.relpath(folder, root).split(os.sep)[0]
        for name in sorted(names):
            path = os.path.join(folder, name)
            if part.dataset.is_valid_file(name) and (
                    first != '.' or not with_label):
                labels[path] = folders.index(first) if with_label else -1
            elif not name.startswith('.'):
                job.report.add(SPARE, path)
    return tuple(folders) if with_label else None, labels


def _check_labels(part: Part, job: Job, labels: Dict[str, int],
                  folders: Optional[Tuple[str, ...]]) -> None:
    classes = part.classes or folders or ()
    if folders is not None and part.classes:
        _check_folders(part, job, folders)
    limit = min([*part.heads.values()] or [len(classes) or 1 << 31])
    for path, label in labels.items():
        if not 0 <= label < limit:
            job.report.add(LABEL_BEYOND, f'{path}: {label}, num_classes is '
                           f'{limit}')
    counts = Counter(labels.values())
    names: List[str] = list(folders or classes)
    for label, name in enumerate(names):
        if labels and not counts[label]:
            job.report.add(EMPTY_CLASS, f'{part.split}: {name}')


def _check_folders(part: Part, job: Job, folders: Tuple[str, ...]) -> None:
    root, classes = part.dataset.img_prefix, tuple(part.classes)
    if len(folders) != len(classes):
        spare = [name for name in folders if name not in classes]
        lacking = [name for name in classes if name not in folders]
        job.report.add(
            FOLDER_COUNT, f'{root}: {len(folders)} folders, {len(classes)} '
            f'classes; no class: {spare[:5]}, no folder: {lacking[:5]}')
    elif folders != classes and set(folders) & set(classes):
        # Folders may have other names (ImageNet's have), not others' names.
        job.report.add(FOLDER_ORDER, f'{root}: the folders {folders[:5]}, the '
                       f'classes {classes[:5]}')
