"""Checks COCO's format as mmdet's CocoDataset reads it."""
import os
import reprlib
from collections import Counter
from typing import Dict, List, Optional, Tuple

from .annotations import read_json
from .boxes import find_box_fault, find_mask_fault, is_finite, is_number
from .files import is_file
from .part import EMPTY, EMPTY_CLASS, UNKNOWN, Found, Job, Part
from .report import Kind

UNREADABLE = Kind(
    'annotation files that cannot be read', 'mmdet stops', True)
MALFORMED = Kind(
    'entries without what mmdet needs',
    'mmdet stops with a KeyError or TypeError', True)
SAME_ID = Kind(
    'ids that are given twice', 'mmdet refuses two annotations of an id; of '
    'two images or categories it takes the last for both', True)
SHIFTED = Kind(
    "categories that are not the model's classes", 'mmdet numbers them in '
    'the order of the file: objects silently get the label of another class',
    True)
UNTESTABLE = Kind(
    'classes that are no category', 'testing stops with an IndexError once '
    'the model predicts them', True)
UNTRAINED = Kind(
    'classes that are no category', 'mmdet trains without an example', False)
OTHER = Kind(
    'categories that are no class of the config', 'mmdet leaves their '
    'annotations out', False)
NO_CATEGORY = Kind(
    'annotations whose category_id no category has', 'mmdet leaves them out',
    False)
NO_IMAGE = Kind(
    'annotations whose image_id no image has', 'mmdet never reads them', False)
NO_CROWD = Kind(
    'annotations without iscrowd', 'COCOeval stops with a KeyError', True)
WRONG_SIZE = Kind(
    'images of another size than annotated', 'mmdet lays boxes and masks over '
    'them as if they fitted', True)
FILTERED = Kind(
    'images without an annotation', 'mmdet leaves them out of training '
    '(filter_empty_gt)', False)
BACKGROUND = Kind(
    'images without an annotation', 'mmdet takes them as background', False)
TOO_SMALL = Kind(
    'images below min_size', 'mmdet leaves them out of training (filter_cfg)',
    False)

# What mmdet reads of each entry without asking whether it is there.
FIELDS = dict(
    images=dict(id='id', file_name='text', width='side', height='side'),
    categories=dict(id='id', name='text'),
    annotations=dict(id='id', image_id='id', category_id='id', bbox='box',
                     area='number'))
TESTS = dict(
    id=lambda v: isinstance(v, (int, float, str)),
    text=lambda v: isinstance(v, str) and v != '',
    number=is_number,
    side=lambda v: is_number(v) and is_finite(v) and v > 0,
    box=lambda v: (isinstance(v, list) and len(v) == 4 and
                   all(map(is_number, v))))
shorten = reprlib.Repr()
shorten.maxlist = shorten.maxdict = 6


def check_coco(part: Part, job: Job) -> Found:
    """Checks an annotation file, and the images that it lists.

    Args:
        part: A data set that loads as CocoDataset does.
        job: How, and where the faults go.

    Returns:
        The images that are read, and the categories as they are labelled.
    """
    path = part.dataset.ann_file
    if job.largest and is_file(path) and os.path.getsize(path) > job.largest:
        job.report.add(UNKNOWN, f'{path}: {os.path.getsize(path) / 1e6:.0f} '
                       'MB, too large to be read at each start; '
                       'tools/check_dataset.py reads it')
        return Found()
    content = _read_json(path, job)
    if content is None:
        return Found()
    return _CocoCheck(part, job, content).run()


def _read_json(path: str, job: Job) -> Optional[dict]:
    if not is_file(path):
        job.report.add(UNREADABLE, f'{path}: no such file')
        return None
    try:
        content = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        job.report.add(UNREADABLE, f'{path}: {error}')
        return None
    if isinstance(content, dict):
        return content
    job.report.add(UNREADABLE, f'{path}: holds a {type(content).__name__}, '
                   'not a dict with images, annotations, categories')
    return None


