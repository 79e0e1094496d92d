"""The start stops at what fails for certain, and logs the rest."""
import os
from unittest import mock

import damages as d
import pytest
import torch
from mmengine.config import Config

from mmiformer.config import load_config
from mmiformer.kit.checks import check_start, start

BOTH = ('train', 'val')


def test_what_is_missing_is_named(offline, configs):
    cfg = load_config(str(configs / 'mask_rcnn/iformer_s_1x.py'))
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, BOTH)
    message = str(error.value)
    for path in ('data/coco/annotations/instances_train2017.json '
                 '(train_dataloader.dataset.ann_file)',
                 'data/coco/train2017', 'data/coco/val2017',
                 'data/coco/annotations/instances_val2017.json '
                 '(val_evaluator.ann_file)',
                 'iformer_small', '(model.backbone.init_cfg.checkpoint)'):
        assert path in message
    cfg = load_config(str(configs / 'fpn_ade20k/iformer_s_80k.py'))
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, ('test', ))
    message = str(error.value)
    assert 'data/ade/ADEChallengeData2016/images/validation' in message
    assert 'images/training' not in message  # a test does not read it
    assert 'iformer_small' not in message  # nor does it initialize the model


@pytest.mark.parametrize('text', ['', '[', '[' * 10**5, '[]', '\x00\xff'])
def test_an_annotation_file_that_is_no_json_stops(text, bases, root):
    path = root / 'annotations/instances_validation.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=str(path)):
        check_start(d.configure(bases('coco'), root), BOTH)


def test_weights(offline, monkeypatch):
    """By path, and released ones by name."""
    cfg = Config(dict(load_from=str(offline / 'w.pth'), model=dict(
        init_cfg=dict(type='Pretrained', checkpoint='mmiformer://iformer'))))
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, ('train', ))
    assert f'{offline}/w.pth (load_from)' in str(error.value)
    assert '(model.init_cfg.checkpoint)' in str(error.value)
    assert 'mmiformer://iformer: ' in str(error.value)
    for choice in ('iformer_small', 'iformer_large_384'):
        assert choice in str(error.value)
    with pytest.raises(FileNotFoundError) as error:
        check_start(cfg, ('test', ))
    assert 'init_cfg' not in str(error.value)
    torch.save(dict(a=torch.ones(2)), offline / 'w.pth')
    check_start(cfg, ('test', ))
    torch.save(dict(a=torch.ones(2)), offline / 'iformer_base.pth')
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(offline))
    cfg.model.init_cfg.checkpoint = 'mmiformer://iformer_base'
    check_start(cfg, ('train', ))
    cfg.load_from = 'https://server/w.pth'  # left to who loads it
    check_start(cfg, ('train', ))


@pytest.mark.parametrize('family, name, damage', [
    ('coco', d.IMAGE, d.truncate), ('seg', d.LABELS, os.remove),
    ('cls', d.CROP, None)])
def test_all_else_is_logged(family, name, damage, bases, root, log):
    cfg = d.configure(bases(family), root)
    if damage:
        damage(root / name)
    check_start(cfg, BOTH)
    lines = [line for line in log if 'mmiformer check' in line]
    assert len(lines) == bool(damage)
    for line in lines:
        assert 'train: 1 of 6 samples: ' in line and '--no-check' in line
        assert str(root / d.IMAGE) in line


def test_a_start_reads_a_handful(bases, root, log):
    cfg = d.configure(bases('coco'), root)
    os.remove(root / d.IMAGE)
    with mock.patch.object(start, 'SAMPLE', 2):
        check_start(cfg, ('train', ))
    assert '1 of 2 samples' in log[-1]


def test_large_annotation_files_are_not_opened(bases, root, log):
    path = root / 'annotations/instances_training.json'
    os.truncate(path, 100_000_001)
    check_start(d.configure(bases('coco'), root), ('train', ))
    assert f'{path}: 100 MB are not checked' in log[-1]


def test_a_check_that_fails_is_logged(bases, root, log):
    with mock.patch.object(start, 'check_data', side_effect=MemoryError):
        check_start(d.configure(bases('coco'), root), BOTH)
    assert 'MemoryError' in log[-1]
