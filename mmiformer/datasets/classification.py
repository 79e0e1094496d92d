"""The shapes for mmpretrain."""
from mmpretrain.datasets import CustomDataset

from ..registry import DATASETS
from .shapes import CLASSES, MakesShapes


@DATASETS.register_module()
class ShapesClsDataset(MakesShapes, CustomDataset):
    """Crops in a folder per class, read as those of ImageNet are."""
    METAINFO = dict(classes=CLASSES)
