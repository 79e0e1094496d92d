"""`import mmiformer` registers names and changes nothing else."""
import json
import os
import subprocess
import sys

import pytest
from mmengine.registry import HOOKS, MODELS, RUNNERS

import mmiformer

# What mmengine, on which ours stands, does when it is imported is its own
# affair; so it comes before the first look.
CODE = '''
import json, logging, os, sys, tempfile, warnings
import torch, mmengine.runner, mmengine.hooks, mmengine.model, mmengine.dist
import mmengine._strategy, mmengine.analysis
from mmengine.config.utils import MODULE2PACKAGE
from mmengine.fileio import file_client
from mmengine.fileio.handlers import registry_utils
from mmengine.registry import Registry, root
from mmengine.runner import CheckpointLoader


def look():
    return {
        'environ': dict(os.environ),
        'safe globals': [str(entry) for entry in
                         getattr(
                             torch.serialization, 'get_safe_globals', list)()],
        'loaders': {str(scheme): str(loader) for scheme, loader
                    in CheckpointLoader._schemes.items()},
        'handlers': {kind: type(handler).__name__ for kind, handler
                     in registry_utils.file_handlers.items()},
        'filters': [str(entry) for entry in warnings.filters],
        'log handlers': [str(handler) for handler in logging.root.handlers],
        'log level': logging.root.level,
        'open files': sorted(
            os.readlink(f'/proc/self/fd/{fd}')
            for fd in os.listdir('/proc/self/fd')
            if os.path.exists(f'/proc/self/fd/{fd}')),
        'temporary files': sorted(os.listdir(tempfile.gettempdir())),
        'threads': torch.get_num_threads(),
        'dtype': str(torch.get_default_dtype()),
        'packages': sorted({name.partition('.')[0] for name in sys.modules}),
        'names': sorted(
            f'{kind}: {name}' for kind, registry in vars(root).items()
            if isinstance(registry, Registry) for name in registry.module_dict)}


before = look()
import mmiformer
print(json.dumps([before, look()]))
'''


@pytest.fixture(scope='module')
def looks(tmp_path_factory):
    """What the process was before and after."""
    folder = tmp_path_factory.mktemp('import')
    result = subprocess.run(
        [sys.executable, '-c', CODE], capture_output=True, text=True,
        env=dict(os.environ, TMPDIR=str(folder)))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_process_is_as_before(looks):
    before, after = looks
    for what in set(before) - {'names', 'packages', 'loaders'}:
        assert after[what] == before[what], what


def test_what_is_registered(looks):
    before, after = looks
    added = {key: value for key, value in after['loaders'].items()
             if before['loaders'].get(key) != value}
    assert list(added) == ['mmiformer://']
    assert len(after['loaders']) == len(before['loaders']) + 1
    assert set(after['names']) - set(before['names']) == {
        'MODELS: IFormer', 'HOOKS: NonFiniteHook', 'HOOKS: PlainCheckpointHook',
        'RUNNERS: ResumableRunner'}


@pytest.mark.parametrize('registry, name', [
    (MODELS, 'IFormer'), (HOOKS, 'LoadBackboneHook'),
    (HOOKS, 'NonFiniteHook'), (RUNNERS, 'ResumableRunner')])
def test_a_scoped_name_is_registered(registry, name):
    assert registry.get(f'mmiformer.{name}') is getattr(mmiformer, name)


def test_what_is_imported(looks):
    before, after = looks
    added = set(after['packages']) - set(before['packages'])
    assert not added & {'mmcv', 'mmdet', 'mmseg', 'mmpretrain', 'matplotlib',
                        'torchvision', 'cv2', 'huggingface_hub'}


def test_the_module_can_be_reloaded():
    """As notebooks do after an edit."""
    subprocess.run([sys.executable, '-c', (
        'import importlib, mmiformer.backbone.iformer as module; '
        'from mmiformer.kit import non_finite; '
        'from mmiformer.kit.resume import plain, runner; '
        'from mmengine.registry import MODELS; '
        '[*map(importlib.reload, (non_finite, plain, runner, module))]; '
        "assert MODELS.get('mmiformer.IFormer') is module.IFormer; "
        "assert MODELS.get('IFormer') is module.IFormer")], check=True)
