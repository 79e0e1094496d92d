"""In somebody's project, which has nothing of ours but the installed wheel:
their configs, launched by mmdet's and mmseg's own tools and by ours."""
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT
from installed import install
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


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    return install(tmp_path_factory.mktemp('wheel'))


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


def test_what_the_wheel_has(site):
    mim = site / 'mmiformer' / '.mim'
    for folder in ('configs', 'tools'):
        own = {path.relative_to(ROOT) for path in (ROOT / folder).rglob('*.*')
               if path.suffix != '.pyc'}
        assert {path.relative_to(mim) for path in (mim / folder).rglob('*.*')
                } == own
    assert (mim / 'model-index.yml').is_file()
    for kind in ('py', 'csv'):
        files = {path.relative_to(ROOT) for path
                 in (ROOT / 'mmiformer').rglob(f'*.{kind}')}
        assert {path.relative_to(site) for path
                in (site / 'mmiformer').rglob(f'*.{kind}')
                if '.mim' not in path.parts} == {
            path for path in files if '.mim' not in path.parts} != set()
    assert 'mmiformer = mmiformer_cli:main' in next(
        site.glob('*.dist-info/entry_points.txt')).read_text()
    assert [path.name for path in site.iterdir() if path.suffix != '.pth'
            and not path.name.startswith(('mmiformer', 'distutils', '_'))
            ] == []


@pytest.mark.parametrize('kind, package, launcher', [
    ('by path', 'mmseg', 'mmseg'),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in (
        ('one line', 'mmdet', 'mmdet'),
        ('one line', 'mmseg', 'mmseg'), ('by path', 'mmdet', 'mmdet'),
        ('by name', 'mmdet', 'mmiformer'), ('by name', 'mmseg', 'mmiformer')))
])
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


@pytest.mark.slow
@pytest.mark.parametrize('package, optional', [
    ('mmdet', {'motmetrics', 'tools'}),  # of tracking, and of its checkout
    ('mmseg', set())])
def test_their_tools_start(package, optional, run, site):
    """Those for analysis need what their packages do not declare."""
    out = run('-c', f'''
import contextlib, io, pathlib, runpy, sys
folder = pathlib.Path({str(tools(package, site))!r})
for path in [*folder.glob('*.py'), *folder.glob('analysis_tools/*.py')]:
    sys.argv = [str(path), '--help']
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(path), run_name='__main__')
    except SystemExit as error:
        print('STARTED', path.stem, error.code)
    except ImportError as error:
        print('FAILED', path.stem, error.name)
''')
    words = [line.split() for line in out.splitlines()]
    started = {line[1] for line in words if line[0] == 'STARTED'}
    assert {'train', 'test', 'analyze_logs', 'benchmark'} <= started
    assert {line[2] for line in words if line[0] == 'FAILED'} <= optional
