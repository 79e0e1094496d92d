"""Rules for what mmdet and COCOeval take from a COCO file without a word."""
import filecmp
import json
import os
from pathlib import Path
from typing import Iterator, List, Sequence

from ...config import type_name
from .report import Finding


def read_coco(path: str) -> dict:
    """Reads an annotation file.

    Raises:
        ValueError: It is no JSON, or holds no dict.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f'{path} is no JSON: {error}') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, not a '
                         'dict with images, annotations, categories')
    return content


def entries(content: dict, name: str) -> List[dict]:
    """The entries of a list of the file; of a damaged file those that can be
    read."""
    found = content.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if (
        isinstance(found, list)) else []


def check_coco(content: dict, path: str, classes: Sequence[str],
               tested: bool) -> Iterator[Finding]:
    """Compares a file's categories with the classes of the data set, and
    looks for annotations that are lost or mistaken silently.

    Args:
        content: The file.
        path: Its path.
        classes: The data set's classes.
        tested: Whether COCOeval compares predictions with it.
    """
    named = [category.get('name')
             for category in entries(content, 'categories')]
    names = [name for name in named if name in classes]
    other = [name for name in named if name not in classes]
    missing = [name for name in classes if name not in names]
    if not names or names != list(classes[:len(names)]):
        yield Finding(
            'error', f'{path}: the file has the categories {named}, the '
            f'config the classes {list(classes)}; mmdet numbers them in the '
            'order of the file, so objects get the label of another class')
    elif missing and not tested:
        yield Finding('note', f'{path}: no category of the file is named '
                      f'{missing}; mmdet trains without an example')
    elif missing:
        yield Finding('error', f'{path}: no category of the file is named '
                      f'{missing}; testing stops with an IndexError once the '
                      'model predicts one')
    if other:
        yield Finding('note', f'{path}: the categories {other} are no classes '
                      'of the config; mmdet skips their annotations')
    found = entries(content, 'annotations')
    if tested and any(entry.get('id') == 0 for entry in found):
        yield Finding('error', f'{path}: an annotation has the id 0, which '
                      'COCOeval takes for no match: its object counts as '
                      'missed; number them from 1')
    lost = sum('iscrowd' not in entry for entry in found)
    if tested and lost:
        yield Finding('error', f'{path}: {lost} annotations have no iscrowd, '
                      'and COCOeval stops with a KeyError')
    short = sum(any(isinstance(polygon, list) and len(polygon) < 6
                    for polygon in entry['segmentation'])
                for entry in found
                if isinstance(entry.get('segmentation'), list))
    if short:
        yield Finding('error', f'{path}: {short} annotations have polygons of '
                      'less than 6 numbers (3 points); mmdet drops these '
                      'without a word, and pycocotools takes 4 numbers for '
                      'a box, or stops')


def check_evaluator(evaluator: dict, split: str, datasets: Sequence[object]
                    ) -> Iterator[Finding]:
    """Compares the file of an evaluator with that of the only data set."""
    path = evaluator.get('ann_file')
    if not path or '://' in str(path):
        return
    where = f'{path} ({split}_evaluator.ann_file)'
    if not os.path.exists(path):
        yield Finding('stop', f'missing: {where}')
    elif type_name(evaluator) == 'CocoMetric' and len(datasets) == 1:
        own = getattr(datasets[0], 'ann_file', None) or ''
        if os.path.isfile(own) and not filecmp.cmp(path, own, shallow=False):
            yield Finding('error', f'{where} is another file than {own}, '
                          f'which {split} reads: the score compares images '
                          'with the objects of others')
