"""Settings that do not agree are named, and those of the frameworks do."""
import importlib
import random
from contextlib import nullcontext
from pathlib import Path

import cv2
import damages as d
import numpy as np
import pytest
import torch
from conftest import needs_version
from mmengine.config import Config
from mmengine.optim import OneCycleLR, PolyLR
from mmengine.registry import DATASETS
from mmseg.models import SegDataPreProcessor
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from mmiformer.config import find_datasets
from mmiformer.kit.checks import BRIEF, CheckContext, check_data, kinds
from mmiformer.kit.checks.settings import (
    check_heads,
    check_settings,
    find_heads,
)

COSINE = dict(type='CosineAnnealingLR', begin=0)
SEG_80K, COCO_1X = 'fpn_ade20k/iformer_s_80k.py', 'mask_rcnn/iformer_s_1x.py'
IMAGENET = 'imagenet/iformer_s_300e.py'
CASES = [
    # Length and schedule.
    (COCO_1X, {'train_cfg.max_epochs': 36}, kinds.SCHEDULE_SHORT,
     'param_scheduler[1] (MultiStepLR): end=12, train_cfg.max_epochs=36'),
    (COCO_1X, {'train_cfg.max_epochs': 6}, kinds.SCHEDULE_LONG,
     'param_scheduler[1] (MultiStepLR): end=12, train_cfg.max_epochs=6'),
    (COCO_1X, {'param_scheduler': dict(type='MultiStepLR',
                                       milestones=[8, 12])},
     kinds.SCHEDULE_LONG, 'param_scheduler[0] (MultiStepLR): milestones until '
     '12, train_cfg.max_epochs=12'),
    (SEG_80K, {'train_cfg.max_iters': 1000}, kinds.SCHEDULE_LONG,
     'end=80000, train_cfg.max_iters=1000'),
    (SEG_80K, {'train_cfg.max_iters': 160000}, kinds.SCHEDULE_SHORT,
     'end=80000, train_cfg.max_iters=160000'),
    (SEG_80K, {'param_scheduler': [dict(
        type='PolyLR', by_epoch=False, begin=1500, end=1000)]},
     kinds.SCHEDULE_EMPTY, 'param_scheduler[0] (PolyLR): begin=1500, '
     'end=1000, train_cfg.max_iters=80000'),
    (SEG_80K, {'param_scheduler': dict(COSINE, T_max=80000)},
     kinds.SCHEDULE_STILL, 'param_scheduler[0] (CosineAnnealingLR): '
     'by_epoch=True, train_cfg.max_iters=80000'),
    (SEG_80K, {'param_scheduler': dict(
        type='OneCycleLR', by_epoch=False, total_steps=1000)},
     kinds.SCHEDULE_STEPS, 'param_scheduler[0] (OneCycleLR): '
     'total_steps=1000, train_cfg.max_iters=80000'),
    (COCO_1X, {'param_scheduler': dict(COSINE, T_max=10, end=12)},
     kinds.COSINE, 'param_scheduler[0] (CosineAnnealingLR): T_max=10, '
     'begin=0, end=12, train_cfg.max_epochs=12'),
    # Loop and sampler.
    (COCO_1X, {'train_dataloader.sampler.type': 'InfiniteSampler'},
     kinds.ENDLESS_EPOCH, 'train_dataloader.sampler is InfiniteSampler, '
     'train_cfg.max_epochs=12'),
    (SEG_80K, {'train_dataloader.sampler.type': 'DefaultSampler'},
     kinds.RESTARTED, 'train_dataloader.sampler is DefaultSampler, '
     'train_cfg.max_iters=80000'),
    # Loader and workers.
    (COCO_1X, {'val_dataloader.num_workers': 0}, kinds.NO_WORKERS,
     'val_dataloader.persistent_workers=True'),
    (COCO_1X, {'train_dataloader': dict(
        num_workers=0, persistent_workers=False, prefetch_factor=2)},
     kinds.NO_WORKERS, 'train_dataloader.prefetch_factor=2'),
    # A type over another one without _delete_.
    (COCO_1X, {'train_dataloader.dataset': dict(
        type='RepeatDataset', times=2, dataset=dict(type='CocoDataset'))},
     kinds.LEFT_OVER, 'train_dataloader.dataset.data_root: RepeatDataset has '
     'no such argument'),
    # That of mmengine alone takes any arguments.
    pytest.param(COCO_1X, {'train_dataloader.dataset': dict(
        type='ConcatDataset', datasets=[dict(type='CocoDataset')])},
        kinds.LEFT_OVER, 'train_dataloader.dataset.ann_file: ConcatDataset '
        'has no such argument', marks=needs_version('mmdet', '3.1')),
    (COCO_1X, {'optim_wrapper.optimizer.type': 'SGD'}, kinds.LEFT_OVER,
     'optim_wrapper.optimizer.betas: SGD has no such argument'),
    (COCO_1X, {'train_cfg': dict(type='IterBasedTrainLoop', max_iters=9)},
     kinds.LEFT_OVER, 'train_cfg.max_epochs: IterBasedTrainLoop has no such '
     'argument'),
    # Images to a batch.
    (SEG_80K, {'model.data_preprocessor.size': None}, kinds.PADDED_TO,
     'model.data_preprocessor.size=None, model.data_preprocessor.'
     'size_divisor=None'),
    (SEG_80K, {'model.data_preprocessor.size_divisor': 32}, kinds.PADDED_TO,
     'model.data_preprocessor.size=(512, 512), model.data_preprocessor.'
     'size_divisor=32'),
    # Head and loss, mixing, metric.
    (SEG_80K, {'model.decode_head.num_classes': 1}, kinds.ONE_CLASS,
     'model.decode_head.num_classes=1'),
    (IMAGENET, {'model.head.num_classes': 10}, kinds.MIXED,
     'model.data_preprocessor.num_classes=1000, model.head.num_classes=10'),
    (IMAGENET, {'model.head.num_classes': 3}, kinds.TOP_K,
     'val_evaluator.topk=5, model.head.num_classes=3'),
]


