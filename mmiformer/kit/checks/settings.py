"""Checks settings that have to agree: those of a config with each other,
then with the data."""
import inspect
import math
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from mmengine.config import Config
from mmengine.registry import DATA_SAMPLERS, DATASETS, LOOPS, OPTIMIZERS

from ...config import as_list, type_name, walk
from . import kinds
from .context import CheckContext, CheckResult
from .files import Size, find_same, times

# Modules whose num_classes is not the data's: RPN tells objects from
# background, HTC's semantic head has classes of its own.
OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')
OTHER_TYPES = ('STDCHead', )  # of mmseg: tells edges from the rest

# Steps of a pipeline that leave images of several shapes as they are; of
# another one nobody knows.
KEEP_SHAPE = (
    'LoadImageFromFile', 'LoadAnnotations', 'RandomFlip', 'ColorJitter',
    'PhotoMetricDistortion', 'Normalize', 'PackInputs', 'PackSegInputs')
KEEP_RATIO = ('Resize', 'ResizeEdge', 'ResizeToMultiple')  # at most that
# Recipes end with some epochs at the lowest learning rate on purpose, and
# schedules last a bit longer or shorter than their cosine.
COOL_DOWN, CLOSE = 1 / 3, .1
WARM_UPS = ('LinearLR', 'ConstantLR')
Found = Iterator[Tuple[kinds.Kind, str]]


def check_settings(cfg: Config, splits: Sequence[str], context: CheckContext
                   ) -> None:
    """Compares the settings of a config that need no data for it.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: The data loaders that will be used.
        context: Where the faults go.
    """
    found = [*_check_types(cfg, splits), *_check_workers(cfg, splits),
             *_check_outputs(cfg, splits)]
    if 'train' in splits:
        found += [*_check_loop(cfg), *_check_mixing(cfg), *_check_padding(cfg)]
    for kind, text in found:
        context.add(kind, text)


def _check_types(cfg: Config, splits: Sequence[str]) -> Found:
    """What another type has left over from a base config."""
    nodes: List[tuple] = []
    for split in splits:
        nodes.append((LOOPS, f'{split}_cfg', cfg.get(f'{split}_cfg')))
        loader = cfg.get(f'{split}_dataloader') or {}
        nodes += [(DATA_SAMPLERS, f'{split}_dataloader.{name}',
                   loader.get(name)) for name in ('sampler', 'batch_sampler')]
        nodes += [(DATASETS, key, node) for key, node in walk(
                      loader.get('dataset'), f'{split}_dataloader.dataset')
                  if isinstance(node, dict)
                  and ('dataset' in node or 'datasets' in node)]
    if 'train' in splits:
        wrapper = cfg.get('optim_wrapper') or {}
        nodes.append((OPTIMIZERS, 'optim_wrapper.optimizer',
                      wrapper.get('optimizer')))
    for registry, key, node in nodes:
        kind = node.get('type') if isinstance(node, dict) else None
        if isinstance(kind, str):
            with registry.switch_scope_and_registry(
                    cfg.get('default_scope')) as scoped:
                kind = scoped.get(kind)
        if kind is None:
            continue
        taken = inspect.signature(kind).parameters
        if any(p.kind is p.VAR_KEYWORD for p in taken.values()):
            continue
        for name in node:
            if name not in taken and name not in ('type', '_scope_'):
                yield kinds.LEFT_OVER, (
                    f'{key}.{name}: {type_name(node)} has no such argument')


def _check_workers(cfg: Config, splits: Sequence[str]) -> Found:
    for split in splits:
        loader = cfg.get(f'{split}_dataloader') or {}
        for name in ('persistent_workers', 'prefetch_factor'):
            if loader.get(name) and not loader.get('num_workers'):
                yield kinds.NO_WORKERS, (
                    f'{split}_dataloader.{name}={loader[name]}')


