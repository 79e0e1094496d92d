"""`tools/env.py`: each fault, its line to type, and an environment in which
nothing can be imported."""
import copy
import importlib.util
import os
import re
import runpy
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import setuptools
from conftest import ROOT
from packaging.requirements import Requirement
from test_setup_env import load, setup_env

TOOL = ROOT / 'tools' / 'env.py'
env = load(TOOL)

MMCV = ('pip install "setuptools<81" wheel ninja && pip install '
        '--no-cache-dir --no-build-isolation "mmcv<2.2.0,>=2.1.0"')
SOUND = dict(
    python='3.11.7, Linux',
    installed={
        'torch': '2.13.0', 'torchvision': '0.28.0', 'mmengine': '0.10.7',
        'opencv-python': '5.0.0', 'mmcv': '2.1.0', 'mmdet': '3.3.0',
        'mmsegmentation': '1.2.2', 'mmiformer': '0.1.0',
        'huggingface-hub': '2.4.0', 'setuptools': '80.9.0'},
    requires={Requirement(line).name: Requirement(line) for line in (
        'torch>=2.6', 'huggingface-hub>=1.0',
        'mmengine<0.11,>=0.10.7; extra == "det"',
        'mmcv<2.2.0,>=2.1.0; extra == "det"',
        'mmdet<3.4,>=3.3.0; extra == "det"',
        'mmpretrain<1.3,>=1.2.0; extra == "cls"',
        'onedl-mmcv>=2.3.6; extra == "onedl-det"')},
    pkg_resources=True, gpus=['NVIDIA H100, 570.1'], nvcc='release 13.0',
    hidden=None, compiler='/usr/bin/c++', weights=None, disk={'/data': 50.},
    imports={
        'torch': dict(error=None, version='2.13.0+cu130', cuda='13.0',
                      available=True),
        'torchvision': dict(error=None, operators=True),
        'cv2': dict(error=None, version='5.0.0'),
        'mmengine': dict(error=None),
        'mmcv.ops': dict(error=None, compiler='GCC 12.2', cuda='13.0'),
        'mmdet.models': dict(error=None), 'mmseg.models': dict(error=None),
        'mmpretrain.models': {}, 'mmiformer': dict(error=None)})


def check(**changes):
    """The rows of the sound environment with some facts changed: dicts are
    merged, a version of None in them removes a distribution."""
    facts = copy.deepcopy(SOUND)
    for key, value in changes.items():
        if isinstance(value, dict):
            facts[key].update(value)
            if key == 'installed':
                facts[key] = {name: version for name, version in
                              facts[key].items() if version}
        else:
            facts[key] = value
    return env.check(facts)


def marked(rows):
    return [row for row in rows if row.mark in (env.NOTE, env.FAULT)]


def failed(error):
    return dict(error=error)


def test_a_sound_environment():
    rows = check()
    assert marked(rows) == []
    found = {row.name: row.found for row in rows}
    assert found['torch'] == 'torch 2.13.0; cuda 13.0'
    assert found['mmcv.ops'] == 'mmcv 2.1.0; compiler GCC 12.2; cuda 13.0'
    assert found['mmpretrain.models'] == 'not installed'
    assert found['GPU'] == 'NVIDIA H100, 570.1'


TORCHVISION = ('pip uninstall -y torchvision && pip install torchvision '
               '"torch==2.13.0+cu130" --index-url '
               'https://download.pytorch.org/whl/cu130')
