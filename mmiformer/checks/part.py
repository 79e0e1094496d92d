"""The data sets that a config reads, built by mm* but not read."""
from dataclasses import dataclass, field
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
)

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from ..config import find_datasets
from .files import (
    IMAGE_MISSING,
    DamageError,
    Size,
    Track,
    choose,
    is_file,
    read_size,
    run_each,
)
from .report import Kind, Report

UNBUILT = Kind(
    'data sets that cannot be built', 'the run stops before it starts', True)
UNKNOWN = Kind(
    'data sets that are not checked', 'only mmdet\'s CocoDataset, mmseg\'s '
    'BaseSegDataset, mmpretrain\'s CustomDataset and ImageNet, and what reads '
    'as they do, on local disks', False)
EMPTY = Kind('data sets without an image', 'there is nothing to read', True)
EMPTY_CLASS = Kind(
    'classes without an example', 'training goes on and does not learn them; '
    'testing leaves them out of the mean or counts NaN', False)

# Modules whose num_classes is not the data's: RPN tells objects from
# background, HTC's semantic head has classes of its own.
OTHER_CLASSES = ('rpn_head', 'semantic_head', 'backbone')


@dataclass
class Part:
    """One data set of one split.

    ``heads`` has ``num_classes`` by the config key that says it; ``test`` is
    what the evaluator of the split is configured as.
    """
    split: str
    cfg: dict
    dataset: Any
    heads: Dict[str, int]
    evaluators: List[dict]

    @property
    def classes(self) -> Optional[Sequence[str]]:
        return self.dataset.metainfo.get('classes')

    @property
    def reader(self) -> str:
        """The class whose ``load_data_list`` it uses."""
        return self.dataset.load_data_list.__func__.__qualname__.split('.')[0]

    def has(self, flag: str) -> bool:
        """Whether a step of the pipeline has the flag set."""
        return any(step.get(flag) for step in self.cfg.get('pipeline') or ()
                   if isinstance(step, dict))

    def subset(self, items: list) -> list:
        """What ``indices`` of the data set leaves, as mmengine takes it."""
        indices = self.cfg.get('indices')
        if indices is None:
            return items
        if isinstance(indices, int):
            return items[:indices] if indices >= 0 else items[indices:]
        return [items[i] for i in indices if -len(items) <= i < len(items)]


@dataclass
class Job:
    """How to check, and where the faults go.

    ``sample`` is how many files of a data set are decoded, None for all.
    """
    report: Report
    track: Track
    sample: Optional[int] = None
    largest: Optional[int] = None  # bytes of an annotation file

    def read_images(self, paths: Iterable[str], split: str
                    ) -> Iterator[Tuple[str, Size]]:
        """Decodes images, and yields the size of each; those that are missing
        or damaged are faults."""
        there = []
        for path in paths:
            if is_file(path):
                there.append(path)
            else:
                self.report.add(IMAGE_MISSING, path)
        for path, result in run_each(read_size, choose(there, self.sample),
                                     f'{split}: images', self.track):
            if isinstance(result, DamageError):
                self.report.add(result.kind, f'{path}: {result}')
            else:
                yield path, result


@dataclass
class Found:
    """What a data set reads: the images; and the classes as its files have
    them, in the order of the labels, where the files decide that."""
    images: List[str] = field(default_factory=list)
    classes: Optional[Tuple[str, ...]] = None


def find_parts(cfg: Config, split: str, report: Report) -> Iterator[Part]:
    """Builds the data sets of a split, as lazily as mmengine can."""
    loader = cfg.get(f'{split}_dataloader')
    evaluators = cfg.get(f'{split}_evaluator') or []
    if not isinstance(evaluators, list):
        evaluators = [evaluators]
    heads = find_heads(cfg.get('model') or {})
    for dataset in find_datasets(loader['dataset']) if loader else ():
        name = f'{split}_dataloader.dataset ({dataset.get("type")})'
        paths = [dataset.get('data_root'), dataset.get('ann_file')]
        if dataset.get('backend_args') or any(
                '://' in path for path in paths if isinstance(path, str)):
            report.add(UNKNOWN, f'{name}: not on a local disk')
            continue
        try:
            with DATASETS.switch_scope_and_registry(
                    cfg.get('default_scope')) as registry:
                found = registry.get(dataset.get('type'))
                if isinstance(found, type) and not issubclass(
                        found, BaseDataset):
                    report.add(UNKNOWN, f'{name}: of its own kind')
                    continue
                built = registry.build(
                    dict(dataset, pipeline=[], lazy_init=True))
            # A string would be taken letter by letter.
            if isinstance(built.metainfo.get('classes'), str):
                raise ValueError(
                    f'classes={built.metainfo["classes"]!r} is a string; '
                    'write a tuple, (name, ) if there is one')
        except Exception as error:  # whatever its constructor asserts
            # Not every constructor of a stranger's takes what we add.
            ours = isinstance(error, TypeError) and 'lazy_init' in str(error)
            report.add(UNKNOWN if ours else UNBUILT, f'{name}: {error}')
            continue
        yield Part(split, dataset, built, heads, evaluators)


def find_heads(node: object, key: str = 'model') -> Dict[str, int]:
    """``num_classes`` of the heads of a model, by config key."""
    if isinstance(node, (list, tuple)):
        node = dict(enumerate(node))
    if not isinstance(node, dict) or key.endswith(OTHER_CLASSES):
        return {}
    found = {}
    if isinstance(node.get('num_classes'), int):
        found[f'{key}.num_classes'] = node['num_classes']
    for name, child in node.items():
        found.update(find_heads(child, f'{key}.{name}'))
    return found
