"""Settings that do not agree are named, and those of the frameworks do."""
import importlib
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, needs_version
from mmengine.config import Config
from mmengine.registry import DATASETS

from mmiformer.config import find_datasets
from mmiformer.kit.checks import check_settings
from mmiformer.kit.checks.settings import check_classes, find_heads

COSINE = dict(type='CosineAnnealingLR', begin=0)
WARM_UP = dict(type='LinearLR', start_factor=.1, by_epoch=False, end=500)
SEG_80K, COCO_1X = 'fpn_ade20k/iformer_s_80k.py', 'mask_rcnn/iformer_s_1x.py'
CUSTOM = 'mask_rcnn/iformer_s_custom.py'
IMAGENET = 'imagenet/iformer_s_300e.py'
SPLITS = ('train', 'val', 'test')
CASES = [  # (file, change, level, words)
    # Length and schedule.
    (COCO_1X, {'train_cfg.max_epochs': 6}, 'note',
     ['param_scheduler[1] (MultiStepLR): milestones until 11']),
    (COCO_1X, {'param_scheduler': [dict(WARM_UP, end=9700)]}, 'note',
     ['param_scheduler[0] (LinearLR): end=9700', '9600 iterations']),
    (SEG_80K, {'train_cfg.max_iters': 1000}, 'note',
     ['end=80000', 'train_cfg.max_iters=1000']),
    (SEG_80K, {'param_scheduler': dict(COSINE, T_max=80000)}, 'error',
     ['param_scheduler[0] (CosineAnnealingLR): by_epoch=True']),
    (COCO_1X, {'param_scheduler': dict(COSINE, T_max=10, end=12)}, 'note',
     ['T_max=10, begin=0, end=12']),
    # Loop and sampler.
    (COCO_1X, {'train_dataloader.sampler.type': 'InfiniteSampler'}, 'error',
     ['train_dataloader.sampler is InfiniteSampler']),
    # A type over another one without _delete_.
    (COCO_1X, {'train_dataloader.dataset': dict(
        type='RepeatDataset', times=2, dataset=dict(type='CocoDataset'))},
     'error', ['train_dataloader.dataset.data_root: RepeatDataset']),
    (COCO_1X, {'optim_wrapper.optimizer.type': 'SGD'}, 'error',
     ['optim_wrapper.optimizer.betas: SGD']),
    (COCO_1X, {'train_cfg': dict(type='IterBasedTrainLoop', max_iters=9)},
     'error', ['train_cfg.max_epochs: IterBasedTrainLoop']),
    (COCO_1X, {'model.backbone.depth': 50}, 'error',
     ['model.backbone.depth: IFormer']),
    (COCO_1X, {'model.neck.dropout': .1}, 'error',
     ['model.neck.dropout: FPN']),
    # Channels, and what the backbone itself refuses.
    (COCO_1X, {'model.backbone.arch': 'base'}, 'error',
     ['model.neck.in_channels=[96, 192, 320, 384]', '[96, 192, 384, 512]']),
    (COCO_1X, {'model.backbone.arch': 'huge'}, 'error',
     ['model.backbone', 'huge', 'small']),
    (COCO_1X, {'model.rpn_head.in_channels': 128}, 'error',
     ['model.rpn_head.in_channels=128, the neck gives 256']),
    (IMAGENET, {'model.neck': None, 'model.head.in_channels': 512}, 'error',
     ['model.head.in_channels=512, the backbone gives [384]']),
    (COCO_1X, {'model.neck': None}, 'error',
     ['model.rpn_head.in_channels=256, the backbone gives [96, 192']),
    (IMAGENET, {'model.head.in_channels': 512}, 'error',
     ['model.head.in_channels=512, the backbone gives [384]']),
    ('upernet_ade20k/iformer_s_160k.py', {
        'model.auxiliary_head.in_index': 1}, 'error',
     ['model.auxiliary_head.in_channels=320', '[96, 192, 320, 384]']),
    # Head and loss, and the best checkpoint.
    (SEG_80K, {'model.decode_head.num_classes': 1}, 'error',
     ['model.decode_head.num_classes=1']),
    (SEG_80K, {'default_hooks.checkpoint.save_best': 'seg/mIoU'}, 'error',
     ['save_best=seg/mIoU', 'mIoU']),
    (CUSTOM, {'default_hooks.checkpoint.save_best': 'bbox_mAP'}, 'error',
     ['save_best=bbox_mAP', 'coco/...']),
    (CUSTOM, {'val_evaluator.metric': 'segm'}, 'error',
     ['save_best=coco/bbox_mAP', 'segm']),
]


