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
