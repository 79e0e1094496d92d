"""Builds the data sets of a config, and asks them for their samples."""
import contextlib
import io
import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import (
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Tuple,
)

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader, Dataset

from ...config import as_list, find_datasets, type_name
from .coco import check_coco, check_evaluator, entries, read_coco
from .report import Finding, Report
from .settings import accepts, check_classes, check_settings, find_class

# A brief check does not parse larger annotation files: 100 MB take some ten
# seconds and 1 GB, COCO's of 450 MB more than half a minute and 3 GB.
MAX_ANNOTATION_BYTES = 100_000_000
BATCH = 16  # samples that a worker hands over at once
SKIPPED = 'the loader skips the image (ignore_empty)'
REPEATING = 'RepeatDataset', 'MultiImageMixDataset'


@dataclass
class Source:
    """A data set with its loading steps alone, and the COCO file behind it."""
    split: str
    dataset: Any
    content: Optional[dict] = None

    @property
    def classes(self) -> Optional[Tuple[str, ...]]:
        return getattr(self.dataset, 'metainfo', {}).get('classes')


class Sample(NamedTuple):
    """What is kept of a sample: its file, what is wrong with it, and how
    many objects or pixels each label has."""
    path: str
    fault: str = ''
    counts: Optional[Dict[int, int]] = None


def check_data(cfg: Config, splits: Iterable[str],
               sample: Optional[int] = None, num_workers: int = 0,
               progress: Optional[Callable[[Iterable, str, int], Iterable]]
               = None) -> Report:
    """Reads what a config will read, to the end, whatever it finds.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: The data loaders to check: ``train``, ``val``, ``test``.
        sample: How many samples of each data set are read; by default all.
        num_workers: Processes that read; 0 reads in this one.
        progress: Shows it; takes items, a label and how many there are.
    """
    report, splits = Report(), list(splits)
    sources: Dict[str, List[Source]] = {}
    files: Dict[str, Dict[str, str]] = {}
    lengths = {}
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        nodes = list(find_datasets(loader['dataset'])) if loader else []
        loaded = [_load(cfg, split, node, report, sample) for node in nodes]
        sources[split] = [source for source in loaded if source]
        if nodes and None not in loaded:
            lengths[split] = _count_samples(
                loader['dataset'], iter([len(s.dataset) for s in loaded]))
        for evaluator in as_list(cfg.get(f'{split}_evaluator')):
            report.findings += check_evaluator(
                evaluator, split, [s.dataset for s in sources[split]])
    report.findings += check_settings(
        cfg, splits, lengths.get('train', math.nan))
    for split, found in sources.items():
        files[split] = {}
        for source in found:
            report.findings += check_classes(cfg, split, source.dataset)
            if source.content:
                report.findings += check_coco(
                    source.content, source.dataset.ann_file,
                    source.classes or (), any(
                        type_name(evaluator) == 'CocoMetric' for evaluator in
                        as_list(cfg.get(f'{split}_evaluator'))))
            paths = _read(source, report, sample, num_workers, progress)
            files[split].update(
                (os.path.abspath(path), path) for path in paths)
    _compare(sources, files, report)
    return report


def _load(cfg: Config, split: str, node: dict, report: Report,
          sample: Optional[int]) -> Optional[Source]:
    """Builds a data set and reads its list of samples; None if it cannot."""
    scope, settings = cfg.get('default_scope'), dict(node)
    where = f'{split}_dataloader.dataset ({type_name(node)})'
    if 'pipeline' in settings:
        settings['pipeline'] = [step for step in settings['pipeline']
                                if type_name(step).startswith('Load')]
    try:
        kind = find_class(DATASETS, node, scope)
        if isinstance(kind, type) and issubclass(kind, BaseDataset) and (
                accepts(kind, 'lazy_init')):
            settings['lazy_init'] = True
        with DATASETS.switch_scope_and_registry(scope) as registry:
            source = Source(split, registry.build(settings))
        if isinstance(source.classes, str):  # would be taken by the letter
            raise ValueError(f'classes={source.classes!r} is a string; write '
                             'a tuple, (name, ) if there is one')
    except Exception as error:  # whatever its constructor raises
        report.add('stop' if isinstance(error, FileNotFoundError) else 'error',
                   f'{where} cannot be built: {_describe(error)}')
        return None
    missing = [*_find_missing(source, node)]
    report.findings += [Finding('stop', f'missing: {text}') for text in missing]
    if missing:
        return None
    path = getattr(source.dataset, 'ann_file', None)
    if path and hasattr(source.dataset, 'COCOAPI') and '://' not in path:
        size = os.path.getsize(path)
        if sample and size > MAX_ANNOTATION_BYTES:
            report.add('note', f'{path}: {size / 1e6:.0f} MB are not checked '
                       'at the start of a run')
            return None
        try:
            source.content = read_coco(path)
        except ValueError as error:
            report.add('stop', str(error))
            return None
    try:
        if isinstance(source.dataset, BaseDataset):
            source.dataset.data_list = None  # until it is read
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools'
                source.dataset.full_init()
        empty = len(source.dataset) == 0
    except Exception as error:
        # mmengine fails with NumPy's words where every sample is filtered.
        empty = getattr(source.dataset, 'data_list', None) == []
        if not empty:
            report.add('error', f'{where} cannot be loaded: '
                       f'{_describe(error)}')
            return None
    if empty:
        report.add('error', f'{where} has no sample: no file of '
                   'its suffix, or no object of its classes')
        return None
    return source


