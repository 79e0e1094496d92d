"""The rows of iFormer in the paper's dense tables, as printed.

Source: Inception Transformer, NeurIPS 2022, tables of Mask R-CNN 1x on COCO
and Semantic FPN on ADE20K; UperNet: the authors' README.
"""
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from mmengine.config import Config

from ..config import type_name


@dataclass(frozen=True)
class Published:
    """A row of a table: parameters in M, FLOPs in G, and the metrics."""
    params: float
    flops: float
    metrics: Dict[str, float]


SHAPES = {'coco': (800, 1280), 'ade20k': (512, 2048), 'upernet': (512, 2048)}

BOX, MASK = 'coco/bbox_mAP', 'coco/segm_mAP'
TABLES: Dict[str, Dict[str, Published]] = {
    'coco': {'iFormer-S': Published(40, 263, {BOX: 46.2, MASK: 41.9}),
             'iFormer-B': Published(67, 351, {BOX: 48.3, MASK: 43.4})},
    'ade20k': {'iFormer-S': Published(24, 181, {'mIoU': 48.6})},
    'upernet': {'iFormer-S': Published(49, 938, {'mIoU': 48.4})},
}


def find_row(cfg: Config) -> Optional[Tuple[str, str, Published]]:
    """The table, name and row that a config reproduces, if there is one."""
    backbone = cfg.model.get('backbone', {})
    arch = backbone.get('arch', 'small')
    table = dict(FPNHead='ade20k', UPerHead='upernet').get(
        type_name(cfg.model.get('decode_head')),
        'coco' if type_name(cfg.model) == 'MaskRCNN' else None)
    if (table is None or type_name(backbone) != 'IFormer'
            or not isinstance(arch, str)):
        return None
    head = cfg.model.get('decode_head') or cfg.model.roi_head.bbox_head
    if head.get('num_classes') != (80 if table == 'coco' else 150):
        return None  # of other data
    name = f'iFormer-{arch[0].upper()}'
    row = TABLES[table].get(name)
    return row and (table, name, row)
