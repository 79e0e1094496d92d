"""Configs that train a small backbone on a few shapes, in seconds."""
from pathlib import Path

from conftest import ROOT, TINY
from shapes import make_shapes

BASES = dict(seg='fpn_ade20k', det='mask_rcnn')
CONFIG = '''
_base_ = {base!r}
data = dict(data_root={data!r} + '/')
model = dict(backbone=dict(
    _delete_=True, type='mmiformer.IFormer', pretrain_img_size=64,
    norm_eval=True, arch={arch}),
    neck=dict(in_channels=[16, 32, 32, 48]))
train_dataloader = dict(num_workers=0, batch_size=2,
                        persistent_workers=False, dataset=data)
val_dataloader = dict(num_workers=0, batch_size=1,
                      persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
'''
DET = '''
val_evaluator = dict(
    ann_file={data!r} + '/annotations/instances_validation.json')
test_evaluator = val_evaluator
'''


def write_config(path: Path, kind: str, more: str = '') -> Path:
    """Writes a config of a segmentor or a detector; its data is in
    ``shapes`` beside it, 12 images to train on and 5 to test."""
    data = str(make_shapes(
        path.parent / 'shapes', train=12, val=5, size=64))
    text = CONFIG + (DET if kind == 'det' else '') + more
    path.write_text(text.format(
        base=str(ROOT / 'configs' / BASES[kind] / 'iformer_s_shapes.py'),
        arch=TINY, data=data))
    return path


def write_classifier(path: Path, train: int, val: int, more: str = '') -> Path:
    """Writes a config of a classifier of crops of so many images, which are
    in ``shapes`` beside it."""
    data = make_shapes(path.parent / 'shapes', train, val, size=64)
    path.write_text(f'''
_base_ = {str(ROOT / 'configs/imagenet/iformer_s_shapes.py')!r}
data = dict(data_root={str(data)!r})
model = dict(
    backbone=dict(arch=dict(_delete_=True, **{TINY}), pretrain_img_size=64),
    head=dict(in_channels=48))
train_dataloader = dict(batch_size=16, num_workers=0, persistent_workers=False,
                        dataset=data)
val_dataloader = dict(num_workers=0, persistent_workers=False,
                      dataset=data)
test_dataloader = val_dataloader
{more}''')
    return path
