"""What the tests share: parity data and a backbone small enough to be fast."""
import json
import os
import sys
from pathlib import Path

import pytest
import torch

from mmiformer.backbone import weights

GOLDENS = Path(__file__).parent / 'data' / 'goldens'
sys.path.insert(0, str(GOLDENS))
import weights as golden_weights  # noqa: E402

# On two cores; one, if another program needs the other.
torch.set_num_threads(int(os.environ.get('OMP_NUM_THREADS', 2)))

TINY = dict(
    embed_dims=(16, 32, 32, 48),
    depths=(1, 1, 2, 1),
    num_heads=(2, 4, 4, 6),
    attention_heads=(1, 2, (2, 3), 5))


@pytest.fixture
def tiny():
    """Keyword arguments of a small backbone with every feature of a large."""
    return dict(arch=TINY, pretrain_img_size=64)


@pytest.fixture(scope='session')
def released_keys():
    """{checkpoint: {name: shape}} of the six released checkpoints."""
    return json.loads((GOLDENS / 'released_keys.json').read_text())


@pytest.fixture(scope='session')
def released_small(released_keys):
    """A state dict as iformer_small.pth has it, with the goldens' values."""
    return {name: torch.from_numpy(golden_weights.tensor(name, shape))
            if shape else torch.tensor(0)
            for name, shape in released_keys['iformer_small'].items()}


@pytest.fixture(scope='session')
def configs():
    """The folder of the configs."""
    return Path(__file__).parents[1] / 'configs'


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty folder to stand in, and no network: downloads fail as they do
    without one."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.delenv('MMIFORMER_WEIGHTS', raising=False)

    def refuse(request, timeout):
        raise OSError('no network')

    monkeypatch.setattr(weights, 'urlopen', refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path
