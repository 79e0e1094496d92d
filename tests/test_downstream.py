"""In somebody's project, which has nothing of ours but the installed wheel:
their configs, launched by mmdet's and mmseg's own tools and by ours."""
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SITE

from mmiformer.datasets import make_shapes

ROOT = Path(__file__).parents[1]

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
    data_root='shapes/',
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
STRANGERS_BASE = dict(
    mmdet="'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'",
    # By name ('mmseg::...') the forks do not find it.
    mmseg="__import__('mmseg').__path__[0] + '/.mim/configs/sem_fpn/"
    "fpn_r50_4xb4-160k_ade20k-512x512.py'")
OURS = dict(mmdet='mask_rcnn/iformer_s_1x', mmseg='fpn_ade20k/iformer_s_80k')
LAST = dict(mmdet='epoch_1.pth', mmseg='iter_2.pth')


@pytest.fixture(scope='module')
def python(tmp_path_factory):
    """An environment with the wheel and the stack, without this checkout."""
    folder = tmp_path_factory.mktemp('wheel')

    def call(*command):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL,
                       cwd=folder)

    # From a copy: setuptools would find what it once built in the checkout.
    for name in ('mmiformer', 'configs', 'tools'):
        shutil.copytree(ROOT / name, folder / 'source' / name, symlinks=True)
    for name in ('setup.py', 'README.md', 'model-index.yml'):
        shutil.copy(ROOT / name, folder / 'source')
    call(sys.executable, '-m', 'pip', 'wheel', folder / 'source', '--no-deps',
         '--no-build-isolation', '-w', folder)
    call(sys.executable, '-m', 'venv', '--without-pip', folder / 'venv')
    python = folder / 'venv' / 'bin' / 'python'
    call(sys.executable, '-m', 'pip', '--python', python, 'install', '-q',
         '--no-deps', *folder.glob('*.whl'))
    # The stack's folder is only searched: its .pth files, of which one may
    # lead to this checkout, are not read.
    site = next((folder / 'venv' / 'lib').glob('python*/site-packages'))
    stack = [path for path in sys.path if path.endswith('-packages')]
    (site / 'stack.pth').write_text('\n'.join(stack))
    found = subprocess.run(
        [python, '-c', 'import mmiformer; print(mmiformer.__file__)'],
        capture_output=True, text=True, cwd=folder).stdout
    assert Path(found.strip()) == site / 'mmiformer' / '__init__.py'
    return python


@pytest.fixture
def train(python, tmp_path):
    """Trains with a package's own tool in a folder with data and a config."""
    make_shapes(tmp_path / 'shapes', train=4, val=1, size=64)
    site = subprocess.run(
        [python, '-c', 'import importlib.util as u; print(*['
         'u.find_spec(p).submodule_search_locations[0] '
         'for p in ("mmdet", "mmseg", "mmiformer")])'],
        capture_output=True, text=True, cwd=tmp_path).stdout.split()
    folders = dict(zip(('mmdet', 'mmseg', 'mmiformer'), site))

    def run(launcher, config, *options):
        (tmp_path / 'config.py').write_text(config)
        result = subprocess.run(
            [python, f'{folders[launcher]}/.mim/tools/train.py', 'config.py',
             *options], cwd=tmp_path, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=env)
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    # Only the installed package is found, not the checkout.
    paths = os.environ.get('PYTHONPATH', '').split(os.pathsep)
    env = {**os.environ, 'PYTHONPATH': SITE if SITE in paths else ''}
    return run


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_one_line_in_a_strangers_config(package, train, tmp_path):
    more = 'pretrained=None,' if package == 'mmseg' else ''
    config = STRANGER.format(
        base=STRANGERS_BASE[package], more=more) + PROJECT[package]
    assert 'mmiformer.IFormer' in train(package, config)
    # Their tool resumes, too.
    assert 'resumed epoch' in train(package, config, '--resume')
    assert (tmp_path / 'work_dirs' / 'config' / LAST[package]).exists()


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_child_by_path_with_their_tool(package, train, tmp_path):
    base = f"__import__('mmiformer').config_path('{OURS[package]}')"
    out = train(package, CHILD.format(base=base) + PROJECT[package])
    assert 'LoadBackboneHook' in out
    assert (tmp_path / 'work_dirs' / 'config' / LAST[package]).exists()


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_child_by_name_with_our_tool(package, train, tmp_path):
    base = f"'mmiformer::{OURS[package]}.py'"
    out = train('mmiformer', CHILD.format(base=base) + PROJECT[package])
    assert not [line for line in out.splitlines()
                if 'WARNING' in line and 'scope' in line]
    assert (tmp_path / 'work_dirs' / 'config' / LAST[package]).exists()
