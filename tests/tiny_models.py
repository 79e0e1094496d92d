"""Models of each kind, for the embedded shapes, small enough to be fast."""
import copy
from pathlib import Path

import torch
from conftest import TINY
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

BACKBONE = dict(_delete_=True, type='mmiformer.IFormer', arch=TINY,
                pretrain_img_size=64)
NECK = dict(in_channels=[16, 32, 32, 48])
CHILDREN = dict(
    imagenet=dict(backbone=dict(**BACKBONE, out_indices=(3, )),
                  head=dict(in_channels=48)),
    fpn_ade20k=dict(backbone=BACKBONE, neck=NECK),
    mask_rcnn=dict(backbone=BACKBONE, neck=NECK))


def child(configs, folder):
    """The config of a model, which inherits the folder's for the shapes."""
    cfg = Config.fromfile(configs / folder / 'iformer_s_shapes.py')
    cfg.merge_from_dict(dict(model=copy.deepcopy(CHILDREN[folder])))
    return cfg


def build(cfg, seed=0):
    """A config's model, with random weights."""
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model).eval()


def save(configs, folder, name, **model):
    """The files of a config and its weights, in the current folder; settings
    of the model may be given."""
    base = str(configs / folder / 'iformer_s_shapes.py')
    Path(f'{name}.py').write_text(
        f'_base_ = {base!r}\nmodel = {dict(CHILDREN[folder], **model)}\n')
    model = build(Config.fromfile(f'{name}.py'))
    torch.save(model.state_dict(), f'{name}.pth')
    return f'{name}.py', f'{name}.pth'


def rescaled(heat):
    """A map as grad-cam does it: what speaks against the class is 0."""
    heat = heat.clamp(0)
    heat = heat - heat.min()
    return heat / heat.max()
