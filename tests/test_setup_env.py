"""The set-up: what it finds missing, and one line for each way to fail."""
import importlib.metadata
import importlib.util
import sys
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location(
    'setup_env', ROOT / 'tools' / 'setup_env.py')
setup_env = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup_env)

REQUIRED = {'torch': 'torch==2.13.0', 'mmcv': 'mmcv==2.1.0',
            'setuptools': 'setuptools<81', 'ftfy': 'ftfy'}


def state(**found):
    return dict(found={**dict.fromkeys((*REQUIRED, setup_env.OPENCV)),
                       **found})


def test_requirements_are_read():
    stack = setup_env.read_requirements(
        ROOT / 'requirements' / 'openmmlab.txt')
    assert stack['mmcv'] == 'mmcv==2.1.0'
    assert stack['setuptools'] == 'setuptools<81'
    assert list(stack) == ['torch', 'mmengine', 'mmcv', 'mmdet',
                           'mmsegmentation', 'mmpretrain', 'torchvision',
                           'grad-cam', 'setuptools', 'wheel', 'ninja',
                           'ftfy', 'regex']


def test_missing():
    assert setup_env.missing(state(), REQUIRED) == list(REQUIRED.values())
    good = dict(torch='2.13.0+cpu', mmcv='2.1.0', setuptools='80.9.0',
                ftfy='6')
    assert setup_env.missing(state(**good), REQUIRED) == []
    bad = dict(good, mmcv='2.2.0', setuptools='81.0')
    assert setup_env.missing(state(**bad), REQUIRED) == [
        'mmcv==2.1.0', 'setuptools<81']


def test_constraints_hold_what_one_package_would_change(tmp_path, monkeypatch):
    monkeypatch.setattr(setup_env, 'LOG', str(tmp_path / 'setup.log'))
    found = state(torch='2.4.1', setuptools='65.5.0')
    for own, torch, setuptools in (
            (True, 'torch==2.13.0', 'setuptools<81'),
            (False, 'torch==2.4.1', 'setuptools==65.5.0')):
        path = setup_env.write_constraints(found, REQUIRED, own)
        assert Path(path).read_text().splitlines() == [
            torch, 'mmcv==2.1.0', setuptools, 'ftfy']
    found = state(**{setup_env.OPENCV: '4.8.1.78'})
    for own, line in ((True, 'ftfy'),
                      (False, 'opencv-python-headless==4.8.1.78')):
        path = setup_env.write_constraints(found, REQUIRED, own)
        assert Path(path).read_text().splitlines()[-1] == line


def test_an_own_environment_is_checked_not_changed():
    setup_env.check_foreign(
        state(torch='2.4.1', mmcv='2.1.3'), REQUIRED, {}, 'py')
    for wrong in (dict(torch='1.13.1'), dict(mmcv='2.2.0')):
        with pytest.raises(setup_env.SetupError,
                           match='does not fit: run `py -m pip install'):
            setup_env.check_foreign(state(**wrong), REQUIRED, {}, 'py')


def test_stacks_are_not_mixed():
    """They have the same modules under other distribution names."""
    others = setup_env.other_stacks('openmmlab')
    assert others == dict.fromkeys(
        ['onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection',
         'onedl-mmsegmentation', 'onedl-mmpretrain'], 'onedl')
    assert set(setup_env.other_stacks('onedl')) == {
        'mmengine', 'mmcv', 'mmdet', 'mmsegmentation', 'mmpretrain'}
    found = state(**{'onedl-mmengine': '0.10.12'})
    with pytest.raises(setup_env.SetupError, match='STACK=onedl'):
        setup_env.check_foreign(
            found, REQUIRED, {'onedl-mmengine': 'onedl'}, 'py')


@pytest.mark.parametrize('version', [(3, 9), (3, 13)])
def test_a_wrong_python(version):
    with pytest.raises(setup_env.SetupError, match='3.10 to 3.12 do'):
        setup_env.check_version(version)
    setup_env.check_version((3, 11))


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name: None)
    with pytest.raises(setup_env.SetupError, match='apt-get install g..'):
        setup_env.check_compiler('python', __file__)


def test_no_headers(monkeypatch):
    monkeypatch.setattr(setup_env.shutil, 'which', lambda name: name)
    with pytest.raises(setup_env.SetupError, match='install python3-dev'):
        setup_env.check_compiler('python', '/nowhere/Python.h')


@pytest.mark.parametrize('printed, advice', [
    ('error: externally-managed-environment', 'virtual environment'),
    ("NewConnectionError('...')", 'check the network'),
    ('ERROR: No matching distribution found for x', 'check the network'),
    ('OSError: [Errno 28] No space left on device', 'disk is full'),
    ('c++: fatal error: Killed signal terminated', 'MAX_JOBS=1'),
    ('something else', 'see the end of the log'),
])
def test_a_failed_step_says_what_to_do(printed, advice, tmp_path, monkeypatch,
                                       capsys):
    monkeypatch.setattr(setup_env, 'LOG', str(tmp_path / 'setup.log'))
    code = f'print({printed!r}); raise SystemExit(1)'
    with pytest.raises(setup_env.SetupError) as error:
        setup_env.run('a step', 'no time', [sys.executable, '-c', code], 'py')
    assert advice in str(error.value) and '\n' not in str(error.value)
    assert 'run the same command again' in str(error.value)
    assert printed in (tmp_path / 'setup.log').read_text()
    assert 'a step, no time' in capsys.readouterr().out


def test_progress_of_a_build(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(setup_env, 'LOG', str(tmp_path / 'setup.log'))
    clock = iter(range(0, 10000, 20))
    monkeypatch.setattr(setup_env.time, 'time', lambda: next(clock))
    setup_env.run('a build', 'once', [
        sys.executable, '-c', 'for i in range(1, 9): print(f"[{i}/8] a.o")'],
        'py')
    printed = capsys.readouterr().out
    assert '3 of 8 files' not in printed  # too early to tell
    assert '4 of 8 files, 1:20 min spent, about 1:20 min left' in printed
    assert '8 of 8 files, 2:40 min spent, about 0:00 min left' in printed


def test_this_environment_is_complete(capsys):
    """The one that runs the tests: the set-up has nothing left to do."""
    names = {dist.name for dist in importlib.metadata.distributions()}
    stack = 'onedl' if 'onedl-mmengine' in names else 'openmmlab'
    setup_env.set_up(Namespace(stack=stack, python=sys.executable, venv=None))
    assert capsys.readouterr().out == ''