def find(cfg):
    context = CheckContext()
    check_settings(cfg, ('train', 'val', 'test'), context)
    return context.report.faults


@pytest.mark.parametrize('file, change, kind, text', CASES)
def test_settings_that_disagree(file, change, kind, text, configs):
    cfg = Config.fromfile(str(configs / file))
    assert kind not in find(cfg)
    schedules = change.get('param_scheduler', cfg.param_scheduler)
    cfg.merge_from_dict(dict(change, param_scheduler=[]))
    cfg.param_scheduler = schedules
    assert any(name.endswith(text) for name in find(cfg)[kind])


def test_one_class_by_a_sigmoid(configs):
    cfg = Config.fromfile(str(configs / SEG_80K))
    cfg.model.decode_head.update(num_classes=1, loss_decode=dict(
        type='CrossEntropyLoss', use_sigmoid=True))
    assert find(cfg) == {}


def test_schedules_by_epoch_that_mmengine_converts(configs):
    cfg = Config.fromfile(str(configs / SEG_80K))
    cfg.param_scheduler = dict(COSINE, T_max=9, convert_to_iter_based=True)
    assert find(cfg) == {}


def test_what_is_called_an_error_is_one():
    optimizer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=1.)
    with pytest.raises(ValueError, match='end should be larger'):
        PolyLR(optimizer, begin=1500, end=1000)
    schedule = OneCycleLR(optimizer, eta_max=1., total_steps=2)
    with pytest.raises(ValueError, match='total'):
        for _ in range(3):
            schedule.step()
    for name, value in (('persistent_workers', True), ('prefetch_factor', 2)):
        with pytest.raises(ValueError, match=name):
            DataLoader([1], num_workers=0, **{name: value})


@pytest.mark.parametrize('file', sorted(
    str(path.relative_to(Path(__file__).parents[2])) for path in
    Path(__file__).parents[2].glob('configs/*/*.py')
    if path.parent.name != '_base_'))
def test_own_configs_agree(file):
    assert find(Config.fromfile(Path(__file__).parents[2] / file)) == {}


@pytest.mark.parametrize('brief', [{}, BRIEF], ids=['all', 'brief'])
def test_reduce_zero_label_of_the_pipeline(brief, bases, shapes):
    cfg = d.configure(bases('seg'), shapes)
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = False
    assert check_data(cfg, ('train', 'val'), CheckContext(**brief)).faults == {
        kinds.REDUCED_ONCE: ['train: the pipeline has False, the data set '
                             'True']}


