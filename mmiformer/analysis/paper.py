"""What the paper's dense tables print, and how to build their rows here.

Source: Inception Transformer, NeurIPS 2022, tables of Mask R-CNN 1x on COCO
and Semantic FPN on ADE20K; UperNet: the authors' README.
"""
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn


@dataclass(frozen=True)
class Row:
    """A row of a table: parameters in M, FLOPs in G, and the metrics."""
    params: float
    flops: float
    metrics: Dict[str, float]


def _coco(params, flops, box, mask) -> Row:
    return Row(params, flops, {'coco/bbox_mAP': box, 'coco/segm_mAP': mask})


def _ade(params, flops, miou) -> Row:
    return Row(params, flops, {'mIoU': miou})


SHAPES = {'coco': (800, 1280), 'ade20k': (512, 2048), 'upernet': (512, 2048)}

TABLES: Dict[str, Dict[str, Row]] = {
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

_PVT = dict(type='mmdet.PyramidVisionTransformer')
_SWIN = dict(type='mmdet.SwinTransformer', embed_dims=96, window_size=7,
             num_heads=[3, 6, 12, 24], drop_path_rate=0.2)
_PCPVT = dict(
    type='mmseg.PCPVT', in_channels=3, embed_dims=[64, 128, 320, 512],
    num_heads=[1, 2, 5, 8], patch_sizes=[4, 2, 2, 2], strides=[4, 2, 2, 2],
    mlp_ratios=[8, 8, 4, 4], out_indices=(0, 1, 2, 3), qkv_bias=True,
    sr_ratios=[8, 4, 2, 1], norm_after_stage=False)
_SVT = dict(
    type='mmseg.SVT', in_channels=3, patch_sizes=[4, 2, 2, 2],
    strides=[4, 2, 2, 2], mlp_ratios=[4, 4, 4, 4], out_indices=(0, 1, 2, 3),
    qkv_bias=True, windiow_sizes=[7, 7, 7, 7], sr_ratios=[8, 4, 2, 1],
    norm_after_stage=True)


def _resnet(depth: int, **kwargs) -> dict:
    return dict(depth=depth, num_stages=4, out_indices=(0, 1, 2, 3),
                norm_cfg=dict(type='BN'), style='pytorch',
                **{'type': 'mmdet.ResNet', **kwargs})


# The backbones that the installed packages can build, and their channels.
PEERS: Dict[str, Tuple[dict, Tuple[int, ...]]] = {
    'ResNet50': (_resnet(50), (256, 512, 1024, 2048)),
    'ResNet101': (_resnet(101), (256, 512, 1024, 2048)),
    'X101-32': (_resnet(101, type='mmdet.ResNeXt', groups=32, base_width=4),
                (256, 512, 1024, 2048)),
    'PVT-S': (dict(_PVT, num_layers=[3, 4, 6, 3]), (64, 128, 320, 512)),
    'PVT-M': (dict(_PVT, num_layers=[3, 4, 18, 3]), (64, 128, 320, 512)),
    'TwinsP-S': (dict(_PCPVT, depths=[3, 4, 6, 3]), (64, 128, 320, 512)),
    'TwinsP-B': (dict(_PCPVT, depths=[3, 4, 18, 3]), (64, 128, 320, 512)),
    'Twins-S': (dict(_SVT, embed_dims=[64, 128, 256, 512],
                     num_heads=[2, 4, 8, 16], depths=[2, 2, 10, 4]),
                (64, 128, 256, 512)),
    'Twins-B': (dict(_SVT, embed_dims=[96, 192, 384, 768],
                     num_heads=[3, 6, 12, 24], depths=[2, 2, 18, 2]),
                (96, 192, 384, 768)),
    'Swin-T': (dict(_SWIN, depths=[2, 2, 6, 2]), (96, 192, 384, 768)),
    'Swin-S': (dict(_SWIN, depths=[2, 2, 18, 2]), (96, 192, 384, 768)),
    'iFormer-S': (dict(type='mmiformer.IFormer', arch='small'),
                  (96, 192, 320, 384)),
    'iFormer-B': (dict(type='mmiformer.IFormer', arch='base'),
                  (96, 192, 384, 512)),
}


def build_row(cfg: Config, name: str) -> Optional[nn.Module]:
    """Builds a config's model around another backbone.

    Args:
        cfg: A config with an FPN neck; not changed.
        name: A row of a table.

    Returns:
        The model, or None where no installed package has that backbone.
    """
    if name not in PEERS:
        return None
    backbone, channels = PEERS[name]
    model = ConfigDict(cfg.model.to_dict())
    model.backbone = ConfigDict(backbone)
    model.neck.in_channels = list(channels)
    init_default_scope(cfg.default_scope)
    return MODELS.build(model)


def find_row(cfg: Config) -> Optional[Tuple[str, str, Row]]:
    """The table, name and row that a config reproduces, if there is one."""
    if cfg.model.backbone.type != 'mmiformer.IFormer':
        return None
    head = cfg.model.get('decode_head', {}).get('type')
    if head is None:
        table = 'coco' if cfg.model.type == 'MaskRCNN' else None
    else:
        table = dict(FPNHead='ade20k', UPerHead='upernet').get(head)
    arch = cfg.model.backbone.get('arch', 'small')
    if not isinstance(arch, str) or table is None:
        return None
    name = f'iFormer-{arch[0].upper()}'
    row = TABLES[table].get(name)
    return row and (table, name, row)
