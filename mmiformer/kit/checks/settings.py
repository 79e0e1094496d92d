"""Rules for settings that have to agree, and that nothing compares."""
import inspect
import math
from typing import Any, Dict, Iterator, List, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIMIZERS,
    Registry,
)

from ...config import as_list, type_name, walk
from .report import Finding

# Modules whose num_classes is not the data's: RPN tells objects from
# background, HTC's semantic head has classes of its own.
OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')
OTHER_TYPES = ('STDCHead', )  # of mmseg: tells edges from the rest
HEADS = ('decode_head', 'auxiliary_head', 'head', 'rpn_head', 'bbox_head')

CLOSE = .1  # schedules last a bit longer or shorter than their cosine
Found = Iterator[Finding]


def check_settings(cfg: Config, splits: Sequence[str],
                   samples: float = math.nan) -> List[Finding]:
    """Compares the settings of a config with each other.

    Args:
        cfg: A config of mmdet, mmseg or mmpretrain.
        splits: The data loaders that will be used.
        samples: How many samples an epoch of training has; NaN if not known.
    """
    found = [*_check_types(cfg, splits), *_check_channels(cfg),
             *_check_softmax(cfg)]
    if 'train' in splits:
        found += [*_check_loop(cfg, samples), *_check_best(cfg)]
    return found


def find_class(registry: Registry, node: Any, scope: Optional[str]) -> Any:
    """The class that a typed dict asks for; None if there is none."""
    kind = node.get('type') if isinstance(node, dict) else None
    if isinstance(kind, str):
        with registry.switch_scope_and_registry(scope) as scoped:
            kind = scoped.get(kind)
    return kind


def accepts(kind: Any, name: str) -> bool:
    """Whether a class or function takes an argument of this name."""
    taken = inspect.signature(kind).parameters
    return name in taken or any(
        parameter.kind is parameter.VAR_KEYWORD
        for parameter in taken.values())


def _check_types(cfg: Config, splits: Sequence[str]) -> Found:
    """Finds keys inherited from a base config that the new ``type`` does not
    accept."""
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
    model = cfg.get('model') or {}
    nodes += [(MODELS, f'model.{name}', model.get(name))
              for name in ('backbone', 'neck', *HEADS)]
    for registry, key, node in nodes:
        kind = find_class(registry, node, cfg.get('default_scope'))
        for name in node if kind else ():
            if name not in ('type', '_scope_') and not accepts(kind, name):
                yield Finding(
                    'error', f'{key}.{name}: {type_name(node)} has no such '
                    'argument; if it is left over from a base config, write '
                    '_delete_=True')


def _check_channels(cfg: Config) -> Found:
    """Compares ``in_channels`` of neck and heads with the channels of a
    backbone that offers ``feature_info``."""
    model, scope = cfg.get('model') or {}, cfg.get('default_scope')
    node = model.get('backbone')
    if not hasattr(find_class(MODELS, node, scope), 'feature_info'):
        return
    try:
        with torch.device('meta'), MODELS.switch_scope_and_registry(
                scope) as registry:
            outputs = registry.build(node).feature_info
    except ValueError as error:
        yield Finding('error', f'model.backbone: {error}')
        return
    except (NotImplementedError, RuntimeError, TypeError):
        return  # not on this device, or an argument that has been named
    channels, source = [output['num_chs'] for output in outputs], 'backbone'
    neck = model.get('neck')
    if isinstance(neck, dict) and 'in_channels' in neck:
        stated = neck['in_channels']
        own = channels if isinstance(stated, (list, tuple)) else [channels[-1]]
        if sorted(as_list(stated)) != sorted(own):
            yield Finding('error', f'model.neck.in_channels={stated}, the '
                          f'backbone gives {channels}')
        if not isinstance(neck.get('out_channels'), int):
            return
        channels, source = [neck['out_channels']] * 9, 'neck'
    for name in HEADS:
        for head in as_list(model.get(name)):
            indices = as_list(head.get('in_index', -1))
            stated = as_list(head.get('in_channels'))
            if len(stated) == len(indices) and any(
                    not -len(channels) <= i < len(channels)
                    or number != channels[i]
                    for i, number in zip(indices, stated)):
                yield Finding(
                    'error', f'model.{name}.in_channels='
                    f'{head["in_channels"]}, the {source} gives '
                    f'{channels[0] if source == "neck" else channels}')


def _check_softmax(cfg: Config) -> Found:
    for key, head in find_heads(cfg).items():
        for loss in as_list(head.get('loss_decode') or head.get('loss')):
            if head['num_classes'] == 1 and (
                    type_name(loss) == 'CrossEntropyLoss'
                    and not loss.get('use_sigmoid')):
                yield Finding(
                    'error', f'{key}.num_classes=1 under a softmax: its '
                    'probability is always 1, loss and gradient are exactly '
                    '0; use_sigmoid=True, or a class of background')


