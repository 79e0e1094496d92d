"""The shapes for mmseg."""
from typing import Any

from mmseg.datasets import BaseSegDataset

from ..registry import DATASETS
from .shapes import CLASSES, PALETTE, MakesShapes


@DATASETS.register_module()
class ShapesSegDataset(MakesShapes, BaseSegDataset):
    """Label maps, read as those of ADE20K are: 0 is unlabelled."""
    METAINFO = dict(classes=('background', *CLASSES),
                    palette=[(60, 60, 60), *PALETTE])

    def __init__(self, reduce_zero_label: bool = True, **kwargs: Any) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)
