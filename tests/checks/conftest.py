"""A good data set, and the configs that read it."""
import shutil

import damages as d
import pytest
from shapes import make_shapes

from mmiformer.config import load_config


@pytest.fixture(scope='session')
def shapes(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', **d.SMALL)


@pytest.fixture
def root(shapes, tmp_path):
    """A copy of the data that may be damaged."""
    return shutil.copytree(shapes, tmp_path / 'shapes')


@pytest.fixture(scope='session')
def bases(configs):
    """Gives the config of a family; no dict, which a failure would print."""
    read = {family: load_config(str(configs / name / 'iformer_s_shapes.py'))
            for family, name in d.FAMILIES.items()}
    return lambda family: read[family]