def _find_missing(source: Source, node: dict) -> Iterator[str]:
    """The paths that the run opens first and that do not exist."""
    prefixes = getattr(source.dataset, 'data_prefix', None) or {}
    steps = [type_name(step) for step in node.get('pipeline') or ()]
    paths = {f'data_prefix.{name}': prefixes.get(name) for name in (
        'img', 'img_path', *['seg_map_path'] * ('LoadAnnotations' in steps))}
    paths['ann_file'] = getattr(source.dataset, 'ann_file', None)
    for key, path in paths.items():
        if (isinstance(path, str) and path and '://' not in path
                and not os.path.exists(path)):
            yield f'{path} ({source.split}_dataloader.dataset.{key})'


def _count_samples(node: dict, lengths: Iterator[int]) -> float:
    """How many samples an epoch has; NaN below a wrapper that draws them."""
    if 'datasets' in node:
        return sum(_count_samples(part, lengths) for part in node['datasets'])
    if 'dataset' not in node:
        return next(lengths)
    times = node.get('times', 1) if type_name(node) in REPEATING else math.nan
    return times * _count_samples(node['dataset'], lengths)


class _Reader(Dataset):
    """The samples of a data set as :class:`Sample`: images stay where they
    are read."""

    def __init__(self, dataset: Any, indices: List[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, number: int) -> Sample:
        i, info = self.indices[number], {}
        path = f'sample {i}'
        try:
            if hasattr(self.dataset, 'get_data_info'):
                info = self.dataset.get_data_info(i)
            path = str(info.get('img_path', path))
            item = (self.dataset.prepare_data(i)
                    if isinstance(self.dataset, BaseDataset)
                    else self.dataset[i])
            if not isinstance(item, dict):
                return Sample(path, SKIPPED if item is None else '')
            return Sample(path, _find_fault(item), _count_labels(
                item, getattr(self.dataset, 'ignore_index', 255)))
        except Exception as error:  # whatever a loader raises
            text = _describe(error)
            for value in info.values():  # one text for one fault of many
                if isinstance(value, str) and os.sep in value:
                    text = text.replace(value, 'the file')
            return Sample(path, text)


def _describe(error: Exception) -> str:
    text = f'{type(error).__name__}: {error}'.strip()[:600]
    return re.sub('0x[0-9a-f]{6,}', '0x...', text)  # of an object in memory


def _find_fault(item: dict) -> str:
    """Finds sizes that do not fit, which no loading step compares."""
    shape = getattr(item.get('img'), 'shape', ())[:2]
    stated = (item.get('height'), item.get('width'))
    labels = item.get('gt_seg_map')
    if shape and None not in stated and shape != stated:
        return ('the image has another size than the annotation file says; '
                'mmdet lays boxes and masks over it as if they fitted')
    if shape and labels is not None and labels.shape != shape:
        return ('the label map has not the (height, width) of its image: '
                'another size, or several channels')
    return ''


def _count_labels(item: dict, ignore_index: int) -> Optional[Dict[int, int]]:
    """Counts the objects or pixels of each label that are not ignored."""
    if 'gt_bboxes_labels' in item:
        labels = np.asarray(item['gt_bboxes_labels'])
        if 'gt_ignore_flags' in item:
            labels = labels[~np.asarray(item['gt_ignore_flags'], bool)]
    elif 'gt_seg_map' in item:
        labels = item['gt_seg_map']
        labels = labels[labels != ignore_index]
    elif 'gt_label' in item:
        labels = np.atleast_1d(item['gt_label'])
    else:
        return None
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist()))


