"""The results that can be reproduced, and when one counts as reproduced."""
import math
from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Tuple

from ..analysis.paper import TABLES

# ours, measured (2 CPU cores, 2026-11-22) by `make demo`, in points.
SHAPES_FPN = {'mIoU': 90.9}
SHAPES_MASK_RCNN = {'coco/bbox_mAP_50': 95.9, 'coco/segm_mAP_50': 95.9}
# ours: room for what seeds, GPUs and versions of torch change, in points; more
# on the shapes, where training is short and images are few.
AP_TOLERANCE, MIOU_TOLERANCE, SHAPES_TOLERANCE = 0.3, 0.5, 5.


@dataclass(frozen=True)
class Recipe:
    """A row to reproduce. Batch, schedule and data are the config's.

    Attributes:
        config: Path below ``configs``.
        framework: ``mmdet`` or ``mmseg``.
        expected: Metrics by the names that the test logs, in points
            (percent), whatever unit the test logs them in.
        tolerance: How many points each may fall short.
        source: Where the expected values are from.
        shape: Height and width of a training image in pixels, the largest.
        images: Files of each split that the data set has.
        options: Settings over the config's, as ``--cfg-options`` takes them.
        note: What a reader should know.
    """
    config: str
    framework: str
    expected: Mapping[str, float]
    tolerance: float
    source: str
    shape: Tuple[int, int]
    images: Mapping[str, int]
    options: Tuple[str, ...] = ()
    note: str = ''


def _coco(name: str, config: str) -> Recipe:
    return Recipe(config, 'mmdet', TABLES['coco'][name].metrics, AP_TOLERANCE,
                  'paper', (800, 1344), dict(train=118287, val=5000))


def _ade20k(table: str, config: str, source: str) -> Recipe:
    return Recipe(config, 'mmseg', TABLES[table]['iFormer-S'].metrics,
                  MIOU_TOLERANCE, source, (512, 512),
                  dict(train=20210, val=2000))


_FPN = Recipe(
    'fpn_ade20k/iformer_s_shapes.py', 'mmseg', SHAPES_FPN, SHAPES_TOLERANCE,
    'ours, measured', (128, 128), dict(train=480, val=96),
    note='the embedded shapes, minutes on a CPU')

RECIPES: Dict[str, Recipe] = {
    'coco/iformer_s': _coco('iFormer-S', 'mask_rcnn/iformer_s_1x.py'),
    'coco/iformer_b': _coco('iFormer-B', 'mask_rcnn/iformer_b_1x.py'),
    'ade20k/iformer_s': _ade20k(
        'ade20k', 'fpn_ade20k/iformer_s_80k.py', 'paper'),
    'upernet/iformer_s': _ade20k(
        'upernet', 'upernet_ade20k/iformer_s_160k.py', "authors' README"),
    'shapes/fpn': _FPN,
    'shapes/mask_rcnn': Recipe(
        'mask_rcnn/iformer_s_shapes.py', 'mmdet', SHAPES_MASK_RCNN,
        SHAPES_TOLERANCE, 'ours, measured', (128, 128), _FPN.images,
        options=('model.backbone.init_cfg.checkpoint=work_dirs/reproduce/'
                 'shapes/fpn/train/iter_400.pth', ),
        note='the embedded shapes; starts from the backbone of shapes/fpn, so '
        'reproduce that first'),
    'shapes/two_iterations': replace(
        _FPN, options=('train_cfg.max_iters=2', 'train_cfg.val_interval=2',
                       'default_hooks.logger.interval=1'),
        note='shapes/fpn stopped after two iterations: this row must FAIL'),
}


def find_recipe(name: str) -> Recipe:
    """The recipe of a row.

    Raises:
        ValueError: There is none; lists those there are.
    """
    if name not in RECIPES:
        raise ValueError(
            f'there is no row {name!r}; rows: {", ".join(RECIPES)}')
    return RECIPES[name]


@dataclass(frozen=True)
class Verdict:
    """A metric in points beside what was expected; ``got`` is None where the
    test logged no finite number for it."""
    metric: str
    expected: float
    tolerance: float
    got: Optional[float]

    @property
    def passed(self) -> bool:
        """Reached, or better; never without a number."""
        # Rounded: 46.2 - 0.3 is a little more than 45.9 in binary.
        return self.got is not None and round(
            self.got - self.expected + self.tolerance, 6) >= 0


def judge(recipe: Recipe, metrics: Mapping[str, float]) -> List[Verdict]:
    """Compares what a test logged with what a recipe expects."""
    return [Verdict(name, value, recipe.tolerance, points(name, metrics))
            for name, value in recipe.expected.items()]


def points(name: str, metrics: Mapping[str, float]) -> Optional[float]:
    """A metric in percent: mmdet logs COCO's from 0 to 1, mmseg in percent."""
    value = metrics.get(name)
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value * 100 if name.startswith('coco/') else value
