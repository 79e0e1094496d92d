"""Checks COCO's format as mmdet's CocoDataset reads it."""
import json
import os
import reprlib
from collections import Counter
from pathlib import Path
from typing import Dict, List, Optional

from . import kinds
from .context import CheckContext, CheckResult
from .dataset_split import DatasetSplit
from .files import is_hidden, times
from .objects import find_box_fault, find_mask_fault, is_finite, is_number

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
# What keeps an object from being used, and what may be meant by it.
FILTERS = dict(
    category_id='its category is no class of the config',
    image_id='no image has its image_id',
    ignore='ignore is set',
    iscrowd='iscrowd=1 is a crowd, to be ignored; of a single object it is 0',
    area='area <= 0; it is that of the mask, or w * h',
    side='w or h below 1; COCO counts pixels, not parts of the image',
    overlap='outside of its image; a bbox is [x, y, w, h] in pixels',
    min_size='its image is below min_size of filter_cfg')
_repr = reprlib.Repr()
_repr.maxlist = _repr.maxdict = 6
shorten = _repr.repr


def check_coco(split: DatasetSplit, context: CheckContext) -> CheckResult:
    """Checks an annotation file, and the images that it lists."""
    path = split.dataset.ann_file
    size, limit = os.path.getsize(path), context.max_annotation_bytes
    if limit is not None and size > limit:
        context.add(kinds.UNCHECKED, f'{path}: {size / 1e6:.0f} MB, above the '
                    f'maximum of {limit / 1e6:.0f} MB at the start of a run')
        return CheckResult()
    try:
        content = json.loads(Path(path).read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f'holds a {type(content).__name__}, not a dict '
                             'with images, annotations, categories')
    except (OSError, ValueError, RecursionError) as error:
        context.add(kinds.UNREADABLE, f'{path}: {error}')
        return CheckResult()
    return _CocoCheck(split, context, content).run()


