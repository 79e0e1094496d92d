"""Reading, overriding and walking configs."""
import argparse
import logging
import os

import pytest
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

from mmiformer import overrides
from mmiformer.config import (
    as_list,
    find_datasets,
    find_pretrained,
    load_config,
    output_file,
    type_name,
    walk,
)
from mmiformer.overrides import takes


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


OWN = """
classes, folder = ('a', 'b', 'c'), 'data/own/'
max_epochs = 12
pipeline = [dict(type='Resize', scale=8)]
"""
USE = """
model = dict(type='Net', num_classes=len({0}classes))
train_dataloader = dict(dataset=dict(
    ann_file={0}folder + 'a.json', pipeline={0}pipeline))
train_cfg = dict(max_epochs={0}max_epochs)
test_dataloader = train_dataloader
"""


@pytest.fixture(params=['one file', 'base uses', 'child uses'])
def own(request, tmp_path):
    """A config that is made of its own variables."""
    (tmp_path / 'base.py').write_text(
        OWN + ('' if 'child' in request.param else USE.format('')))
    (tmp_path / 'child.py').write_text("_base_ = ['./base.py']\n" + (
        USE.format('_base_.') if 'child' in request.param else ''))
    return tmp_path / (
        'base.py' if request.param == 'one file' else 'child.py')


def test_variables_are_overridden_before_they_are_used(own):
    cfg = load_config(own, {
        'classes': 'one', 'folder': 'data/mine', 'max_epochs': 3,
        'pipeline.0.scale': 4, 'train_cfg.val_interval': 2,
        'train_dataloader.batch_size': 4})
    assert cfg.classes == ('one', ) and cfg.model.num_classes == 1
    dataset = cfg.train_dataloader.dataset
    assert dataset.ann_file == 'data/mine/a.json'
    assert dataset.pipeline == [dict(type='Resize', scale=4)]
    assert cfg.train_cfg == dict(max_epochs=3, val_interval=2)
    assert cfg.filename == str(own)
    # As ever: a setting is set where it is named, and nowhere else.
    assert cfg.train_dataloader.batch_size == 4
    assert 'batch_size' not in cfg.test_dataloader
    assert load_config(own, {'classes': ['p', 'q']}).model.num_classes == 2


def test_variables_of_a_framework_s_base(configs):
    path = configs / 'mask_rcnn/iformer_s_1x.py'
    before, cfg = load_config(path), load_config(path, dict(data_root='mine'))
    assert before.data_root == 'data/coco/'
    assert cfg.test_dataloader.dataset.data_root == 'mine/'
    assert cfg.val_evaluator.ann_file == (
        'mine/annotations/instances_val2017.json')
    assert cfg.model.backbone == before.model.backbone


@pytest.mark.parametrize('name', [
    'mask_rcnn/iformer_s_custom.py', 'faster_rcnn/iformer_s_custom.py'])
def test_the_templates_variables(name, configs):
    cfg = load_config(configs / name, dict(
        classes=['a', 'b', 'c'], data_root='mine', max_epochs=24))
    assert cfg.model.roi_head.bbox_head.num_classes == 3
    assert cfg.test_evaluator.ann_file == 'mine/annotations/val.json'
    assert cfg.train_cfg.max_epochs == cfg.param_scheduler[1].end == 24


def test_variables_that_cannot_be_overridden(tmp_path):
    (tmp_path / 'lazy.py').write_text(
        'from mmengine.config import read_base\n'
        'from mmengine.model import BaseModel\n'
        "root = 'a'\nmodel = dict(type=BaseModel, root=root)\n")
    with pytest.raises(ValueError, match='root.*child config'):
        load_config(tmp_path / 'lazy.py', dict(root='b'))
    (tmp_path / 'own.py').write_text(OWN + USE.format(''))
    with pytest.raises(ValueError, match='pipeline.*9'):
        load_config(tmp_path / 'own.py', {'pipeline.9.scale': 4})
    with pytest.raises(ValueError, match='9'):
        load_config(tmp_path / 'own.py',
                    {'train_dataloader.dataset.pipeline.9.scale': 4})


def test_overrides_that_reach_nothing(configs, monkeypatch):
    said = []
    monkeypatch.setattr(
        overrides, 'print_log', lambda text, logger, level: said.append(
            (text, level)))
    path = configs / 'mask_rcnn/iformer_s_1x.py'
    with pytest.raises(ValueError, match='optim_wraper.*optim_wrapper'):
        load_config(path, {'optim_wraper.x': 1})
    load_config(path, {
        'model.backbone.with_cp': True, 'find_unused_parameters': True,
        'resume': True, 'train_dataloader.dataset.pipeline.0.type': 'A'})
    assert not said
    load_config(path, {'model.backbon.with_cp': True})
    load_config(path, {'frobnicate': 1})
    (near, level), (none, _) = said
    assert 'model.backbone?' in near and 'no frobnicate' in none
    assert level == logging.WARNING


AMP = {'optim_wrapper.type': 'AmpOptimWrapper'}


@pytest.mark.parametrize('options, meant', [
    ({**AMP, 'optim_wrapper.dtype': 'bfloat16'}, None),
    ({'optim_wrapper.dtype': 'bfloat16'}, 'optim_wrapper.type'),
    ({**AMP, 'optim_wrapper.optimiser.lr': 1}, 'optim_wrapper.optimizer'),
    ({'model.backbone.arches': 'base'}, 'model.backbone.arch'),
    ({'model.backbone.type': 'mmiformer.Nobody', 'model.backbone.arches': 1},
     'model.backbone.arch')])
def test_new_arguments_of_a_type_are_not_misspelt(
        options, meant, configs, monkeypatch):
    said = []
    monkeypatch.setattr(overrides, 'print_log',
                        lambda text, **_: said.append(text))
    load_config(configs / 'mask_rcnn/iformer_s_1x.py', options)
    assert [text.partition('; is it ')[2] for text in said] == (
        [f'{meant}?'] if meant else [])


def test_what_a_class_takes():
    """Also what it passes on, and no more than its bases take."""
    class Base:
        def __init__(self, seen):
            pass

    class Passing(Base):
        def __init__(self, own, **kwargs):
            super().__init__(**kwargs)

    class Same(Passing):
        pass

    class Closed(Base):
        def __init__(self, own):
            super().__init__(own)

    found = {kind.__name__: [takes(kind, name, None)
                             for name in ('own', 'seen', 'unseen')]
             for kind in (Base, Passing, Same, Closed)}
    assert found == dict(
        Base=[False, True, False], Passing=[True, True, False],
        Same=[True, True, False], Closed=[True, False, False])
    assert takes(load_config, 'cfg_options', None)
    assert not takes(load_config, 'options', None)


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