def _check_loop(cfg: Config) -> Found:
    """The loop of training, its sampler and the schedules."""
    loop = cfg.get('train_cfg') or {}
    by_epoch = dict(EpochBasedTrainLoop=True, IterBasedTrainLoop=False).get(
        type_name(loop), loop.get('by_epoch'))
    length = loop.get('max_epochs' if by_epoch else 'max_iters')
    if by_epoch is None or not length:
        return  # a loop of another kind
    unit = f'train_cfg.max_{"epochs" if by_epoch else "iters"}={length}'
    sampler = type_name((cfg.get('train_dataloader') or {}).get('sampler'))
    kind = {('InfiniteSampler', True): kinds.ENDLESS_EPOCH,
            ('DefaultSampler', False): kinds.RESTARTED}.get(
                (sampler, by_epoch))
    if kind:
        yield kind, f'train_dataloader.sampler is {sampler}, {unit}'
    ends, lasts = [], False
    for number, schedule in enumerate(as_list(cfg.get('param_scheduler'))):
        if type_name(schedule) == 'None':
            return  # one for each of several optimizers
        name = f'param_scheduler[{number}] ({type_name(schedule)})'
        found = list(_check_schedule(schedule, by_epoch, length))
        yield from ((kind, f'{name}: {text}, {unit}') for kind, text in found)
        if schedule.get('by_epoch', True) == by_epoch:
            ends.append((schedule.get('end', math.inf), name))
            lasts |= type_name(schedule) not in WARM_UPS
    end, name = max(ends, default=(length, ''))
    if lasts and end <= length * (1 - COOL_DOWN):
        yield kinds.SCHEDULE_SHORT, f'{name}: end={end}, {unit}'


def _check_schedule(schedule: dict, by_epoch: bool, length: int) -> Found:
    begin, end = schedule.get('begin', 0), schedule.get('end', math.inf)
    if end <= begin:
        yield kinds.SCHEDULE_EMPTY, f'begin={begin}, end={end}'
    if schedule.get('by_epoch', True) != by_epoch:
        if not (by_epoch or schedule.get('convert_to_iter_based')):
            yield kinds.SCHEDULE_STILL, 'by_epoch=True'
        return
    last = max([*schedule.get('milestones', ()), 0])
    if length + 1 < end < math.inf:
        yield kinds.SCHEDULE_LONG, f'end={end}'
    elif last >= length:
        yield kinds.SCHEDULE_LONG, f'milestones until {last}'
    steps = min(end, length) - begin
    if (total := schedule.get('total_steps')) and total < steps:
        yield kinds.SCHEDULE_STEPS, f'total_steps={total}'
    if (turn := schedule.get('T_max')) and end <= length and (
            abs(turn - steps) > CLOSE * steps):
        yield kinds.COSINE, f'T_max={turn}, begin={begin}, end={end}'


def _check_outputs(cfg: Config, splits: Sequence[str]) -> Found:
    """Heads that learn nothing, and metrics of more classes than they
    have."""
    for key, head in walk_heads(cfg):
        for loss in as_list(head.get('loss_decode') or head.get('loss')):
            if head['num_classes'] == 1 and (
                    type_name(loss) == 'CrossEntropyLoss'
                    and not loss.get('use_sigmoid')):
                yield kinds.ONE_CLASS, f'{key}.num_classes=1'
    number = find_heads(cfg).get('model.head.num_classes', math.inf)
    for split in splits:
        for metric in as_list(cfg.get(f'{split}_evaluator')):
            top = max([*as_list(metric.get('topk')), 0])
            if top > number:
                yield kinds.TOP_K, (f'{split}_evaluator.topk={top}, '
                                    f'model.head.num_classes={number}')


def _check_mixing(cfg: Config) -> Found:
    """mmpretrain writes labels one-hot, to mix them, by the number of the
    data preprocessor."""
    model = cfg.get('model') or {}
    key, prepared = find_preprocessor(cfg)
    mixed = prepared.get('batch_augments') or prepared.get('to_onehot') or (
        model.get('train_cfg') or {}).get('augments')
    own = prepared.get('num_classes')
    number = find_heads(cfg).get('model.head.num_classes')
    if mixed and own and number and own != number:
        yield kinds.MIXED, (
            f'{key}.num_classes={own}, model.head.num_classes={number}')


def _check_padding(cfg: Config) -> Found:
    key, prepared = find_preprocessor(cfg)
    values = {name: prepared.get(name) for name in ('size', 'size_divisor')}
    if type_name(prepared) == 'SegDataPreProcessor' and (
            [*values.values()].count(None) != 1):
        yield kinds.PADDED_TO, ', '.join(
            f'{key}.{name}={value}' for name, value in values.items())


