"""Models of each kind, for the embedded shapes, small enough to be fast."""
import copy
from pathlib import Path

import cv2
import numpy as np
import torch
from conftest import TINY
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope, init_default_scope

from mmiformer.kit.inference import load_model

BACKBONE = dict(_delete_=True, type='mmiformer.IFormer', arch=TINY,
                pretrain_img_size=64)
NECK = dict(in_channels=[16, 32, 32, 48])
CHILDREN = dict(
    imagenet=dict(backbone=dict(**BACKBONE, out_indices=(3, )),
                  head=dict(in_channels=48)),
    fpn_ade20k=dict(backbone=BACKBONE, neck=NECK),
    mask_rcnn=dict(backbone=BACKBONE, neck=NECK))

# Few data, below a config that has the loaders of the shapes.
FEW = '''
train_dataloader = dict(batch_size=2, dataset=dict())
val_dataloader = dict(batch_size=1, dataset=dict())
test_dataloader = val_dataloader
'''


def child(configs, folder):
    """The config of a model, which inherits the folder's for the shapes."""
    cfg = Config.fromfile(configs / folder / 'iformer_s_shapes.py')
    cfg.merge_from_dict(dict(model=copy.deepcopy(CHILDREN[folder])))
    return cfg


def load_in_scope(path):
    """A config, whose framework's names are found from here on."""
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
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


def picture(height, width):
    """Noise and large areas, whose labels are of both kinds."""
    random = np.random.RandomState(0)
    coarse = random.randint(0, 256, (4, 5, 3), np.uint8)
    return cv2.addWeighted(
        cv2.resize(coarse, (width, height)), 0.7,
        random.randint(0, 256, (height, width, 3), np.uint8), 0.3, 0)


def pipeline(cfg):
    """What a config's test pipeline does to an image, without annotations."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return Compose([
            step for step in cfg.test_dataloader.dataset.pipeline
            if not step['type'].endswith('Annotations')])


def as_in_testing(cfg, checkpoint, path):
    """What tools/test.py computes for an image: the test pipeline and
    test_step, without an inferencer."""
    with torch.no_grad():
        return load_model(cfg, checkpoint).cpu().test_step(pseudo_collate([
            pipeline(cfg)(dict(img_path=str(path), img_id=0))]))[0]


def rescaled(heat):
    """A map as grad-cam does it: what speaks against the class is 0."""
    heat = heat.clamp(0)
    heat = heat - heat.min()
    return heat / heat.max()
