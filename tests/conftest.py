"""What the tests share: parity data and a backbone small enough to be fast."""
import contextlib
import functools
import importlib
import io
import json
import logging
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock
from urllib.error import URLError

import filelock
import huggingface_hub
import installed
import numpy as np
import pytest
import torch
from file_server import Server
from huggingface_hub import constants, file_download  # noqa: F401
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import CheckpointLoader
from mmengine.utils import digit_version

from mmiformer import compat


def needs_version(package, least):
    """Skips a test where a package is older."""
    version = importlib.import_module(package).__version__
    return pytest.mark.skipif(digit_version(version) < digit_version(least),
                              reason=f'needs {package} {least}')


needs_dynamo_export = pytest.mark.skipif(
    compat.TORCH < (2, 5), reason='needs torch 2.5')
ROOT = Path(__file__).parents[1]
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


def assert_parity(outs, case):
    """The stage outputs are those of the authors' network, unnormalised."""
    golden = np.load(GOLDENS / f'{case}.npz')
    assert len(outs) == 4
    for i, out in enumerate(outs, 1):
        rows, columns = golden[f'stage{i}_stride']
        assert out.shape == tuple(golden[f'stage{i}_shape'])
        error = np.abs(out[:, :, ::rows, ::columns].numpy() -
                       golden[f'stage{i}']).max()
        assert error < 1e-4 * golden[f'stage{i}_std']
        assert abs(out.mean() - golden[f'stage{i}_mean']) < 1e-4
        assert abs(out.std() - golden[f'stage{i}_std']) < 1e-3


def golden_image(case):
    """The input of a case, named by its size: (1, 3, H, W)."""
    height, width = map(int, case.split('_')[-1].split('x'))
    return torch.from_numpy(golden_weights.image(height, width))


def golden_state(arch, released_keys):
    """The weights of the cases of a size, under the released names."""
    return {name: torch.from_numpy(np.array(golden_weights.tensor(name, shape)))
            for name, shape in released_keys[f'iformer_{arch}'].items()}


def call(tool, *arguments, check=True, **kwargs):
    """Runs a tool as a person would; returns what it prints."""
    result = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / tool), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)
    assert (result.returncode == 0) == check, result.stdout[-3000:]
    return result.stdout


def run_tool(tool, *arguments):
    """Runs a tool in this process, which is faster; returns what it prints."""
    stdout = io.StringIO()
    with process_restored(), contextlib.redirect_stdout(stdout), (
            mock.patch.object(sys, 'argv', [tool, *map(str, arguments)])):
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    return stdout.getvalue()


