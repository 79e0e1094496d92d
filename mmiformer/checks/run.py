"""From a config to a report on its data."""
from typing import Dict, Iterable, List, Optional, Tuple

from mmengine.config import Config

from .classification import check_classification
from .coco import check_coco
from .files import Track, find_same
from .part import UNKNOWN, Found, Job, Part, find_parts
from .report import Kind, Report
from .segmentation import check_segmentation

TOO_FEW = Kind(
    'num_classes that is not the number of classes', 'labels beyond it stop '
    'the loss; mmdet stops in testing at a class without a name', True)
SPARE_OUTPUTS = Kind(
    'num_classes above the number of classes', 'the outputs that are too many '
    'are never trained for anything', False)
UNLIKE = Kind(
    'splits that number their classes differently', 'the labels of training '
    'silently mean other classes in testing', True)
OVERLAP = Kind(
    'files of training that are also in testing', 'nothing stops; the score '
    'is measured on what was trained on', False)

# By the class whose load_data_list a data set uses.
CHECKS = dict(
    CocoDataset=check_coco,
    BaseSegDataset=check_segmentation,
    CustomDataset=check_classification)
EXACT = ('CocoDataset', )  # any other num_classes than of the classes fails

# The check at the start of training. 16 images show a wrong root or size; an
# annotation file of 100 MB takes some ten seconds and 1 GB, COCO's of 450 MB
# more than half a minute and 3 GB, each time.
BRIEF = dict(sample=16, largest=100_000_000)


def check_briefly(cfg: Config, splits: Iterable[str]) -> Report:
    """What can be found in seconds: annotations, names, and a few images."""
    return check_data(cfg, splits, by_content=False, **BRIEF)


def check_data(cfg: Config, splits: Iterable[str],
               track: Optional[Track] = None, sample: Optional[int] = None,
               largest: Optional[int] = None,
               by_content: bool = True) -> Report:
    """Reads what a config will read, to the end, whatever it finds.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: The data loaders to check: ``train``, ``val``, ``test``.
        track: Shows progress; takes items, a label and how many there are.
        sample: How many files of a data set are decoded; all by default.
        largest: Annotation files above it are left out, in bytes.
        by_content: Whether splits are compared by what is in the files, not
            by their paths alone.

    Returns:
        Every fault.
    """
    report = Report()
    job = Job(report, track or (lambda items, label, total: items),
              sample, largest)
    found: Dict[str, List[Found]] = {}
    for split in splits:
        found[split] = []
        for part in find_parts(cfg, split, report):
            if part.reader not in CHECKS:
                report.add(UNKNOWN, f'{split}: {part.cfg["type"]}')
                continue
            found[split].append(CHECKS[part.reader](part, job))
            _check_heads(part, found[split][-1], report)
    trained = found.pop('train', [])
    for split, parts in found.items():
        _compare(trained, split, parts, report, by_content)
    return report


def _check_heads(part: Part, found: Found, report: Report) -> None:
    classes = part.classes or found.classes
    if classes is None:
        return
    for key, number in part.heads.items():
        if number == len(classes):
            continue
        few = number < len(classes) or part.reader in EXACT
        report.add(TOO_FEW if few else SPARE_OUTPUTS,
                   f'{key}={number}, {part.split} has {len(classes)} classes')


def _compare(trained: List[Found], split: str, tested: List[Found],
             report: Report, by_content: bool) -> None:
    orders = [found.classes for found in trained if found.classes]
    for found in tested:
        if found.classes and any(o != found.classes for o in orders):
            report.add(UNLIKE, f'train: {_join(orders[0])}; {split}: '
                       f'{_join(found.classes)}')
    for first, second in find_same(_images(trained), _images(tested),
                                   by_content):
        report.add(OVERLAP, f'{first}, in {split}: {second}')


def _images(parts: List[Found]) -> List[str]:
    return [image for found in parts for image in found.images]


def _join(names: Tuple[str, ...]) -> str:
    return ', '.join(names[:10]) + (', ...' if len(names) > 10 else '')
