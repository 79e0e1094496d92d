"""The data sets that a config reads, built by mm* but not loaded."""
import filecmp
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, TRANSFORMS

from ...config import as_list, find_datasets, type_name, walk
from . import kinds
from .context import CheckContext
from .files import DamageError, Size, find_turn, read_size
from .settings import find_heads, find_preprocessor

# Where to get what a data set class reads.
SOURCES = {
    'CocoDataset':
    'COCO 2017 (train2017.zip, val2017.zip, annotations_trainval2017.zip): '
    'https://cocodataset.org/#download, unpacked in {root}',
    'ImageNet':
    'ImageNet-1K (ILSVRC 2012): https://image-net.org/download, unpacked so '
    'that {root} has train/ and val/, each with a folder per class',
    'ADE20KDataset':
    'ADE20K: http://data.csail.mit.edu/places/ADEchallenge/'
    'ADEChallengeData2016.zip, unpacked so that {root} is its folder',
}
OWN_DATA = 'put it there, or point data_root, ann_file and data_prefix at yours'
PACKAGES = ('mmdet', 'mmseg', 'mmpretrain', 'mmengine', 'mmiformer')


@dataclass
class DatasetSplit:
    """One data set of one split.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        cfg: The data set's own config.
        dataset: Built from it, with lazy_init and without a pipeline.
        evaluators: The split's evaluator configs.
        loader: The split's data loader config.
        heads: ``num_classes`` of the model by its config key.
        preprocessor: The model's data preprocessor config.
        scope: Of the registries.
    """
    split: str
    cfg: dict
    dataset: Any
    evaluators: List[dict]
    loader: dict
    heads: Dict[str, int]
    preprocessor: dict
    scope: Optional[str] = None

    @property
    def classes(self) -> Optional[Tuple[str, ...]]:
        return self.dataset.metainfo.get('classes')

    @property
    def label_limit(self) -> int:
        """Labels from here on stop the loss."""
        numbers = [number for number in self.heads.values() if number > 1]
        return min(numbers or [len(self.classes or ()) or 1 << 31])

    @property
    def reader(self) -> str:
        """The class whose ``load_data_list`` it uses, empty if another's
        ``parse_data_info`` takes its entries."""
        names = [method.__func__.__qualname__.split('.')[0] for method in
                 (self.dataset.load_data_list, self.dataset.parse_data_info)]
        return names[0] if names[1] in (names[0], 'BaseDataset') else ''

    def find_step(self, name: str) -> Optional[dict]:
        """The first step of the pipeline of this type."""
        return next((node for _, node in walk(self.cfg.get('pipeline'))
                     if type_name(node) == name), None)

    def build_loader(self, context: CheckContext) -> Optional[Callable]:
        """What decodes images; None, and a note, if the pipeline has another
        loader than this checks."""
        step = self.find_step('LoadImageFromFile')
        if step is None and self.cfg.get('pipeline'):
            context.add(kinds.UNCHECKED, f'{self.split}: images: the pipeline '
                        'has no LoadImageFromFile')
            return None
        with TRANSFORMS.switch_scope_and_registry(self.scope) as registry:
            return registry.build(step or dict(type='LoadImageFromFile'))

    def read_images(self, paths: List[str], context: CheckContext
                    ) -> Iterator[Tuple[str, Size, int]]:
        """Decodes images, and yields the size of each and its EXIF turn; those
        that are missing or damaged are faults."""
        loader = self.build_loader(context)
        if loader is None:
            return

        def read(path: str) -> object:
            try:
                return read_size(path, loader), find_turn(path, loader)
            except DamageError as error:
                return error

        for path, result in context.read_each(
                read, paths, f'{self.split}: images'):
            if isinstance(result, DamageError):
                context.add(result.kind, f'{path}: {result}')
            else:
                yield path, *result

    def find_missing(self) -> Iterator[str]:
        """The paths that the run opens first and that do not exist."""
        folders = ['img', 'img_path']
        if self.find_step('LoadAnnotations'):
            folders.append('seg_map_path')
        paths = {f'data_prefix.{name}': self.dataset.data_prefix.get(name)
                 for name in folders}
        paths['ann_file'] = self.dataset.ann_file
        known = self.classes == self.dataset.METAINFO.get('classes')
        source = (SOURCES.get(type_name(self.cfg), OWN_DATA) if known else
                  OWN_DATA).format(root=self.dataset.data_root)
        where = f'{self.split}_dataloader.dataset'
        for key, path in paths.items():
            if path and not Path(path).exists():
                yield f'{path} ({where}.{key}); {source}'

    def subset(self, items: list) -> list:
        """What ``indices`` of the data set leaves, as mmengine takes it."""
        indices = self.cfg.get('indices')
        if indices is None:
            return items
        if isinstance(indices, int):
            return items[:indices] if indices >= 0 else items[indices:]
        return [items[i] for i in indices if -len(items) <= i < len(items)]