def refusal(tool, *arguments):
    """Runs a tool in this process; returns the error that it ends with."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), (
            pytest.raises(SystemExit)) as exit:
        run_tool(tool, *arguments)
    if isinstance(exit.value.code, str):
        return exit.value.code
    _, error, text = stderr.getvalue().partition('error: ')
    assert error and 'Traceback' not in text
    return error + text.strip()


# A test is skipped for one of these reasons, or else it fails: a version, a
# machine, and what no stack on a current Python lacks.
MAY_SKIP = [r'needs [\w.-]+ [\d.]+$', '.*GPU']
if sys.version_info < (3, 11):
    MAY_SKIP += ["could not import '(onnx|sahi)", 'videos need supervision',
                 'needs zensical']


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    refuse_skip((yield).get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report():
    refuse_skip((yield).get_result())


def refuse_skip(report):
    """Fails a test, or a file, that is skipped for a reason of its own."""
    if report.skipped:
        reason = report.longrepr[2].replace('Skipped: ', '')
        if not any(re.match(allowed, reason) for allowed in MAY_SKIP):
            report.outcome = 'failed'
            report.longrepr = f'skipped, and MAY_SKIP has no such: {reason}'


# They start processes: if they came last, one core would wait for them.
LONG = ('test_downstream.py', 'test_tools.py', 'test_distributed.py',
        'test_paper.py', 'test_classification.py', 'test_registry.py',
        'test_reproduce.py', 'test_compile.py', 'test_commands.py')


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONG)
    for item in items:
        if item.get_closest_marker('slow'):
            item.add_marker(pytest.mark.timeout(1800))


@contextlib.contextmanager
def process_restored():
    """Undoes what a tool, or a test, sets for the whole process."""
    logger = MMLogger.get_current_instance()
    level, handler = logger.level, signal.getsignal(signal.SIGTERM)
    try:
        with mock.patch.dict(os.environ), mock.patch.object(
                CheckpointLoader, '_schemes',
                CheckpointLoader._schemes.copy()), mock.patch.object(
                DefaultScope, '_instance_dict',
                DefaultScope._instance_dict.copy()):
            yield
    finally:
        logger.setLevel(level)
        signal.signal(signal.SIGTERM, handler)  # torch's compiler sets one


@pytest.fixture(autouse=True)
def _process():
    with process_restored():
        yield


def make_once(name, make, tmp_path_factory):
    """The folder that ``make`` fills; all workers of a run share it."""
    folder = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ:
        folder = folder.parent
    folder /= name
    with filelock.FileLock(f'{folder}.lock'):
        if not folder.exists():
            folder.mkdir()
            make(folder)
    return folder


@pytest.fixture(scope='session')
def dist(tmp_path_factory):
    """A folder with the source distribution and the wheel."""
    return make_once('dist', installed.build, tmp_path_factory)


@pytest.fixture(scope='session')
def site(dist, tmp_path_factory):
    """The site-packages of an environment that has the wheel; the command
    ``mmiformer`` is in ``bin`` of their ``parents[2]``."""
    folder = make_once('installed', functools.partial(
        installed.install, next(dist.glob('*.whl'))), tmp_path_factory)
    return next(folder.glob('lib/python*/site-packages'))


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
    return golden_state('small', released_keys)


@pytest.fixture
def log():
    """The lines that mmengine's logger has printed so far."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.fixture(scope='session')
def configs():
    """The folder of the configs."""
    return ROOT / 'configs'


def set_hub(monkeypatch, **values):
    """Sets constants of huggingface_hub, of which old versions have copies."""
    for name, module in [*sys.modules.items()]:
        if name.split('.')[0] == 'huggingface_hub':
            for key in values.keys() & vars(module).keys():
                monkeypatch.setattr(module, key, values[key])
    # Before 1.0 a connection that is open keeps them too.
    getattr(huggingface_hub, 'configure_http_backend', lambda: None)()


def math_attention():
    """Attention by torch's own operators, without a fused kernel."""
    if compat.TORCH >= (2, 3):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        return sdpa_kernel(SDPBackend.MATH)
    return torch.backends.cuda.sdp_kernel(
        enable_flash=False, enable_mem_efficient=False)


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    """Empty folders for what is downloaded; no setting of the user's."""
    folder = tmp_path / 'cache'
    set_hub(monkeypatch, HF_HUB_CACHE=str(folder / 'hub'))
    monkeypatch.setattr(torch.hub, '_hub_dir', str(folder))
    monkeypatch.delenv('MMIFORMER_WEIGHTS', raising=False)
    return folder


@pytest.fixture
def offline(empty_cache, monkeypatch, tmp_path):
    """An empty folder to stand in, and no network: downloads fail as they do
    without one."""
    def refuse(request):
        raise URLError('no network')

    set_hub(monkeypatch, HF_HUB_OFFLINE=True)
    monkeypatch.setattr(torch.hub, 'urlopen', refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(empty_cache, monkeypatch):
    """A server in place of the Hugging Face hub; nothing is cached."""
    monkeypatch.setenv('no_proxy', '*')
    with Server() as running:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE
        set_hub(monkeypatch, ENDPOINT=running.url, HF_HUB_OFFLINE=False,
                HUGGINGFACE_CO_URL_TEMPLATE=template.replace(
                    constants.ENDPOINT, running.url))
        threading.Thread(target=running.serve_forever, args=(0.01, ),
                         daemon=True).start()
        yield running
        running.shutdown()
