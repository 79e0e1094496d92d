"""From a config to a report on its data."""
from typing import Dict, Iterable, List, Optional

from mmengine.config import Config

from ...config import type_name
from . import kinds
from .classification import check_classification
from .coco import check_coco
from .context import CheckContext, CheckResult
from .dataset_split import build_splits
from .segmentation import check_segmentation
from .settings import check_heads, check_settings, compare_splits

# By the class whose load_data_list a data set uses.
CHECKS = dict(
    CocoDataset=check_coco,
    BaseSegDataset=check_segmentation,
    CustomDataset=check_classification)

# The check at the start of a run takes seconds. 16 images show a wrong root
# or size; an annotation file of 100 MB takes some ten seconds and 1 GB,
# COCO's of 450 MB more than half a minute and 3 GB.
BRIEF = dict(sample=16, max_annotation_bytes=100_000_000)


def check_data(cfg: Config, splits: Iterable[str],
               context: Optional[CheckContext] = None) -> kinds.Report:
    """Reads what a config will read, to the end, whatever it finds.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: The data loaders to check: ``train``, ``val``, ``test``.
        context: How much to read, and where to report; by default all of it.

    Returns:
        Every fault.
    """
    context = context or CheckContext()
    results: Dict[str, List[CheckResult]] = {}
    splits = list(splits)
    check_settings(cfg, splits, context)
    for name in splits:
        results[name] = []
        for split in build_splits(cfg, name, context):
            if split.reader not in CHECKS:
                context.add(kinds.UNCHECKED, f'{name}: {type_name(split.cfg)}')
                continue
            result = CHECKS[split.reader](split, context)
            check_heads(split.heads, name, split.classes or result.classes,
                        context)
            results[name].append(result)
    compare_splits(results, context)
    return context.report