def _read(source: Source, report: Report, sample: Optional[int],
          num_workers: int, progress: Optional[Callable]) -> List[str]:
    """Reads the samples of a data set, and returns their files."""
    split, number = source.split, len(source.dataset)
    indices = list(range(number))
    if sample and number > sample:  # evenly spaced
        indices = [i * (number - 1) // max(sample - 1, 1)
                   for i in range(sample)]
    samples: Iterable[List[Sample]] = DataLoader(
        _Reader(source.dataset, indices), BATCH, num_workers=num_workers,
        collate_fn=list, generator=torch.Generator())
    if progress:
        samples = progress(samples, f'{split}: {len(indices)} samples, in '
                           f'batches of {BATCH}',
                           math.ceil(len(indices) / BATCH))
    read: List[Sample] = []
    try:
        for batch in samples:
            read += batch
    except RuntimeError as error:  # a loader has crashed its process
        report.add('error', f'{split}: the reading ended after {len(read)} of '
                   f'{len(indices)} samples: {error}')
    limit = len(source.classes or ()) or math.inf
    faults: Dict[str, List[str]] = {}
    counts: Counter = Counter()
    for path, fault, labels in read:
        if fault:
            faults.setdefault(fault, []).append(path)
        counts.update(labels or {})
    counted = [item for item in read if item.counts is not None]
    empty = [item.path for item in counted if not item.counts]
    beyond = {label for label in counts if not 0 <= label < limit}
    for fault, paths in faults.items():
        report.add('note' if fault == SKIPPED else 'error',
                   f'{split}: {len(paths)} of {len(read)} samples: {fault}',
                   paths)
    if beyond:
        report.add(
            'error', f'{split}: the labels {sorted(beyond)[:10]} are no index '
            f'of the {limit} classes: the loss stops, on a GPU with a '
            'device-side assert', [item.path for item in counted
                                   if beyond & item.counts.keys()])
    if empty:
        report.add(
            'error' if len(empty) == len(counted) else 'note',
            f'{split}: {len(empty)} of {len(counted)} samples have no object '
            'or labelled pixel that is not ignored', empty)
    if not sample:
        _report_use(source, counts, len(read), bool(counted), report)
    return [item.path for item in read]


def _report_use(source: Source, counts: Counter, number: int, counted: bool,
                report: Report) -> None:
    """Says how much of the data is used."""
    line = f'{source.split}: {number} samples'
    total = sum('bbox' in entry for entry in
                entries(source.content or {}, 'annotations'))
    used, classes = sum(counts.values()), source.classes or ()
    if counted and total:
        use = f'{used:,} of {total:,} annotations are used'
        line += f', {use}'
        if used < total / 2:
            report.add('note', f'{source.split}: {use}; mmdet drops what is '
                       'ignored, a crowd, below 1 pixel, outside of its image '
                       'or of no class; a bbox is [x, y, w, h] in pixels')
    names = {label: name for label, name in enumerate(classes)}
    shares = [f'{names.get(label, label)} {count:,}'
              for label, count in counts.most_common()]
    if len(shares) > 20:
        shares[10:-10] = ['...']
    report.read.append(': '.join(filter(None, [line, ', '.join(shares)])))
    without = [name for label, name in names.items() if not counts[label]]
    if counts and without:
        report.add('note', f'{source.split}: {len(without)} of {len(classes)} '
                   f'classes have no example: {", ".join(without[:10])}')


def _compare(sources: Dict[str, List[Source]],
             files: Dict[str, Dict[str, str]], report: Report) -> None:
    """Compares what training reads with what each other split reads."""
    orders = [s.classes for s in sources.get('train', ()) if s.classes]
    for split in [name for name in sources if name != 'train']:
        for source in sources[split]:
            if source.classes and any(o != source.classes for o in orders):
                report.add('error', f'train has the classes {orders[0][:10]}, '
                           f'{split} {source.classes[:10]}: the labels of '
                           'training mean other classes in testing')
        same = files.get('train', {}).keys() & files[split].keys()
        if same:
            report.add('note', f'{len(same)} files of training are also in '
                       f'{split}: the score is measured on what was trained '
                       'on', sorted(files[split][path] for path in same))
