"""What is missing is said at once, before anything long starts."""
import pytest
import torch
from mmengine.config import Config

from mmiformer import config as launch
from mmiformer.backbone import weights
from mmiformer.checks import check_start
from mmiformer.checks.preflight import check_files
from mmiformer.config import load_config


def test_coco_and_weights_are_named_with_their_source(offline, configs):
    cfg = load_config(str(configs / 'mask_rcnn/iformer_s_1x.py'))
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, ('train', 'val'))
    message = str(error.value)
    for path in ('data/coco/annotations/instances_train2017.json',
                 'data/coco/train2017', 'data/coco/val2017',
                 'data/coco/annotations/instances_val2017.json'):
        assert path in message
    assert 'https://cocodataset.org/#download, unpacked in data/coco/' in (
        message)
    assert 'iformer_small.pth cannot be downloaded (no network)' in message
    assert str(weights.cache_path('iformer_small.pth')) in message
    assert 'model.backbone.init_cfg.checkpoint' in message


def test_ade20k_is_named_with_its_source(offline, configs):
    cfg = load_config(str(configs / 'fpn_ade20k/iformer_s_80k.py'))
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, ('test', ))
    message = str(error.value)
    assert 'data/ade/ADEChallengeData2016/images/validation' in message
    assert 'ADEChallengeData2016.zip' in message
    assert 'images/training' not in message  # a test does not read it
    assert 'iformer_small' not in message


def test_complete_data_passes(offline):
    (offline / 'images').mkdir()
    (offline / 'a.json').write_text('{}')
    torch.save(dict(a=torch.ones(2)), offline / 'w.pth')
    dataset = dict(type='CocoDataset', data_root=str(offline),
                   ann_file='a.json', data_prefix=dict(img='images/'))
    cfg = Config(dict(
        train_dataloader=dict(dataset=dict(
            type='RepeatDataset', times=2, dataset=dataset)),
        val_evaluator=dict(ann_file=str(offline / 'a.json')),
        load_from=str(offline / 'w.pth'),
        model=dict(backbone=dict(init_cfg=[dict(
            type='Pretrained', checkpoint=str(offline / 'w.pth'))]))))
    check_files(cfg, ('train', 'val'))
    (offline / 'a.json').unlink()
    with pytest.raises(FileNotFoundError) as error:
        check_files(cfg, ('train', 'val'))
    assert str(error.value).count('a.json') == 2
    (offline / 'w.pth').write_bytes(b'half a file')
    with pytest.raises(FileNotFoundError, match='w.pth is damaged.*load_from'):
        check_files(cfg, ('train', 'val'))
    (offline / 'w.pth').unlink()
    with pytest.raises(FileNotFoundError, match='w.pth .load_from'):
        check_files(cfg, ('train', 'val'))


def test_released_weights_are_checked_by_name(offline, monkeypatch):
    cfg = Config(dict(load_from='mmiformer://iformer_base', model=dict(
        init_cfg=dict(type='Pretrained', checkpoint='mmiformer://iformer'))))
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(offline))
    with pytest.raises(FileNotFoundError) as error:
        check_files(cfg, ('train', ))
    message = str(error.value)
    assert f'there is no {offline}/iformer_base.pth: download' in message
    assert ('mmiformer://iformer: there are no such weights; choose from '
            'mmiformer://iformer_small, ') in message
    assert '(load_from)' in message
    assert '(model.init_cfg.checkpoint)' in message
    torch.save(dict(a=torch.ones(2)), offline / 'iformer_base.pth')
    cfg.model.init_cfg.checkpoint = cfg.load_from
    check_files(cfg, ('train', ))
    monkeypatch.setitem(weights.SHA256, 'iformer_base', 'another')
    with pytest.raises(FileNotFoundError, match='instead of another'):
        check_files(cfg, ('train', ))


def test_remote_data_is_left_to_its_backend(offline):
    check_files(Config(dict(model={}, train_dataloader=dict(dataset=dict(
        type='CocoDataset', data_root='s3://bucket/coco/',
        ann_file='a.json')))), ('train', ))


def test_only_the_first_process_speaks(offline, configs, monkeypatch):
    """The others end with it, silently, as soon as it has spoken."""
    cfg = load_config(str(configs / 'mask_rcnn/iformer_s_1x.py'))
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, ('train', ))
    monkeypatch.setattr(launch, 'is_main_process', lambda: False)
    said = str(error.value)
    monkeypatch.setattr(launch, 'broadcast_object_list',
                        lambda faults: faults.__setitem__(0, said))
    with pytest.raises(SystemExit) as end:
        check_start(cfg, ('train', ))
    assert end.value.code == 1
    said = ''
    check_start(cfg, ('train', ))


def test_work_dir(configs, tmp_path):
    cfg = str(configs / 'mask_rcnn/iformer_s_1x.py')
    assert load_config(cfg).work_dir == 'work_dirs/mask_rcnn/iformer_s_1x'
    assert load_config(cfg, work_dir='out').work_dir == 'out'
    assert load_config(cfg, dict(work_dir='mine')).work_dir == 'mine'
    (tmp_path / 'own.py').write_text('a = 1')
    assert load_config(str(tmp_path / 'own.py')).work_dir == 'work_dirs/own'