FAULTS = dict(  # facts, the row, the start of what to type
    mmcv_of_another_release=(
        dict(installed={'mmcv': '2.2.0'}, imports={'mmdet.models': failed(
            'AssertionError: MMCV==2.2.0 is used but incompatible.')}),
        'mmdet.models', f'pip uninstall -y mmcv && {MMCV}'),
    mmengine_of_another_release=(
        dict(imports={'mmdet.models': failed(
            'AssertionError: MMEngine==1.0.0 is used but incompatible.')}),
        'mmdet.models', 'pip install "mmengine<0.11,>=0.10.7"'),
    no_mmcv=(
        dict(installed={'mmcv': None}, imports={
            'mmcv.ops': {}, 'mmdet.models': failed(
                "ModuleNotFoundError: No module named 'mmcv'")}),
        'mmdet.models', MMCV),
    mmcv_without_operators=(
        dict(installed={'mmcv': None, 'mmcv-lite': '2.1.0'},
             imports={'mmcv.ops': failed(
                 "ModuleNotFoundError: No module named 'mmcv._ext'")}),
        'mmcv.ops', f'pip uninstall -y mmcv-lite && {MMCV}'),
    mmcv_for_another_torch=(
        dict(imports={'mmcv.ops': failed(
            'ImportError: mmcv/_ext.so: undefined symbol: _ZN3c10')}),
        'mmcv.ops', f'pip uninstall -y mmcv && {MMCV}'),
    mmcv_crashes=(
        dict(imports={'mmcv.ops': failed('crashed, status -11')}),
        'mmcv.ops', f'pip uninstall -y mmcv && {MMCV}'),
    mmcv_without_cuda=(
        dict(imports={'mmcv.ops': dict(error=None, cuda='not available')}),
        'mmcv on the GPU', 'export FORCE_CUDA=1 && pip uninstall -y mmcv'),
    forks_without_operators=(
        dict(installed={
            'mmcv': None, 'mmengine': None, 'mmdet': None,
            'mmsegmentation': None, 'onedl-mmcv': '2.3.6',
            'onedl-mmengine': '0.10.12'}, imports={'mmcv.ops': failed(
                "ModuleNotFoundError: No module named 'mmcv._ext'")}),
        'mmcv.ops', 'pip uninstall -y onedl-mmcv && ' + MMCV.replace(
            'mmcv<2.2.0,>=2.1.0', 'onedl-mmcv>=2.3.6')),
    both_stacks=(
        dict(installed={'onedl-mmcv': '2.3.6'}),
        'stacks', 'pip uninstall -y mmcv mmdet mmengine mmsegmentation '
        'onedl-mmcv && pip install "setuptools<81" wheel ninja && pip install '
        '--no-cache-dir --no-build-isolation "mmengine<0.11,>=0.10.7" '
        '"mmcv<2.2.0,>=2.1.0" "mmdet<3.4,>=3.3.0" "mmsegmentation"'),
    torchvision_of_another_build=(
        dict(imports={'torchvision': failed(
            'RuntimeError: operator torchvision::nms does not exist')}),
        'torchvision', TORCHVISION),
    no_torchvision=(
        dict(imports={'torchvision': {}, 'mmpretrain.models': failed(
            "ModuleNotFoundError: No module named 'torchvision'")}),
        'mmpretrain.models', TORCHVISION),
    no_pkg_resources=(
        dict(pkg_resources=False, installed={'setuptools': '82.0'}),
        'pkg_resources', 'pip install "setuptools<81"'),
    no_ftfy=(
        dict(imports={'mmseg.models': failed(
            "ModuleNotFoundError: No module named 'ftfy'")}),
        'mmseg.models', 'pip install ftfy'),
    no_opencv=(
        dict(installed={'opencv-python': None}, imports={
            'cv2': {}, 'mmengine': failed(
                "ModuleNotFoundError: No module named 'cv2'")}),
        'mmengine', 'pip install opencv-python'),
    opencv_removed_by_half=(
        dict(imports={'cv2': failed("AttributeError: no '__version__'")}),
        'cv2', 'pip uninstall -y opencv-python; pip install opencv-python'),
    opencv_without_libgl=(
        dict(imports={'cv2': failed(
            'ImportError: libGL.so.1: cannot open shared object file')}),
        'cv2', 'apt-get install -y libgl1'),
    no_torch=(
        dict(installed={'torch': None}, imports={'torch': {}}), 'torch',
        'pip install "torch>=2.6"'),
    torch_broken=(dict(imports={'torch': failed('OSError: libc10.so')}),
                  'torch', 'pip install --force-reinstall torch'),
    no_mmengine=(dict(imports={'mmengine': {}}), 'mmengine',
                 'pip install "mmengine<0.11,>=0.10.7"'),
    no_mmiformer=(dict(imports={'mmiformer': {}}), 'mmiformer',
                  'pip install .'),
    old_torch=(dict(installed={'torch': '2.5.1'}), 'torch',
               'pip install "torch>=2.6"'),
    no_hub=(dict(installed={'huggingface-hub': None}), 'huggingface-hub',
            'pip install "huggingface-hub>=1.0"'),
    something_else=(
        dict(imports={'mmdet.models': failed('NameError: x')}),
        'mmdet.models', 'python -c "import mmdet.models"'),
    old_driver=(
        dict(imports={'torch': dict(error=None, version='2.13.0+cu130',
                                    cuda='13.0', available=False)}),
        'GPU', 'a driver for CUDA 13.0'),
    full_disk=(dict(disk={'/data': .5}), 'disk', 'free some space'),
    no_folder_of_weights=(dict(weights='/not/there'), 'weights',
                          'unset MMIFORMER_WEIGHTS'))


