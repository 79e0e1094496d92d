"""The paper's dense tables, as printed.

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


def _coco(params, flops, box, mask) -> Published:
    return Published(
        params, flops, {'coco/bbox_mAP': box, 'coco/segm_mAP': mask})


def _ade(params, flops, miou) -> Published:
    return Published(params, flops, {'mIoU': miou})


SHAPES = {'coco': (800, 1280), 'ade20k': (512, 2048), 'upernet': (512, 2048)}

TABLES: Dict[str, Dict[str, Published]] = {
    'coco': {
        'ResNet50': _coco(44, 260, 38.0, 34.4),
        'PVT-S': _coco(44, 245, 40.4, 37.8),
        'TwinsP-S': _coco(44, 245, 42.9, 40.0),
        'Twins-S': _coco(44, 228, 43.4, 40.3),
        'Swin-T': _coco(48, 264, 42.2, 39.1),
        'ViL-S': _coco(45, 218, 44.9, 41.0),
        'Focal-T': _coco(49, 291, 44.8, 41.0),
        'UniFormer-S_h14': _coco(41, 269, 45.6, 41.6),
        'iFormer-S': _coco(40, 263, 46.2, 41.9),
        'ResNet101': _coco(63, 336, 40.4, 36.4),
        'X101-32': _coco(63, 340, 41.9, 37.5),
        'PVT-M': _coco(64, 302, 42.0, 39.0),
        'TwinsP-B': _coco(64, 302, 44.6, 40.9),
        'Twins-B': _coco(76, 340, 45.2, 41.5),
        'Swin-S': _coco(69, 354, 44.8, 40.9),
        'Focal-S': _coco(71, 401, 47.4, 42.8),
        'CSWin-S': _coco(54, 342, 47.9, 43.2),
        'UniFormer-B': _coco(69, 399, 47.4, 43.1),
        'iFormer-B': _coco(67, 351, 48.3, 43.4),
    },
    'ade20k': {
        'ResNet50': _ade(29, 183, 36.7),
        'PVT-S': _ade(28, 161, 39.8),
        'TwinsP-S': _ade(28, 162, 44.3),
        'Twins-S': _ade(28, 144, 43.2),
        'Swin-T': _ade(32, 182, 41.5),
        'UniFormer-S_h32': _ade(25, 199, 46.2),
        'UniFormer-S': _ade(25, 247, 46.6),
        'UniFormer-B': _ade(54, 471, 48.0),
        'iFormer-S': _ade(24, 181, 48.6),
    },
    'upernet': {'iFormer-S': _ade(49, 938, 48.4)},
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
