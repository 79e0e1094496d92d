"""The backbones of the paper's tables that the installed packages have."""
from typing import Dict, Optional, Tuple

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch import nn

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
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return MODELS.build(model)


