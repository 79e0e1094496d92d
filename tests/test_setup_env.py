"""The set-up: what it finds missing, and one line for each way to fail."""
import importlib.util
import json
import subprocess
import sys

import pytest
from conftest import ROOT


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load(ROOT / 'tools' / 'setup_env.py')
STACK = dict(torch='torch==2.13.0', mmcv='mmcv==2.1.0', ftfy='ftfy',
             setuptools='setuptools<81')


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """Sets up an environment that has the given packages; no step runs.

    Gives the titles and commands of the steps, and pip's constraints.
    """
    monkeypatch.setattr(setup_env, 'BUILD', str(tmp_path))
    monkeypatch.setattr(setup_env, 'read_requirements', lambda stack: STACK)
    monkeypatch.setattr(setup_env, 'mend_torchvision', lambda *args: None)
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name: name)

    def set_up(installed, version=(3, 11), **kwargs):
        commands = {}
        monkeypatch.setattr(setup_env, 'probe', lambda python: dict(
            version=version, site='', mmiformer=None, installed=installed))
        monkeypatch.setattr(setup_env, 'run', lambda title, _, command:
                            commands.update({title: command}))
        setup_env.set_up('openmmlab', str(tmp_path / 'venv'), **kwargs)
        constraints = (tmp_path / 'constraints.txt').read_text().split()
        return commands, constraints

    return set_up


def test_a_new_environment(steps):
    commands, constraints = steps({})
    create, first, mmcv, rest, ours, verify = commands.values()
    assert 'venv' in create
    assert first[-2:] == ['torch==2.13.0', 'setuptools<81']
    assert mmcv[-2:] == ['--no-build-isolation', 'mmcv==2.1.0']
    assert rest[-1] == 'ftfy' and ours[-1] == setup_env.ROOT
    assert verify[1:] == [str(ROOT / 'tools' / 'env.py')]
    assert constraints == list(STACK.values())


@pytest.mark.parametrize('installed, missing', [
    (dict(torch='2.13.0+cpu', mmcv='2.1.0', setuptools='80.9', ftfy='6'), []),
    (dict(torch='2.12.0', mmcv='2.1.0.1', setuptools='81', ftfy='6'),
     ['torch', 'mmcv', 'setuptools']),
    (dict(mmcv='2.1.0', setuptools='9.1'), ['torch', 'ftfy'])])
def test_what_is_missing(installed, missing):
    assert [name for name, line in STACK.items()
            if not setup_env.is_met(line, installed)] == missing


def test_an_interpreter_of_the_users_own_is_added_to(steps):
    installed = {'torch': '2.8.0+cu128', 'setuptools': '65.5',
                 'opencv-python': '4.8', 'numpy': '1.26'}
    commands, constraints = steps(installed, python=sys.executable)
    arguments = sum(commands.values(), [])
    assert 'mmcv==2.1.0' in arguments and 'ftfy' in arguments
    assert not any(x.startswith(('torch', 'setuptools')) for x in arguments)
    assert constraints == [
        'torch==2.8.0+cu128', 'setuptools==65.5', 'opencv-python==4.8',
        'numpy==1.26', 'mmcv==2.1.0', 'ftfy', 'opencv-python-headless==4.8']


@pytest.mark.parametrize('arguments, said', [
    (dict(version=(3, 9)), ('3.9', '3.10', 'PYTHON=')),
    (dict(version=(3, 13)), ('3.13', '3.12')),
    (dict(installed={'onedl-mmcv': '2.3.6'}), ('onedl-mmcv', 'STACK='))])
def test_an_unfit_interpreter(arguments, said, steps):
    with pytest.raises(setup_env.SetupError) as error:
        steps(**dict(dict(installed={}), **arguments), python=sys.executable)
    assert all(part in str(error.value) for part in said)


def test_no_compiler(steps, monkeypatch):
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name: None)
    with pytest.raises(setup_env.SetupError, match=r'apt-get install g\+\+'):
        steps({})


@pytest.mark.parametrize('printed, advice', [
    ('error: externally-managed-environment', '.venv'),
    ('No module named venv', 'python3-venv'),
    ("NewConnectionError('...')", 'network'),
    ('ERROR: No matching distribution found for x', 'network'),
    ('OSError: [Errno 28] No space left on device', 'disk is full'),
    ('a.h:1:10: fatal error: Python.h: No such file', 'python3-dev'),
    ('c++: fatal error: Killed signal terminated', 'MAX_JOBS=1'),
    ('AssertionError: MMCV==2.2.0 is used', 'MMCV==2.2.0 is used')])
def test_a_failed_step(printed, advice, tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, 'BUILD', str(tmp_path))
    code = f'print({printed!r}); raise SystemExit(1)'
    with pytest.raises(setup_env.SetupError) as error:
        setup_env.run('a step', '', [sys.executable, '-c', code])
    assert advice in str(error.value) and '\n' not in str(error.value)
    assert printed in (tmp_path / 'setup.log').read_text()


def test_progress_of_a_build(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup_env, 'BUILD', str(tmp_path))
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(setup_env.time, 'time', lambda: next(clock))
    code = 'for i in range(1, 5): print(f"[{i}/4] a.o")'
    setup_env.run('a build', 'once', [sys.executable, '-c', code])
    assert capsys.readouterr().out.splitlines()[1:] == [
        '[set-up]   2 of 4 files, about 1 minutes left',
        '[set-up]   4 of 4 files, about 1 minutes left']


def test_this_environment_is_complete(tmp_path, monkeypatch):
    """The one that runs the tests, whatever its stack."""
    monkeypatch.setattr(setup_env, 'BUILD', str(tmp_path))
    installed = setup_env.probe(sys.executable)['installed']
    stack = 'onedl' if 'onedl-mmengine' in installed else 'openmmlab'
    required = setup_env.read_requirements(stack)
    assert len(required) > 15
    assert [name for name in required if name not in installed] == []


@pytest.mark.parametrize('library, error', [
    (b'no library', None), (None, 'operator torchvision::nms')])
def test_torchvision_of_another_build(library, error, tmp_path):
    """The finder acts where the operators do not load, and only there."""
    package = tmp_path / 'torchvision'
    package.mkdir()
    (package / '__init__.py').write_text(
        'import torch\n'
        '@torch.library.register_fake("torchvision::nms")\n'
        'def nms(dets, scores, iou_threshold):\n    return scores\n')
    if library:
        (package / '_C.so').write_bytes(library)
    finder = ROOT / 'requirements' / 'torchvision_finder.py'
    code = (f'import sys; sys.path[:0] = [{str(finder.parent)!r}, '
            f'{str(tmp_path)!r}]; import torchvision_finder\n'
            'assert "torch" not in sys.modules\n'
            'import torchvision; print(torchvision.nms(1, 2, 3))')
    result = subprocess.run([sys.executable, '-S', '-c', 'import sys; '
                             f'sys.path += {json.dumps(sys.path)}; {code}'],
                            text=True, capture_output=True)
    if error:
        assert error in result.stderr
    else:
        assert result.stdout == '2\n', result.stderr