class _CocoCheck:
    """One annotation file: the entries, then what joins them."""

    def __init__(self, part: Part, job: Job, content: dict) -> None:
        self.part, self.job = part, job
        self.path = part.dataset.ann_file
        self.images, self.categories, self.annotations = (
            self._take(content, name) for name in FIELDS)
        self.with_mask = part.has('with_mask')
        self.evaluated = any(e.get('ann_file') for e in part.evaluators)

    def run(self) -> Found:
        prefix = self.part.dataset.data_prefix.get('img', '')
        sizes = {image['id']: image for image in self.images}
        labels = self._check_categories()
        counts = self._check_annotations(sizes, labels)
        for name in labels.values():
            if not counts[name]:
                self.job.report.add(
                    EMPTY_CLASS, f'{self.path}: {name}')
        kept = self.part.subset(self._filter())
        self.job.report.read.append(
            f'{self.part.split}: {self.path}, {len(kept)} images, '
            f'{len(self.annotations)} annotations')
        if not kept:
            self.job.report.add(EMPTY, f'{self.part.split}: {self.path}')
        files = {os.path.join(prefix, image['file_name']): image
                 for image in kept}
        self._check_files(files)
        return Found(list(files), tuple(labels.values()))

    def _take(self, content: dict, name: str) -> List[dict]:
        """The entries of a list that are as they should be; the others are
        faults."""
        entries = content.get(name)
        if not isinstance(entries, list):
            self._add(MALFORMED, f'no list of {name}')
            return []
        good, seen = [], set()
        for number, entry in enumerate(entries):
            if reason := _find_lack(entry, FIELDS[name]):
                self._add(MALFORMED, f'{name}[{number}]: {reason}')
                continue
            if entry['id'] in seen:
                self._add(SAME_ID, f'{name}[{number}]: id {entry["id"]}')
            seen.add(entry['id'])
            good.append(entry)
        return good

    def _check_categories(self) -> Dict[object, str]:
        """Returns the class of each category id, in the order of labels."""
        classes = list(self.part.classes or ())
        labels = {c['id']: c['name'] for c in self.categories
                  if c['name'] in classes}
        names = [c['name'] for c in self.categories if c['name'] in classes]
        for category in self.categories:
            if category['name'] not in classes:
                self._add(OTHER, repr(category['name']))
        if names != classes[:len(names)] or not names:
            self._add(SHIFTED, f'the file has '
                      f'{[c["name"] for c in self.categories]}, the config '
                      f'{classes}')
        else:
            for name in classes[len(names):]:
                self._add(UNTRAINED if self.part.split == 'train' else
                          UNTESTABLE, repr(name))
        return labels

    def _check_annotations(self, images: dict, labels: dict) -> Counter:
        """Returns how many objects each class has."""
        counts: Counter = Counter()
        known = {category['id'] for category in self.categories}
        for annotation in self.job.track(
                self.annotations, f'{self.part.split}: annotations',
                len(self.annotations)):
            image = images.get(annotation['image_id'])
            if image is None:
                self._add(NO_IMAGE, f'{_name(annotation)}: image_id '
                          f'{shorten.repr(annotation["image_id"])}')
            elif annotation['category_id'] not in known:
                self._add(NO_CATEGORY, f'{_name(annotation)}: category_id '
                          f'{shorten.repr(annotation["category_id"])}')
            elif (annotation['category_id'] in labels and
                  not annotation.get('ignore')):
                counts[labels[annotation['category_id']]] += 1
                self._check_object(annotation, image)
        return counts

    def _check_object(self, annotation: dict, image: dict) -> None:
        size = image['width'], image['height']
        where = (f'{_name(annotation)} of {image["file_name"]}, '
                 f'{size[0]}x{size[1]}')
        if kind := find_box_fault(
                annotation['bbox'], annotation['area'], *size):
            self._add(kind, f'{where}: bbox {shorten.repr(annotation["bbox"])}'
                      f', area {shorten.repr(annotation["area"])}')
        tested = self.evaluated and self.part.split != 'train'
        if self.with_mask and (kind := find_mask_fault(
                annotation.get('segmentation'), *size, tested)):
            self._add(kind, f'{where}: segmentation '
                      f'{shorten.repr(annotation.get("segmentation"))}')
        if tested and 'iscrowd' not in annotation:
            self._add(NO_CROWD, where)

    def _filter(self) -> List[dict]:
        """The images that mmdet keeps, in its order."""
        filters = self.part.dataset.filter_cfg or {}
        if self.part.dataset.test_mode:
            filters = {}
        wanted = {c['id'] for c in self.categories
                  if c['name'] in (self.part.classes or ())}
        annotated = {a['image_id'] for a in self.annotations
                     if a['category_id'] in wanted}
        kept = []
        for image in self.images:
            empty = image['id'] not in annotated
            small = (min(image['width'], image['height']) <
                     filters.get('min_size', 0))
            if empty:
                self._add(FILTERED if filters.get('filter_empty_gt') else
                          BACKGROUND, image['file_name'])
            if small:
                self._add(TOO_SMALL, image['file_name'])
            if not small and not (empty and filters.get('filter_empty_gt')):
                kept.append(image)
        return kept

    def _check_files(self, files: Dict[str, dict]) -> None:
        for path, size in self.job.read_images(files, self.part.split):
            wanted = files[path]['height'], files[path]['width']
            if size != wanted:
                self.job.report.add(
                    WRONG_SIZE, f'{path}: {_times(size)}, annotated as '
                    f'{_times(wanted)}')

    def _add(self, kind: Kind, text: str) -> None:
        self.job.report.add(kind, f'{self.path}: {text}')


def _find_lack(entry: object, fields: Dict[str, str]) -> str:
    if not isinstance(entry, dict):
        return f'{shorten.repr(entry)} is not a dict'
    for field, kind in fields.items():
        if field not in entry:
            return f'no {field} in {shorten.repr(entry)}'
        if not TESTS[kind](entry[field]):
            return f'{field} is {shorten.repr(entry[field])}'
    return ''


def _name(annotation: dict) -> str:
    return f'annotation {shorten.repr(annotation["id"])}'


def _times(size: Tuple[int, int]) -> str:
    """Width times height, as the files have it."""
    return f'{size[1]}x{size[0]}'