@pytest.mark.parametrize('name', FAULTS)
def test_a_fault_has_its_line(name):
    changes, where, line = FAULTS[name]
    rows = [row for row in marked(check(**changes)) if row.cure
            and row.mark == env.FAULT]
    assert [row.name for row in rows].count(where) == 1
    assert {row.cure.startswith(line) for row in rows} == {True}


CPU = dict(error=None, version='2.13.0+cpu', cuda=None, available=False)
NOTES = dict(
    untested_release=(dict(installed={'mmdet': '3.2.0'}), 'mmdet',
                      'pip install "mmdet<3.4,>=3.3.0"'),
    untested_mmcv=(dict(installed={'mmcv': '2.0.1'}), 'mmcv',
                   f'pip uninstall -y mmcv && {MMCV}'),
    no_framework=(dict(imports={'mmdet.models': {}, 'mmseg.models': {}}),
                  'frameworks', 'pip install "mmdet<3.4,>=3.3.0"'),
    nothing_but_mmengine=(
        dict(installed={'mmcv': None}, imports={
            'mmcv.ops': {}, 'mmdet.models': {}, 'mmseg.models': {}}),
        'frameworks', f'{MMCV} && pip install "mmdet<3.4,>=3.3.0"'),
    two_opencvs=(
        dict(installed={'opencv-python-headless': '4.12.0'}), 'OpenCV',
        'pip install opencv-python==5.0.0 opencv-python-headless==5.0.0'),
    torchvision_without_operators=(
        dict(imports={'torchvision': dict(error=None, operators=False)}),
        'torchvision', TORCHVISION),
    no_compiler=(dict(compiler=None), 'compiler', 'apt-get install -y g++'),
    no_nvcc=(dict(nvcc=None), 'nvcc',
             'install the CUDA toolkit 13.0'),
    cpu_torch=(dict(imports={'torch': CPU}), 'GPU',
               'pip install --force-reinstall torch==2.13.0'),
    hidden_gpu=(dict(hidden='', imports={'torch': dict(CPU, cuda='13.0')}),
                'GPU', 'unset CUDA_VISIBLE_DEVICES'))


@pytest.mark.parametrize('name', NOTES)
def test_a_note_has_its_line(name):
    changes, where, line = NOTES[name]
    row, = marked(check(**changes))
    assert (row.mark, row.name) == (env.NOTE, where)
    assert row.cure.startswith(line)


@pytest.mark.parametrize('changes', [
    dict(installed={'opencv-python-headless': '5.0.0'}),
    dict(gpus=[], nvcc=None, imports={'torch': CPU}),
    dict(weights=str(ROOT)),
    dict(pkg_resources=False, installed={  # the forks need none
        'mmcv': None, 'mmengine': None, 'mmdet': None, 'mmsegmentation': None,
        'onedl-mmcv': '2.3.6', 'onedl-mmengine': '0.10.12'})])
def test_what_breaks_nothing(changes):
    assert marked(check(**changes)) == []


def test_what_follows_from_a_fault_has_no_line_of_its_own():
    error = "AttributeError: module 'cv2' has no attribute 'IMREAD_COLOR'"
    rows = marked(check(imports={
        'cv2': failed('AttributeError'), 'mmcv.ops': failed(error),
        'mmdet.models': failed(error)}))
    assert [row.name for row in rows if not row.cure] == [
        'mmcv.ops', 'mmdet.models']
    rows = marked(check(imports={name: failed(
        f'{name}: MMCV==3') for name in ('mmdet.models', 'mmseg.models')}))
    assert [bool(row.cure) for row in rows] == [True, False]