def _check_loop(cfg: Config, samples: float) -> Found:
    """Compares the sampler and the schedules with the loop of training."""
    loop = cfg.get('train_cfg') or {}
    by_epoch = dict(EpochBasedTrainLoop=True, IterBasedTrainLoop=False).get(
        type_name(loop), loop.get('by_epoch'))
    length = loop.get('max_epochs' if by_epoch else 'max_iters')
    if by_epoch is None or not length:
        return  # a loop of another kind
    unit = f'train_cfg.max_{"epochs" if by_epoch else "iters"}={length}'
    loader = cfg.get('train_dataloader') or {}
    sampler = type_name(loader.get('sampler'))
    if (sampler, by_epoch) == ('InfiniteSampler', True):
        yield Finding('error', f'train_dataloader.sampler is {sampler}, '
                      f'{unit}: the first epoch never ends')
    batch = loader.get('batch_size', 1) * get_world_size()
    steps = length * math.ceil(samples / batch) if samples > 0 else None
    for number, schedule in enumerate(as_list(cfg.get('param_scheduler'))):
        if type_name(schedule) == 'None':
            return  # one for each of several optimizers
        name = f'param_scheduler[{number}] ({type_name(schedule)})'
        for level, text in _check_schedule(schedule, by_epoch, length, steps):
            yield Finding(level, f'{name}: {text}, {unit}')


def _check_schedule(schedule: dict, by_epoch: bool, length: int,
                    steps: Optional[int]) -> Iterator[tuple]:
    begin, end = schedule.get('begin', 0), schedule.get('end', math.inf)
    if schedule.get('by_epoch', True) != by_epoch:
        if not (by_epoch or schedule.get('convert_to_iter_based')):
            yield 'error', ('by_epoch=True: all iterations are one epoch, and '
                            'the value never changes')
        elif by_epoch and steps and steps < end < math.inf:
            yield 'note', (f'end={end} is after the {steps} iterations of the '
                           'training: the learning rate does not get to its '
                           'end')
        return
    last = max([*schedule.get('milestones', ()), 0])
    if length + 1 < end < math.inf or last >= length:
        what = f'milestones until {last}' if last >= length else f'end={end}'
        yield 'note', f'{what}: the learning rate does not get to its end'
    turn, span = schedule.get('T_max'), min(end, length) - begin
    if turn and end <= length and abs(turn - span) > CLOSE * span:
        yield 'note', (f'T_max={turn}, begin={begin}, end={end}: the learning '
                       'rate turns around, or does not get to its end')


def _check_best(cfg: Config) -> Found:
    """Compares the score that decides on the best checkpoint with those of
    the evaluators."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    metrics = as_list(cfg.get('val_evaluator'))
    kinds = [find_class(METRICS, metric, cfg.get('default_scope'))
             for metric in metrics]
    if None in kinds or not kinds:
        return
    prefixes = {metric.get('prefix') or getattr(kind, 'default_prefix', None)
                or '': metric for metric, kind in zip(metrics, kinds)}
    for name in as_list(hook.get('save_best')):
        prefix, _, score = name.rpartition('/')
        metric = prefixes.get(prefix)
        if name == 'auto':
            continue
        if metric is None:
            choices = ', '.join(sorted(f'{prefix}/...' if prefix else 'mIoU'
                                       for prefix in prefixes))
            yield Finding('error', f'save_best={name}: no val_evaluator gives '
                          f'it; they give {choices}')
        elif type_name(metric) == 'CocoMetric' and score.split('_')[0] not in (
                as_list(metric.get('metric', 'bbox'))):
            yield Finding('error', f'save_best={name}: val_evaluator.metric '
                          f'is {metric.get("metric", "bbox")}')


def find_heads(cfg: dict) -> Dict[str, dict]:
    """The heads of a model that have a number of classes, by config key."""
    return {key: node for key, node in walk(cfg.get('model'), 'model')
            if isinstance(node, dict)
            and isinstance(node.get('num_classes'), int)
            and not any(name.endswith(OTHER_CLASSES)
                        for name in key.split('.'))
            and type_name(node) not in OTHER_TYPES}


def check_classes(cfg: Config, split: str, dataset: Any) -> Found:
    """Compares the classes of a data set with the heads, and with the
    folders that it reads.

    Contrastive heads have more outputs than classes on purpose (256 of
    Grounding DINO), class-agnostic ones a single one.
    """
    classes = getattr(dataset, 'metainfo', {}).get('classes')
    if not classes:
        return
    for key, head in find_heads(cfg).items():
        number = head['num_classes']
        text = (f'{key}.num_classes={number}, {split} has {len(classes)} '
                'classes')
        if number == 1 < len(classes):
            yield Finding('note', f'{text}: right if the head is '
                          'class-agnostic; else the loss stops')
        elif number < len(classes):
            yield Finding('error', f'{text}: labels beyond it stop the loss')
        elif number > len(classes):
            yield Finding('note', f'{text}: the other outputs are never '
                          'trained; mmdet stops in testing if it predicts one')
    # Folders may have other names (ImageNet's have), but not each other's.
    folders = tuple(getattr(dataset, 'folder_to_idx', None) or ())
    if folders != tuple(classes) and {*folders} & {*classes}:
        yield Finding('error', f'{split} reads the folders {folders[:10]} in '
                      f'alphabetical order, as the classes {classes[:10]}: '
                      'they get the names of others')