class _CocoCheck:
    """One annotation file: the entries, then what joins them."""

    def __init__(self, split: DatasetSplit, context: CheckContext,
                 content: dict) -> None:
        self.split, self.context = split, context
        self.path = split.dataset.ann_file
        self.images, self.categories, self.annotations = (
            self._take(content, name) for name in FIELDS)
        self.with_mask = (
            split.find_step('LoadAnnotations') or {}).get('with_mask')
        self.tested = split.split != 'train' and any(
            evaluator.get('ann_file') for evaluator in split.evaluators)

    def run(self) -> CheckResult:
        labels = self._check_categories()
        self._check_annotations(labels)
        kept = self.split.subset(self._filter(labels))
        self.context.report.read.append(
            f'{self.split.split}: {self.path}, {len(kept)} images, '
            f'{len(self.annotations)} annotations')
        if not kept:
            self.context.add(kinds.EMPTY, f'{self.split.split}: {self.path}')
        prefix = self.split.dataset.data_prefix.get('img', '')
        files = {os.path.join(prefix, image['file_name']):
                 (image['height'], image['width']) for image in kept}
        for path, size, turn in self.split.read_images(
                list(files), self.context):
            if size != files[path]:
                turned = (f', which EXIF {turn} turns' if turn > 1 else '')
                self.context.add(
                    kinds.WRONG_SIZE, f'{path}: {times(size)}, annotated as '
                    f'{times(files[path])}{turned}')
            elif is_hidden(turn, size):
                self.context.add(kinds.IMAGE_TURNED, f'{path}: {turn}')
        return CheckResult(list(files), tuple(labels.values()))

    def _take(self, content: dict, name: str) -> List[dict]:
        """The entries of a list that are as they should be; the others are
        faults."""
        entries = content.get(name)
        if not isinstance(entries, list):
            self._add(kinds.MALFORMED, f'no list of {name}')
            return []
        good, seen = [], set()
        for number, entry in enumerate(entries):
            if reason := _find_malformed(entry, FIELDS[name]):
                self._add(kinds.MALFORMED, f'{name}[{number}]: {reason}')
                continue
            if entry['id'] in seen:
                self._add(kinds.SAME_ID, f'{name}[{number}]: id {entry["id"]}')
            seen.add(entry['id'])
            good.append(entry)
        return good

    def _check_categories(self) -> Dict[object, str]:
        """Returns the class of each category id, in the order of labels."""
        classes = list(self.split.classes or ())
        named = [category['name'] for category in self.categories]
        labels = {category['id']: category['name']
                  for category in self.categories
                  if category['name'] in classes}
        names = [name for name in named if name in classes]
        for name in named:
            if name not in classes:
                self._add(kinds.OTHER, repr(name))
        if names != classes[:len(names)] or not names:
            self._add(kinds.SHIFTED,
                      f'the file has {named}, the config {classes}')
        else:
            kind = (kinds.UNTRAINED if self.split.split == 'train' else
                    kinds.UNTESTABLE)
            for name in classes[len(names):]:
                self._add(kind, repr(name))
        return labels

    def _check_annotations(self, labels: Dict[object, str]) -> None:
        images = {image['id']: image for image in self.images}
        known = {category['id'] for category in self.categories}
        counts: Counter = Counter()
        lost: Dict[object, Counter] = {label: Counter() for label in labels}
        lost[None] = Counter()  # of no class
        for annotation in self.context.progress(
                self.annotations, f'{self.split.split}: annotations',
                len(self.annotations)):
            image = images.get(annotation['image_id'])
            label = annotation['category_id']
            if image is None:
                self._add(kinds.NO_IMAGE, f'{_name(annotation)}: image_id '
                          f'{shorten(annotation["image_id"])}')
            elif label not in known:
                self._add(kinds.NO_CATEGORY, f'{_name(annotation)}: '
                          f'category_id {shorten(label)}')
            elif label in labels and not annotation.get('ignore'):
                self._check_object(annotation, image)
            own = label if label in labels else None
            counts[own] += 1
            if reason := self._find_filter(annotation, image, own):
                lost[own][reason] += 1
        self._check_use(labels, counts, lost)

    def _find_filter(self, annotation: dict, image: Optional[dict],
                     label: object) -> Optional[str]:
        """Why mmdet, or COCOeval in testing, does not use an object; a key of
        ``FILTERS``."""
        if label is None:
            return 'category_id'
        if image is None:
            return 'image_id'
        if self.split.dataset.test_mode:
            return 'iscrowd' if annotation.get('iscrowd') else None
        size, bbox = (image['width'], image['height']), annotation['bbox']
        kind = find_box_fault(bbox, annotation['area'], *size)
        if kind is kinds.BOX_EMPTY:
            return 'area' if min(bbox[2:]) >= 1 else 'side'
        filters = self.split.dataset.filter_cfg or {}
        reasons = dict(
            ignore=annotation.get('ignore'), iscrowd=annotation.get('iscrowd'),
            overlap=kind is kinds.BOX_OUTSIDE,
            min_size=min(size) < filters.get('min_size', 0))
        return next((name for name, lost in reasons.items() if lost), None)

    def _check_use(self, labels: Dict[object, str], counts: Counter,
                   lost: Dict[object, Counter]) -> None:
        """What the filters leave of each class, and of all."""
        dropped = sum(lost.values(), Counter())
        own = dropped - lost[None]
        total = sum(counts.values())
        used = total - sum(dropped.values())
        if counts and not used:
            self._add(kinds.UNUSED, f'0 of {total} annotations: '
                      f'{_explain(dropped)}')
        elif sum(own.values()) > used:
            self._add(kinds.MOSTLY_LOST, f'{used} of '
                      f'{used + sum(own.values())} annotations: '
                      f'{_explain(own)}')
        for label, name in labels.items():
            if not counts[label]:
                self._add(kinds.EMPTY_CLASS, name)
            elif used and counts[label] == sum(lost[label].values()):
                self._add(kinds.UNUSED, f'{name}, 0 of {counts[label]} '
                          f'annotations: {_explain(lost[label])}')

    def _check_object(self, annotation: dict, image: dict) -> None:
        size = image['width'], image['height']
        bbox, area = annotation['bbox'], annotation['area']
        where = f'{_name(annotation)} of {image["file_name"]}, ' + times(
            size[::-1])
        if kind := find_box_fault(bbox, area, *size):
            self._add(kind, f'{where}: bbox {shorten(bbox)}, area '
                      f'{shorten(area)}')
        mask = annotation.get('segmentation')
        if self.with_mask and (
                kind := find_mask_fault(mask, *size, self.tested)):
            self._add(kind, f'{where}: segmentation {shorten(mask)}')
        if self.tested and 'iscrowd' not in annotation:
            self._add(kinds.NO_CROWD, where)

    def _filter(self, labels: Dict[object, str]) -> List[dict]:
        """The images that mmdet keeps, in its order."""
        dataset = self.split.dataset
        filters = {} if dataset.test_mode else dataset.filter_cfg or {}
        skips_empty = filters.get('filter_empty_gt')
        annotated = {annotation['image_id'] for annotation in self.annotations
                     if annotation['category_id'] in labels}
        kept = []
        for image in self.images:
            empty = image['id'] not in annotated
            small = (min(image['width'], image['height']) <
                     filters.get('min_size', 0))
            if empty:
                self._add(kinds.FILTERED if skips_empty else kinds.BACKGROUND,
                          image['file_name'])
            if small:
                self._add(kinds.TOO_SMALL, image['file_name'])
            if not small and not (empty and skips_empty):
                kept.append(image)
        return kept

    def _add(self, kind: kinds.Kind, text: str) -> None:
        self.context.add(kind, f'{self.path}: {text}')


def _find_malformed(entry: object, fields: Dict[str, str]) -> Optional[str]:
    if not isinstance(entry, dict):
        return f'{shorten(entry)} is not a dict'
    for field, kind in fields.items():
        if field not in entry:
            return f'no {field} in {shorten(entry)}'
        if not TESTS[kind](entry[field]):
            return f'{field} is {shorten(entry[field])}'
    return None


def _explain(lost: Counter) -> str:
    return '; '.join(f'{number} lost to {reason} ({FILTERS[reason]})'
                     for reason, number in lost.most_common(2))


def _name(annotation: dict) -> str:
    return f'annotation {shorten(annotation["id"])}'