def find(cfg):
    return check_settings(cfg, SPLITS, 1600)  # 9600 iterations, of 12 epochs


@pytest.mark.parametrize('file, change, level, words', CASES)
def test_settings_that_disagree(file, change, level, words, configs):
    cfg = Config.fromfile(str(configs / file))
    assert find(cfg) == []
    schedules = change.get('param_scheduler', cfg.param_scheduler)
    cfg.merge_from_dict(dict(change, param_scheduler=[]))
    cfg.param_scheduler = schedules
    assert any(found.level == level and all(
        word in found.text for word in words) for found in find(cfg))


def test_what_is_right(configs):
    """One class by a sigmoid, and a schedule that mmengine converts."""
    cfg = Config.fromfile(str(configs / SEG_80K))
    cfg.model.decode_head.update(num_classes=1, loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=True))
    cfg.param_scheduler = dict(COSINE, T_max=9, convert_to_iter_based=True)
    assert find(cfg) == []


@pytest.mark.parametrize('file', sorted(
    str(path.relative_to(ROOT)) for path in ROOT.glob('configs/*/*.py')
    if path.parent.name != '_base_'))
def test_own_configs_agree(file):
    assert check_settings(Config.fromfile(str(ROOT / file)), SPLITS) == []


def find_classes(cfg):
    """The classes of each data set of training that is checked."""
    loader = cfg.get('train_dataloader') or {}
    for dataset in find_datasets(loader['dataset']) if loader else ():
        with DATASETS.switch_scope_and_registry(cfg.default_scope) as registry:
            kind = registry.get(dataset.type)
        if 'Panoptic' in kind.__name__:  # reads in its own way
            continue
        yield (dataset.get('metainfo') or {}).get('classes') or (
            kind.METAINFO.get('classes'))


# Heads with 256 outputs, with one for all classes, with boxes or masks that
# are class-agnostic, with edges.
UNLIKE_HEADS = dict(
    mmdet=['grounding_dino/grounding_dino_swin-t_finetune_8xb2_20e_cat',
           'mm_grounding_dino/rtts/'
           'grounding_dino_swin-t_finetune_8xb4_1x_rtts',
           'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
           'solo/solo_r50_fpn_1x_coco', 'rpn/rpn_r50_fpn_1x_coco'],
    mmseg=['stdc/stdc1_4xb12-80k_cityscapes-512x1024',
           'point_rend/pointrend_r50_4xb2-80k_cityscapes-512x1024'])


@needs_version('mmdet', '3.3')
@pytest.mark.parametrize('package', UNLIKE_HEADS)
def test_configs_of_the_frameworks_have_no_error(package):
    """20 at random, and those whose heads are unlike their classes."""
    root = Path(importlib.import_module(package).__file__).parent
    root /= '.mim/configs'
    files = sorted(path for path in root.rglob('*.py')
                   if not {'_base_', 'common'} & {*path.parts})
    special = [root / f'{name}.py' for name in UNLIKE_HEADS[package]]
    numbers = set()
    for path in [*special, *random.Random(0).sample(files, 20)]:
        cfg = Config.fromfile(path)
        found = check_settings(cfg, SPLITS)
        for classes in find_classes(cfg):
            found += check_classes(cfg, 'train', SimpleNamespace(
                metainfo=dict(classes=classes)))
        numbers |= {head['num_classes'] for head in find_heads(cfg).values()}
        assert [one for one in found if one.level == 'error'] == [], path
    assert package == 'mmseg' or 256 in numbers