def find_preprocessor(cfg: Config) -> Tuple[str, dict]:
    """The key and the settings of a model's data preprocessor."""
    model = cfg.get('model') or {}
    if model.get('data_preprocessor') is not None:
        return 'model.data_preprocessor', model['data_preprocessor']
    return 'data_preprocessor', cfg.get('data_preprocessor') or {}


def check_batches(loader: dict, steps: Sequence[dict], padding: Size,
                  sizes: Sequence[Size], split: str, context: CheckContext
                  ) -> None:
    """Whether images can be stacked to a batch.

    Args:
        loader: The config of the data loader.
        steps: The pipeline of the data set.
        padding: (H, W) to which the model's data preprocessor pads smaller
            images; infinite for that of the largest in the batch.
        sizes: (H, W) of images as they are read.
        split: Its name.
        context: Where the faults go.
    """
    if type_name(loader.get('collate_fn')) == 'default_collate':
        padding = (0, 0)  # workers stack the images
    names = [type_name(step) for step in steps]
    scaled = [step for step in steps if type_name(step) in KEEP_RATIO]
    if (loader.get('batch_size', 1) == 1 or scaled and any(padding)
            or {*names} - {*KEEP_SHAPE, *KEEP_RATIO}
            or any(type_name(step) == 'Resize' and not step.get('keep_ratio')
                   for step in scaled)):
        return
    shapes = {round(h / w, 2) if scaled else
              (max(h, padding[0]), max(w, padding[1])): (h, w)
              for h, w in sizes}
    if len(shapes) > 1:
        first, second = list(shapes.values())[:2]
        context.add(kinds.UNBATCHABLE, f'{split}: {times(first)} and '
                    f'{times(second)}, {split}_dataloader.batch_size='
                    f'{loader["batch_size"]}')


def walk_heads(cfg: dict) -> Iterator[Tuple[str, dict]]:
    """The heads of a model that have a number of classes, by config key."""
    for key, node in walk(cfg.get('model'), 'model'):
        if isinstance(node, dict) and isinstance(
                node.get('num_classes'), int) and not any(
                name.endswith(OTHER_CLASSES) for name in key.split('.')) and (
                type_name(node) not in OTHER_TYPES):
            yield key, node


def find_heads(cfg: dict) -> Dict[str, int]:
    """``num_classes`` of the heads of a model, by config key."""
    return {f'{key}.num_classes': head['num_classes']
            for key, head in walk_heads(cfg)}


def check_heads(heads: Dict[str, int], split: str,
                classes: Optional[Sequence[str]],
                context: CheckContext) -> None:
    """Compares the heads with the classes of a data set.

    Contrastive heads have more outputs than classes on purpose (256 of
    Grounding DINO), class-agnostic ones a single one.
    """
    for key, number in heads.items():
        if classes is None or number == len(classes):
            continue
        kind = kinds.SPARE_OUTPUTS if number > len(classes) else (
            kinds.ONE_OUTPUT if number == 1 else kinds.TOO_FEW)
        context.add(kind, f'{key}={number}, {split} has {len(classes)} '
                    'classes')


def compare_splits(results: Dict[str, List[CheckResult]],
                   context: CheckContext) -> None:
    """Compares what training reads with what each other split reads."""
    trained = results.get('train', [])
    orders = [result.classes for result in trained if result.classes]
    for split, tested in results.items():
        for result in tested:
            if result.classes and any(o != result.classes for o in orders):
                context.add(kinds.UNLIKE, f'train: {_join(orders[0])}; '
                            f'{split}: {_join(result.classes)}')
        if split != 'train' and not context.brief:
            for first, second in find_same(_images(trained), _images(tested)):
                context.add(kinds.OVERLAP, f'{first}, in {split}: {second}')


def _images(results: List[CheckResult]) -> List[str]:
    return [image for result in results for image in result.images]


def _join(names: Tuple[str, ...]) -> str:
    return ', '.join(names[:10]) + (', ...' if len(names) > 10 else '')
