"""Finds what is missing or damaged before a long run starts."""
from pathlib import Path
from typing import Iterator, List, Tuple

from mmengine.config import Config

from ..backbone.hub import PREFIXES, read_checkpoint
from ..config import find_datasets, find_pretrained
from ..engine.guard import PICKLES, WHY_NO_PICKLES
from .annotations import find_annotation_faults

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


def check_files(cfg: Config, splits: Tuple[str, ...]) -> None:
    """Checks data and annotations, and opens weights, downloaded if need be.

    Args:
        cfg: A config of mmdet or mmseg.
        splits: The data loaders that will be used.

    Raises:
        FileNotFoundError: Lists every path that is missing, every checkpoint
            that is damaged or refused, what reads it and where to get it.
    """
    if faults := [*find_data_faults(cfg, splits),
                  *find_weight_faults(cfg, splits)]:
        lines = '\n  '.join(faults)
        raise FileNotFoundError(
            f'cannot start, this is missing or damaged:\n  {lines}')


def find_data_faults(cfg: Config, splits: Tuple[str, ...]) -> List[str]:
    """One line for each missing path: what reads it, where to get it."""
    faults, read = [], set()
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in find_datasets(loader['dataset']) if loader else ():
            faults += _check_dataset(dataset, split)
            read.add(Path(dataset.get('data_root') or '',
                          dataset.get('ann_file') or ''))
        evaluators = cfg.get(f'{split}_evaluator') or []
        for evaluator in (evaluators if isinstance(evaluators, list)
                          else [evaluators]):
            path = evaluator.get('ann_file')
            where = f'{split}_evaluator.ann_file'
            if path and path.endswith(PICKLES):
                faults.append(f'{path} ({where}) {WHY_NO_PICKLES}')
            elif path and _is_local(path) and not Path(path).exists():
                faults.append(f'{path} ({where})')
            elif (path and _is_local(path) and Path(path) not in read
                  and 'Coco' in str(evaluator.get('type'))):
                faults += find_annotation_faults(Path(path))
    return list(dict.fromkeys(faults))


def find_weight_faults(cfg: Config, splits: Tuple[str, ...]) -> List[str]:
    """One line for each checkpoint that is missing, damaged or refused."""
    faults = []
    for key, checkpoint in find_checkpoints(cfg, with_init='train' in splits):
        faults += _check_checkpoint(key, checkpoint)
    return list(dict.fromkeys(faults))


def _check_dataset(dataset: dict, split: str) -> List[str]:
    root = dataset.get('data_root') or ''
    parts = {'ann_file': dataset.get('ann_file')}
    if dataset['type'] == 'ImageNet':  # a folder for each split
        parts['split'] = dataset.get('split')
    prefix = dataset.get('data_prefix') or {}
    if isinstance(prefix, str):  # of mmpretrain
        parts['data_prefix'] = prefix
    else:
        parts.update((f'data_prefix.{k}', v) for k, v in prefix.items())
    paths = {key: Path(root, value) for key, value in parts.items()
             if isinstance(value, str) and value and _is_local(root, value)}
    source = SOURCES.get(dataset['type'], OWN_DATA).format(root=root)
    where = f'{split}_dataloader.dataset'
    faults = [f'{pickle} {WHY_NO_PICKLES}'
              for pickle in find_pickles(dataset, where)]
    faults += [f'{path} ({where}.{key}); {source}'
               for key, path in paths.items() if not path.exists()]
    annotations = paths.get('ann_file')
    if ('CocoDataset' in dataset['type'] and not faults and annotations
            and annotations.is_file()):
        faults += find_annotation_faults(
            annotations, paths.get('data_prefix.img', Path(root)))
    return faults


def find_pickles(node, key: str) -> Iterator[str]:
    """What a data set would unpickle, and by which key of the config."""
    if isinstance(node, dict):
        if 'OpenImages' in str(node.get('type')) and 'hierarchy_file' in node:
            yield f'{node["hierarchy_file"]} ({key}.hierarchy_file)'
        if node.get('decode_backend') == 'pickle':
            yield f'what {key}.decode_backend opens'
        for name, child in node.items():
            yield from find_pickles(child, f'{key}.{name}')
    elif isinstance(node, (list, tuple)):
        for index, child in enumerate(node):
            yield from find_pickles(child, f'{key}.{index}')
    elif isinstance(node, str) and node.endswith(PICKLES):
        yield f'{node} ({key})'


def find_checkpoints(cfg: Config,
                     with_init: bool) -> Iterator[Tuple[str, str]]:
    """Where the config names weights, and which."""
    if cfg.get('load_from'):
        yield 'load_from', cfg.load_from
    if with_init:
        yield from find_pretrained(cfg)


def _check_checkpoint(key: str, checkpoint: str) -> List[str]:
    if Path(checkpoint).is_dir():
        return []  # of DeepSpeed, which checks it
    if '://' not in checkpoint and not Path(checkpoint).expanduser().is_file():
        return [f'{checkpoint} ({key}); if a run of your own makes it, start '
                f'that first, or name another file: --cfg-options {key}=...']
    if checkpoint.startswith(PREFIXES) or _is_local(checkpoint):
        try:
            read_checkpoint(checkpoint)
        except (OSError, ValueError) as error:
            return [f'{error} ({key})']
    return []


def _is_local(*paths: str) -> bool:
    return not any('://' in path for path in paths)
