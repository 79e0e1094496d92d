"""Checks settings that have to agree: heads, classes, splits."""
from typing import Dict, List, Optional, Sequence, Tuple

from mmengine.config import Config

from ..config import walk
from . import kinds
from .context import CheckContext, CheckResult
from .files import find_same

# Modules whose num_classes is not the data's: RPN tells objects from
# background, HTC's semantic head has classes of its own.
OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')


def find_heads(cfg: Config) -> Dict[str, int]:
    """``num_classes`` of the heads of a model, by config key."""
    return {f'{key}.num_classes': node['num_classes']
            for key, node in walk(cfg.get('model'), 'model')
            if isinstance(node, dict)
            and isinstance(node.get('num_classes'), int)
            and not any(name.endswith(OTHER_CLASSES)
                        for name in key.split('.'))}


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