def build_splits(cfg: Config, split: str, context: CheckContext
                 ) -> Iterator[DatasetSplit]:
    """Builds the data sets of a split of which all that is opened first
    exists, as lazily as mmengine can."""
    evaluators = as_list(cfg.get(f'{split}_evaluator'))
    loader, scope = cfg.get(f'{split}_dataloader'), cfg.get('default_scope')
    datasets = list(find_datasets(loader['dataset'])) if loader else []
    found = None
    for dataset in datasets:
        name = f'{split}_dataloader.dataset ({type_name(dataset)})'
        paths = (dataset.get('data_root'), dataset.get('ann_file'))
        if dataset.get('backend_args') or any(
                path and not is_local(path) for path in paths):
            context.add(kinds.UNCHECKED, f'{name}: not on a local disk')
            continue
        with DATASETS.switch_scope_and_registry(scope) as registry:
            kind = dataset.get('type')
            if isinstance(kind, str):
                kind = registry.get(kind)
            if isinstance(kind, type) and not issubclass(kind, BaseDataset):
                context.add(kinds.UNCHECKED, f'{name}: of its own kind')
                continue
            try:
                built = registry.build(
                    dict(dataset, pipeline=[], lazy_init=True))
                # A string would be taken letter by letter.
                if isinstance(built.metainfo.get('classes'), str):
                    raise ValueError(
                        f'classes={built.metainfo["classes"]!r} is a string; '
                        'write a tuple, (name, ) if there is one')
            except Exception as error:  # whatever its constructor asserts
                # A user's own may not take the arguments that we add.
                own = kind and kind.__module__.split('.')[0] not in PACKAGES
                context.add(kinds.UNCHECKED if own else kinds.UNBUILT,
                            f'{name}: {error}')
                continue
        found = DatasetSplit(
            split, dataset, built, evaluators, loader, find_heads(cfg),
            find_preprocessor(cfg)[1], scope)
        missing = list(found.find_missing())
        for path in missing:
            context.add(kinds.FILE_MISSING, path)
        if not missing:
            yield found
    # Last: a data set may make its files when it is built.
    for evaluator in evaluators:
        path = evaluator.get('ann_file')
        if not is_local(path):
            continue
        where = f'{path} ({split}_evaluator.ann_file)'
        if not Path(path).exists():
            context.add(kinds.FILE_MISSING, where)
        elif (found and len(datasets) == 1 and found.reader == 'CocoDataset'
              and type_name(evaluator) == 'CocoMetric'
              and os.path.isfile(found.dataset.ann_file)
              and not filecmp.cmp(path, found.dataset.ann_file, False)):
            context.add(kinds.OTHER_ANNOTATIONS, f'{where}, {split} reads '
                        f'{found.dataset.ann_file}')


def is_local(path: object) -> bool:
    """Whether it is a path, not an address."""
    return isinstance(path, str) and path != '' and '://' not in path
