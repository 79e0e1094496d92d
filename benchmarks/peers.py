"""Counts the paper's tables: the backbones that the installed packages have,
in the models of our configs.

    python benchmarks/peers.py coco
    python benchmarks/peers.py ade20k

That the networks of others come out as printed is how we know the paper's way
of counting: docs/flops.md.
"""
import sys
from pathlib import Path
from typing import Dict, Tuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmiformer.paper import count
from mmiformer.paper.tables import SHAPES

CONFIGS = Path(__file__).parents[1] / 'configs'
TABLE_CONFIGS = dict(coco='mask_rcnn/iformer_s_1x.py',
                     ade20k='fpn_ade20k/iformer_s_80k.py')
# Parameters in M and FLOPs in G, as the paper prints them.
PRINTED = dict(
    coco={
        'ResNet50': (44, 260), 'PVT-S': (44, 245), 'TwinsP-S': (44, 245),
        'Twins-S': (44, 228), 'Swin-T': (48, 264), 'iFormer-S': (40, 263),
        'ResNet101': (63, 336), 'X101-32': (63, 340), 'PVT-M': (64, 302),
        'TwinsP-B': (64, 302), 'Twins-B': (76, 340), 'Swin-S': (69, 354),
        'iFormer-B': (67, 351)},
    ade20k={
        'ResNet50': (29, 183), 'PVT-S': (28, 161), 'TwinsP-S': (28, 162),
        'Twins-S': (28, 144), 'Swin-T': (32, 182), 'iFormer-S': (24, 181)})

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


# The config of each, and the channels of its outputs.
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


def build_row(table: str, name: str) -> nn.Module:
    """Builds the model of a table's config around another backbone."""
    cfg = Config.fromfile(CONFIGS / TABLE_CONFIGS[table])
    backbone, channels = PEERS[name]
    cfg.model.backbone = ConfigDict(backbone)
    cfg.model.neck.in_channels = list(channels)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def main(table: str) -> None:
    print('at {}x{}'.format(*SHAPES[table]))
    line = '{:<10} {:>10} {:>10} {:>12} {:>12} {:>16}'
    print(line.format('', 'params M', 'published', 'FLOPs G', 'published',
                      'with attention'))
    for name, (params, flops) in PRINTED[table].items():
        result = count(build_row(table, name), SHAPES[table])
        print(line.format(
            name, f'{result.params / 1e6:.1f}', params,
            f'{result.flops / 1e9:.1f}', flops,
            f'{result.flops_with_attention / 1e9:.1f}'), flush=True)


if __name__ == '__main__':
    main(sys.argv[1])