def test_evaluators_of_other_annotations(bases, root):
    """Another file of the same content is no fault."""
    cfg = d.configure(bases('coco'), root)
    own = root / 'annotations/instances_validation.json'
    copy = root / 'copy.json'
    copy.write_bytes(own.read_bytes())
    cfg.val_evaluator.ann_file = str(copy)
    assert check_data(cfg, ('val', )).faults == {}
    other = str(root / 'annotations/instances_training.json')
    cfg.val_evaluator.ann_file = other
    assert check_data(cfg, ('val', )).faults == {kinds.OTHER_ANNOTATIONS: [
        f'{other} (val_evaluator.ann_file), val reads {own}']}


RESIZE = dict(type='Resize', scale=(64, 64), keep_ratio=True)


@pytest.mark.parametrize('family, split, steps, batch, shape, found', [
    ('seg', 'val', [RESIZE], 2, (64, 32), True),
    ('seg', 'val', [RESIZE], 1, (64, 32), False),
    ('seg', 'val', [RESIZE], 2, (128, 128), False),
    ('seg', 'val', [], 2, (128, 128), True),
    ('seg', 'val', [dict(RESIZE, keep_ratio=False)], 2, (64, 32), False),
    ('seg', 'train', [], 2, (64, 32), False),
    ('seg', 'train', [], 2, (64, 200), True),
    ('seg', 'train', [], 1, (64, 200), False),
    ('seg', 'train', [dict(type='RandomCrop', crop_size=(64, 64))], 2,
     (64, 200), False),
    ('cls', 'train', [dict(type='ResizeEdge', scale=9)], 2, (64, 32), True),
    ('cls', 'train', [dict(type='ResizeEdge', scale=9), dict(
        type='CenterCrop', crop_size=9)], 2, (64, 32), False)])
def test_images_of_several_shapes(
        family, split, steps, batch, shape, found, bases, root):
    name = 'training' if split == 'train' else 'validation'
    path = next(root.glob(f'images/{name}/*' if family == 'seg' else
                          f'crops/{name}/circle/*'))
    if family == 'cls':  # crops of several sizes
        for other in root.glob('crops/*/*/*'):
            cv2.imwrite(str(other), np.zeros((64, 64, 3), np.uint8))
    else:
        labels = root / f'annotations/{name}/{path.stem}.png'
        cv2.imwrite(str(labels), np.ones(shape, np.uint8))
    cv2.imwrite(str(path), np.zeros((*shape, 3), np.uint8))
    cfg = d.configure(bases(family), root)
    loader = cfg[f'{split}_dataloader']
    loader.batch_size = batch
    if family == 'cls':
        loader.collate_fn = dict(type='default_collate')
    loader.dataset.pipeline[-len(loader.dataset.pipeline) + 1:-1] = steps
    faults = check_data(cfg, (split, )).faults
    sides = sorted([(64, 64), shape])
    assert faults.get(kinds.UNBATCHABLE) == ([
        f'{split}: {sides[0][1]}x{sides[0][0]} and {sides[1][1]}x'
        f'{sides[1][0]}, {split}_dataloader.batch_size=2'] if found else None)


@needs_version('mmseg', '1.1.1')
@pytest.mark.parametrize('prepared, found', [
    (dict(size=(128, 128)), True), (dict(size=(128, 200)), False),
    (dict(size=None, size_divisor=32), False)])
def test_what_is_padded_is_a_batch(prepared, found, bases, root):
    """As mmseg's own data preprocessor finds it."""
    path = next(root.glob('images/training/*'))
    cv2.imwrite(str(path), np.zeros((64, 200, 3), np.uint8))
    cv2.imwrite(str(root / f'annotations/training/{path.stem}.png'),
                np.ones((64, 200), np.uint8))
    cfg = d.configure(bases('seg'), root)
    cfg.model.data_preprocessor.update(prepared)
    assert [*check_data(cfg, ('train', )).faults] == (
        [kinds.UNBATCHABLE] if found else [])
    with pytest.raises(RuntimeError) if found else nullcontext():
        settings = dict(cfg.model.data_preprocessor)
        settings.pop('type')
        SegDataPreProcessor(**settings)(dict(
            inputs=[torch.zeros(3, 64, width) for width in (64, 200)],
            data_samples=[SegDataSample() for _ in range(2)]), training=True)


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
        cfg, context = Config.fromfile(path), CheckContext()
        check_settings(cfg, ('train', 'val', 'test'), context)
        for classes in find_classes(cfg):
            check_heads(find_heads(cfg), 'train', classes, context)
        numbers |= {*find_heads(cfg).values()}
        assert context.report.errors == 0, f'{path}\n{context.report}'
    assert package == 'mmseg' or 256 in numbers