def run_in_new_venv(folder, *command, links=(), **modules):
    """In an environment in which these are all that can be imported.

    Returns the exit status, {row: (mark, found)}, and all that was printed.
    """
    venv.create(folder, symlinks=True)
    site, = folder.glob('lib/python*/site-packages')
    packaging = importlib.util.find_spec('packaging').origin
    for path in (Path(packaging).parent, *links):
        (site / path.name).symlink_to(path)
    for name, code in modules.items():
        (site / f'{name}.py').write_text(code)
    variables = {name: value for name, value in os.environ.items()
                 if name != 'PYTHONPATH'}
    result = subprocess.run(
        [folder / 'bin' / 'python', *command], cwd=folder,
        capture_output=True, text=True, env=variables)
    cells = [[cell.strip() for cell in line.strip('|').split(' | ')]
             for line in result.stdout.splitlines() if line[:2] == '| ']
    rows = {name: (mark, found) for mark, name, found in cells}
    return result.returncode, rows, result.stdout + result.stderr


@pytest.fixture
def setup_arguments(monkeypatch):
    """What setup.py says of the package."""
    given = {}
    monkeypatch.setattr(setuptools, 'setup', lambda **kw: given.update(kw))
    runpy.run_path(str(ROOT / 'setup.py'))
    return given


def test_where_nothing_is_installed(tmp_path):
    status, rows, printed = run_in_new_venv(tmp_path, TOOL)
    assert status == 1, printed
    assert rows['torch'] == ('FAULT', 'not installed')
    assert rows['mmiformer'] == ('FAULT', 'not installed')
    assert 'FAULT mmiformer: pip ' in printed


@pytest.mark.parametrize('modules, fault', [
    ({}, 'not installed'),
    (dict(torch='raise OSError("libc10.so")'),
     'not by pip: OSError: libc10.so')])
def test_the_command_where_the_package_cannot_be_imported(
        modules, fault, setup_arguments, tmp_path):
    """As pip installs it: its packages, its modules, its entry point."""
    script, = setup_arguments['entry_points']['console_scripts']
    module, function = script.partition(' = ')[2].split(':')
    names = ['mmiformer', *(
        f'{name}.py' for name in setup_arguments.get('py_modules', []))]
    status, rows, printed = run_in_new_venv(
        tmp_path, '-c', f'from {module} import {function}; import sys; '
        f'sys.argv = ["mmiformer", "env"]; sys.exit({function}())',
        links=[ROOT / name for name in names], **modules)
    assert status == 1, printed
    assert rows['torch'] == ('FAULT', fault)
    assert 'FAULT torch: pip install ' in printed


def test_an_import_that_fails_exits_or_crashes(tmp_path):
    status, found, printed = run_in_new_venv(
        tmp_path, TOOL, torch='print("@[")\nraise OSError("a | b\\nc")',
        cv2='raise SystemExit(0)', mmengine='import os; os.abort()',
        mmdet='')
    assert found['torch'] == ('FAULT', 'not by pip: OSError: a b c'), printed
    assert found['cv2'] == ('FAULT', 'not by pip: SystemExit: 0')
    assert found['mmengine'] == ('FAULT', 'not by pip: crashed, status -6')
    assert found['torchvision'] == ('-', 'not installed')
    assert found['mmdet.models'] == ('-', 'not by pip: not tried')
    assert status == 1


@pytest.mark.slow
def test_the_environment_of_the_tests():
    result = subprocess.run(
        [sys.executable, TOOL], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert re.search(r'\| ok +\| mmcv.ops +\| .*mmcv 2.*GCC', result.stdout)


@pytest.mark.parametrize('stack, extras', [
    ('openmmlab', ('det', 'seg', 'cls')),
    ('onedl', ('onedl-det', 'onedl-seg', 'onedl-cls'))])
def test_the_set_up_installs_what_the_extras_allow(
        stack, extras, setup_arguments):
    given = setup_arguments
    lines = setup_env.read_requirements(stack)
    asked = [*given['install_requires'], *(
        line for extra in extras for line in given['extras_require'][extra])]
    for line in map(Requirement, asked):
        pinned = Requirement(lines[env.canonicalize_name(line.name)])
        for version in pinned.specifier:
            assert line.specifier.contains(version.version), (line, pinned)
    assert stack == 'onedl' or lines['setuptools'] == env.SETUPTOOLS
