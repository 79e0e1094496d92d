"""Reading, overriding and walking configs."""
import argparse
import os

import pytest
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmiformer.config import (
    as_list,
    find_datasets,
    find_pretrained,
    load_config,
    output_file,
    type_name,
    walk,
)


def test_reading_a_config_changes_nothing_else(configs):
    before = dict(os.environ), dict(CheckpointLoader._schemes)
    load_config(configs / 'mask_rcnn/iformer_s_1x.py')
    assert (dict(os.environ), dict(CheckpointLoader._schemes)) == before


def test_overrides_and_work_dirs(configs, tmp_path):
    path = configs / 'mask_rcnn/iformer_s_1x.py'
    cfg = load_config(path, {'model.backbone.with_cp': True})
    assert cfg.model.backbone.with_cp is True and cfg.launcher == 'none'
    assert cfg.work_dir == 'work_dirs/mask_rcnn/iformer_s_1x'
    assert load_config(path, work_dir='here').work_dir == 'here'
    assert load_config(path, dict(work_dir='mine')).work_dir == 'mine'
    (tmp_path / 'own.py').write_text('a = 1')
    assert load_config(str(tmp_path / 'own.py')).work_dir == 'work_dirs/own'


def test_a_child_that_names_ours_by_its_path_takes_overrides(tmp_path):
    (tmp_path / 'child.py').write_text(
        "_base_ = __import__('mmiformer').config_path("
        "'mask_rcnn/iformer_s_1x')\n")
    cfg = load_config(tmp_path / 'child.py', {
        'train_dataloader.dataset.pipeline.2.scale': (640, 640),
        'model.roi_head.bbox_head.num_classes': 3, 'load_from': 'a.pth',
        'find_unused_parameters': True, 'train_dataloader.batch_size': 4})
    assert cfg.train_dataloader.dataset.pipeline[2].scale == (640, 640)
    assert cfg.model.roi_head.bbox_head.num_classes == 3
    assert (cfg.load_from, cfg.find_unused_parameters) == ('a.pth', True)
    assert cfg.train_dataloader.batch_size == 4


OWN = """
classes, folder = ('a', 'b', 'c'), 'data/own/'
max_epochs = 12
pipeline = [dict(type='Resize', scale=8)]
data_preprocessor = dict(type='Pad', size=8)
"""
USE = """
model = dict(type='Net', num_classes=len({0}classes),
             data_preprocessor={0}data_preprocessor)
train_dataloader = dict(dataset=dict(
    ann_file={0}folder + 'a.json', pipeline={0}pipeline))
train_cfg = dict(max_epochs={0}max_epochs)
"""


@pytest.mark.parametrize('option, users', [
    ('classes', ()), ('max_epochs', ('train_cfg.max_epochs', )),
    ('folder', ()), ('pipeline.0.scale', ('train_dataloader.dataset.pipeline',
                                          )),
    ('data_preprocessor.size', ('model.data_preprocessor', ))])
@pytest.mark.parametrize('kind', ['one file', 'base uses', 'child uses'])
def test_variables_that_lines_have_used_are_refused(
        kind, option, users, tmp_path):
    (tmp_path / 'base.py').write_text(
        OWN + ('' if 'child' in kind else USE.format('')))
    (tmp_path / 'child.py').write_text("_base_ = ['./base.py']\n" + (
        USE.format('_base_.') if 'child' in kind else ''))
    path = tmp_path / ('base.py' if kind == 'one file' else 'child.py')
    with pytest.raises(ValueError) as error:
        load_config(path, {'model.num_classes': 3, option: 4})
    said = str(error.value)
    assert f'--cfg-options {option}: ' in said and str(path) in said
    assert find_keys(said) == users
    keys = {'train_cfg.max_epochs': 3, 'model.data_preprocessor.size': 4,
            'train_dataloader.dataset.pipeline.0.scale': 4}
    assert dict(walk(load_config(path, keys).to_dict())).items() >= keys.items()


def find_keys(message):
    """The keys that an error offers."""
    return tuple(filter(None, message.partition('do you mean ')[2].rstrip(
        '?').split(', ')))


