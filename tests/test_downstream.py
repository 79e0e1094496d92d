"""In somebody's project, which has nothing of ours but the installed wheel:
their configs, launched by mmdet's and mmseg's own tools and by ours."""
import subprocess
from pathlib import Path

import pytest
from shapes import make_shapes

ARCH = '''embed_dims=(16, 32, 32, 48), depths=(1, 1, 1, 1),
        num_heads=(2, 4, 4, 6), attention_heads=(1, 2, 2, 5)'''
NECK = 'neck=dict(in_channels=[16, 32, 32, 48])'

# Their own config, in which one line names the backbone.
STRANGER = f'''
_base_ = {{base}}
model = dict(
    {{more}}
    backbone=dict(_delete_=True, type='mmiformer.IFormer',
                  arch=dict({ARCH}), pretrain_img_size=64),
    {NECK})
'''

# A child of ours, of another size and without released weights.
CHILD = f'''
_base_ = {{base}}
model = dict(
    backbone=dict(arch=dict(_delete_=True, {ARCH}), pretrain_img_size=64,
                  init_cfg=None),
    {NECK})
'''

# What both say about their data, their classes and a short schedule.
PROJECT = dict(
    mmdet='''
model['roi_head'] = dict(
    bbox_head=dict(num_classes=3), mask_head=dict(num_classes=3))
data = dict(
    type='CocoDataset', data_root='shapes/',
    metainfo=dict(classes=('circle', 'square', 'triangle')),
    ann_file='annotations/instances_training.json',
    data_prefix=dict(img='images/training/'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(64, 64)),
    dict(type='PackDetInputs')]
train_dataloader = dict(
    num_workers=0, persistent_workers=False,
    dataset=dict(**data, filter_cfg=dict(min_size=0), pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        **data, pipeline=train_pipeline[:1] + train_pipeline[2:]))
val_evaluator = dict(ann_file='shapes/annotations/instances_training.json')
train_cfg = dict(max_epochs=1, val_interval=9)
''',
    mmseg='''
model['data_preprocessor'] = dict(size=(64, 64))
model['decode_head'] = dict(num_classes=4)
data = dict(
    type='BaseSegDataset', data_root='shapes', reduce_zero_label=True,
    metainfo=dict(classes=('background', 'circle', 'square', 'triangle')),
    data_prefix=dict(img_path='images/training',
                     seg_map_path='annotations/training'))
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
STRANGERS_BASE = dict(
    mmdet="'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'",
    # By name ('mmseg::...') the forks do not find it.
    mmseg="__import__('mmseg').__path__[0] + '/.mim/configs/sem_fpn/"
    "fpn_r50_4xb4-160k_ade20k-512x512.py'")
OURS = dict(mmdet='mask_rcnn/iformer_s_1x', mmseg='fpn_ade20k/iformer_s_80k')
LAST = dict(mmdet='epoch_1.pth', mmseg='iter_2.pth')


def write_config(kind, package):
    """The text of a config that names us in one of three ways."""
    if kind == 'one line':
        more = 'pretrained=None,' if package == 'mmseg' else ''
        text = STRANGER.format(base=STRANGERS_BASE[package], more=more)
    elif kind == 'by path':
        text = CHILD.format(
            base=f"__import__('mmiformer').config_path('{OURS[package]}')")
    else:
        text = CHILD.format(base=f"'mmiformer::{OURS[package]}.py'")
    return text + PROJECT[package]


@pytest.fixture
def run(site, tmp_path, monkeypatch):
    """Runs that environment's Python in an empty folder."""
    monkeypatch.delenv('PYTHONPATH', raising=False)

    def run(*arguments):
        result = subprocess.run(
            [site.parents[2] / 'bin' / 'python', *arguments], cwd=tmp_path,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    return run


def tools(package, site):
    """The folder of a package's own tools."""
    if package == 'mmiformer':
        return site / 'mmiformer' / '.mim' / 'tools'
    return Path(__import__(package).__path__[0], '.mim', 'tools')


@pytest.mark.parametrize('kind, package, launcher', [
    ('by path', 'mmseg', 'mmseg'), ('by name', 'mmseg', 'mmiformer'),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ('one line', 'mmdet', 'mmdet'), ('one line', 'mmseg', 'mmseg'),
        ('by path', 'mmdet', 'mmdet'), ('by name', 'mmdet', 'mmiformer')))])
def test_training(kind, package, launcher, run, site, tmp_path):
    make_shapes(tmp_path / 'shapes', train=4, val=1, size=64)
    (tmp_path / 'config.py').write_text(write_config(kind, package))
    command = tools(launcher, site) / 'train.py', 'config.py'
    out = run(*command)
    assert 'mmiformer.IFormer' in out
    assert ('LoadBackboneHook' in out) == (kind != 'one line')
    assert not [line for line in out.splitlines()
                if 'WARNING' in line and 'scope' in line]
    assert (tmp_path / 'work_dirs' / 'config' / LAST[package]).exists()


@pytest.mark.slow
def test_their_tool_resumes(run, site, tmp_path):
    """From our Runner's checkpoints: torch >= 2.6 refuses mmengine's own."""
    make_shapes(tmp_path / 'shapes', train=4, val=1, size=64)
    (tmp_path / 'config.py').write_text(
        write_config('one line', 'mmseg') +
        "runner_type = 'mmiformer.ResumableRunner'\n")
    command = tools('mmseg', site) / 'train.py', 'config.py'
    run(*command)
    assert 'resumed epoch' in run(*command, '--resume')
