"""The synthetic shapes. mmiformer.registry imports the class of a framework
when a config names it, since no framework is required."""
from typing import Sequence

from mmengine.config import Config

from ..config import find_datasets, type_name
from ..registry import DATASET_MODULES
from .shapes import CLASSES, make_shapes

__all__ = ['CLASSES', 'make_files', 'make_shapes']


def make_files(cfg: Config, splits: Sequence[str]) -> None:
    """Generates the shapes that a config reads, for checks that look for
    files before the data sets are built.

    Args:
        cfg: Any config; nothing happens if no data set of it is of shapes.
        splits: The data loaders that are used: ``train``, ``val``, ``test``.

    Raises:
        ValueError: A ``data_root`` holds something else.
        OSError: A file cannot be written.
    """
    for split in splits:
        loader = cfg.get(f'{split}_dataloader')
        for dataset in find_datasets(loader['dataset']) if loader else ():
            if type_name(dataset) in DATASET_MODULES:
                make_shapes(dataset['data_root'], **dataset.get('shapes', {}))
