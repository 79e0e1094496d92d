"""In somebody's project: their config, launched by mmdet's and mmseg's own
tools, from a folder that has nothing of ours."""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmiformer.datasets import make_shapes

BACKBONE = '''
    backbone=dict(
        _delete_=True, type='mmiformer.IFormer', pretrain_img_size=64,
        arch=dict(embed_dims=(16, 32, 32, 48), depths=(1, 1, 1, 1),
                  num_heads=(2, 4, 4, 6), attention_heads=(1, 2, 2, 5))),
    neck=dict(in_channels=[16, 32, 32, 48]),
'''
CONFIGS = dict(
    mmdet='''
_base_ = 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
model = dict(''' + BACKBONE + '''
    roi_head=dict(bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3)))
data = dict(
    data_root='shapes/',
    metainfo=dict(classes=('circle', 'square', 'triangle')),
    ann_file='annotations/instances_training.json',
    data_prefix=dict(img='images/training/'))
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(**data, filter_cfg=dict(min_size=0)))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
val_evaluator = dict(ann_file='shapes/annotations/instances_training.json')
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackDetInputs')]
train_dataloader['dataset']['pipeline'] = train_pipeline
train_cfg = dict(max_epochs=1, val_interval=9)
''',
    mmseg='''
_base_ = 'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py'
model = dict(pretrained=None,''' + BACKBONE + '''
    data_preprocessor=dict(size=(64, 64)),
    decode_head=dict(num_classes=4))
data = dict(
    type='BaseSegDataset', data_root='shapes', img_suffix='.jpg',
    seg_map_suffix='.png', reduce_zero_label=True,
    metainfo=dict(classes=('background', 'circle', 'square', 'triangle')))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs')]
train_dataloader = dict(
    num_workers=0, persistent_workers=False, batch_size=2,
    dataset=dict(**data, pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=data)
train_cfg = dict(max_iters=2, val_interval=9)
default_hooks = dict(checkpoint=dict(interval=1))
''')


@pytest.mark.parametrize('package, last', [
    ('mmdet', 'epoch_1.pth'), ('mmseg', 'iter_2.pth')])
def test_one_line_in_a_strangers_config(package, last, tmp_path):
    make_shapes(tmp_path / 'shapes', train=4, val=1, size=64)
    (tmp_path / 'config.py').write_text(CONFIGS[package])
    root = Path(importlib.util.find_spec(package).origin).parent
    for more in ([], ['--resume']):  # and resuming works with their tool too
        result = subprocess.run(
            [sys.executable, str(root / '.mim/tools/train.py'), 'config.py',
             *more], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={**os.environ, 'PYTHONPATH': ''})
        assert result.returncode == 0, result.stdout[-3000:]
        assert 'mmiformer.IFormer' in result.stdout
    assert 'resumed epoch' in result.stdout
    assert (tmp_path / 'work_dirs' / 'config' / last).exists()