def test_a_data_preprocessor_that_the_runner_hands_to_the_model(tmp_path):
    (tmp_path / 'own.py').write_text(
        "model, data_preprocessor = dict(type='Net'), dict(size=8)\n")
    cfg = load_config(tmp_path / 'own.py', {'data_preprocessor.size': 4})
    assert cfg.data_preprocessor.size == 4


def test_pure_python(tmp_path):
    (tmp_path / 'lazy.py').write_text(
        'from mmengine.config import read_base\n'
        'from mmengine.model import BaseModel\n'
        "root = 'a'\nmodel = dict(type=BaseModel, root=root)\n")
    cfg = load_config(tmp_path / 'lazy.py', {'model.root': 'b'})
    assert type_name(cfg.model) == 'BaseModel' and cfg.model.root == 'b'
    with pytest.raises(ValueError, match='root') as error:
        load_config(tmp_path / 'lazy.py', dict(root='b'))
    assert find_keys(str(error.value)) == ('model.root', )


@pytest.mark.parametrize('option, meant', [
    ('optim_wraper.x', ('optim_wrapper', )), ('frobnicate', ()),
    ('data_root', tuple(f'{split}_dataloader.dataset.data_root'
                        for split in ('train', 'val', 'test'))),
    ('data_rot', ('data_root', )), ('with_mask', (
        'train_dataloader.dataset.pipeline.1.with_mask',
        'val_dataloader.dataset.pipeline.2.with_mask',
        'test_dataloader.dataset.pipeline.2.with_mask'))])
def test_what_nothing_reads_is_refused(option, meant, configs):
    with pytest.raises(ValueError, match=f'--cfg-options {option}') as error:
        load_config(configs / 'mask_rcnn/iformer_s_1x.py', {option: 1})
    assert find_keys(str(error.value)) == meant
    with pytest.raises(ValueError, match='9'):  # an index past a list's end
        load_config(configs / 'mask_rcnn/iformer_s_1x.py',
                    {'train_dataloader.dataset.pipeline.9.scale': 4})


@pytest.mark.parametrize('path, near', [
    ('my/x.py', ''), ('gone', ''), ('configs/mask_rcn/iformer_s_1x.py', 's_1x'),
    ('iformer_s_1x', 's_1x'), ('mask_rcnn/iformer_xl_1x', 'l_1x')])
def test_a_path_that_does_not_exist(path, near):
    with pytest.raises(ValueError, match=f'no such file: {path!r}') as error:
        load_config(path)
    assert find_keys(str(error.value))[:1] == (
        (f'mask_rcnn/iformer_{near}.py', ) if near else ())


def test_every_hook_of_a_config_can_be_removed(configs):
    """mmengine takes None for its own alone."""
    cfg = load_config(
        configs / 'mask_rcnn/iformer_s_1x.py',
        {f'default_hooks.{name}': None
         for name in ('non_finite', 'backbone_weights', 'timer')})
    assert not {'non_finite', 'backbone_weights'} & cfg.default_hooks.keys()
    assert cfg.default_hooks.timer is None


def test_a_type_is_a_name_or_a_class():
    assert type_name(dict(type='mmdet.CocoDataset')) == 'CocoDataset'
    assert type_name(dict(type=argparse.Action)) == 'Action'
    assert type_name(None) == 'None'
    assert [as_list(value) for value in (None, {}, (1, 2))] == [
        [], [{}], [1, 2]]


def test_walks():
    cfg = Config(dict(
        model=dict(
            backbone=dict(init_cfg=dict(type='Pretrained', checkpoint='a')),
            heads=[dict(init_cfg=dict(type='Normal'))]),
        data=dict(type='RepeatDataset', dataset=dict(
            type='ConcatDataset', datasets=[dict(type='A'), dict(type='B')]))))
    assert find_pretrained(cfg) == [('model.backbone.init_cfg.checkpoint', 'a')]
    assert [*map(type_name, find_datasets(cfg.data))] == ['A', 'B']
    assert dict(walk(cfg.model))['heads.0.init_cfg.type'] == 'Normal'


def test_an_unwritable_file_is_refused_before_the_work(tmp_path):
    assert output_file(str(tmp_path / 'new/a.json')).parent.is_dir()
    (tmp_path / 'file').write_text('')
    for path in (tmp_path, tmp_path / 'file/a.json'):
        with pytest.raises(argparse.ArgumentTypeError, match=str(path)):
            output_file(str(path))
