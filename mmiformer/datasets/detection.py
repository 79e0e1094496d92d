"""The shapes for mmdet."""
from mmdet.datasets import CocoDataset

from ..registry import DATASETS
from .shapes import CLASSES, PALETTE, MakesShapes


@DATASETS.register_module()
class ShapesDetDataset(MakesShapes, CocoDataset):
    """Boxes and masks, read as those of COCO are."""
    METAINFO = dict(classes=CLASSES, palette=PALETTE)
