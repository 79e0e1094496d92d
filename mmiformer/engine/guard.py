"""Files from strangers: what opens them in the tools' processes runs no code.

mmengine opens checkpoints and annotations by the loader that is registered for
their scheme or suffix. Safe ones are registered here in place of its own, for
this process alone. What is trusted, and what is not: docs/trust.md.
"""
from functools import partial
from typing import Any

import yaml
from mmengine.fileio import register_handler
from mmengine.fileio.handlers import PickleHandler, YamlHandler
from mmengine.runner import CheckpointLoader
from mmengine.runner import checkpoint as mmengines

from ..backbone.hub import read_checkpoint
from ..backbone.safe_load import drop_code, force_weights_only

PICKLES = ('.pkl', '.pickle')
WHY_NO_PICKLES = (
    'is a pickle, which can run code by being opened. Convert it where you '
    'trust it as you trust a program (annotations: mmengine.dump('
    "mmengine.load('x.pkl'), 'x.json')), or ask its author for JSON")

# The schemes that are not ours, and mmengine's functions for them.
REMOTE = {
    (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'): 'load_from_ceph',
    ('pavi://', ): 'load_from_pavi',
    ('mmcls://', ): 'load_from_mmcls',
}
# Names that stand for a URL, or a file in mmengine's own folder.
CATALOGUES = {
    ('torchvision://', 'modelzoo://'): 'get_torchvision_models',
    ('openmmlab://', 'open-mmlab://'): 'get_external_models',
}


def guard_files() -> None:
    """Lets nothing but tensors, numbers and text out of files.

    Checkpoints, of whatever model and by whatever key, go through
    :func:`read_checkpoint`; pickles are written but not read; YAML builds
    plain values alone. May be called again and again.
    """
    force_weights_only()
    register = partial(CheckpointLoader.register_scheme, force=True)
    register(('', 'http://', 'https://'), load_from_checked)
    for prefixes, name in REMOTE.items():
        register(prefixes, partial_named(load_from_remote, name))
    for prefixes, name in CATALOGUES.items():
        register(prefixes, partial_named(load_from_catalogue, name))
    register_handler(['pkl', 'pickle'])(RefusedPickle)
    register_handler(['yaml', 'yml'])(PlainYaml)


class RefusedPickle(PickleHandler):
    """Writes pickles, the predictions of tools/test.py, and reads none."""

    def load_from_fileobj(self, file, **kwargs):
        raise ValueError(f'{getattr(file, "name", "the file")} '
                         f'{WHY_NO_PICKLES}')

    def load_from_path(self, filepath, **kwargs):
        raise ValueError(f'{filepath} {WHY_NO_PICKLES}')


class PlainYaml(YamlHandler):
    """Reads YAML without its tags for Python objects."""

    def load_from_fileobj(self, file, **kwargs):
        return yaml.safe_load(file)


def partial_named(function, name: str):
    """A partial that mmengine can log: it prints the loader's name."""
    loader = partial(function, name)
    loader.__name__ = name
    return loader


def load_from_checked(filename: str, map_location: Any = None) -> Any:
    """Opens a path or a web address for mmengine."""
    return read_checkpoint(filename, map_location)


def load_from_remote(name: str, filename: str, map_location: Any) -> Any:
    """Opens what only mmengine can fetch; torch lets no code out of it."""
    return drop_code(getattr(mmengines, name)(filename, map_location))


def load_from_catalogue(name: str, filename: str, map_location: Any) -> Any:
    """Opens weights by their name in mmengine's lists."""
    addresses = getattr(mmengines, name)()
    key = filename.partition('://')[2]
    if key not in addresses:
        raise ValueError(f'{filename}: mmengine knows no such weights')
    address = addresses[key]
    if '://' not in address:
        address = f'{mmengines._get_mmengine_home()}/{address}'
    return read_checkpoint(address, map_location)
