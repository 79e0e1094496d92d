"""Installing moves nothing: not a package, not a file."""
import json
import shutil
import subprocess
import sys
import venv
import zipfile

import pytest
from conftest import ROOT

# What a project has, and what pip could replace it with.
CLASSIC = {
    'torch': '2.1.2', 'torchvision': '0.16.2', 'numpy': '1.26.4',
    'mmcv': '2.1.0', 'mmengine': '0.10.7', 'mmdet': '3.3.0',
    'mmsegmentation': '1.2.2', 'mmpretrain': '1.2.0', 'ftfy': '6.0',
    'regex': '2024.1', 'transformers': '4.37.2', 'huggingface-hub': '0.25.2'}
LOWEST = {**CLASSIC, 'torch': '2.0.1', 'mmcv': '2.0.1', 'mmengine': '0.8.4',
          'mmdet': '3.0.0', 'mmsegmentation': '1.0.0', 'mmpretrain': '1.0.0'}
TOOLS = {'supervision': '0.31.0', 'onnx': '1.19', 'onnxscript': '0.5.6',
         'onnxruntime': '1.23.2', 'grad-cam': '1.5.5'}
NEWEST = dict.fromkeys([*CLASSIC, *TOOLS], '99.0')


@pytest.fixture(scope='module')
def index(dist, tmp_path_factory):
    """Wheels without content: the newest of everything, and the tools."""
    folder = tmp_path_factory.mktemp('index')
    for name, version in [*NEWEST.items(), *TOOLS.items()]:
        stem = f'{name.replace("-", "_")}-{version}'
        with zipfile.ZipFile(folder / f'{stem}-py3-none-any.whl', 'w') as file:
            for member, text in dict(
                    METADATA=metadata(name, version), WHEEL='Wheel-Version: '
                    '1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
                    RECORD='').items():
                file.writestr(f'{stem}.dist-info/{member}', text)
    shutil.copy(next(dist.glob('*.whl')), folder)
    return folder


def metadata(name, version):
    return f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n'


def resolve(index, folder, installed, extras):
    """What pip would install: ``{name: version}``."""
    venv.create(folder, symlinks=True)
    site, = folder.glob('lib/python*/site-packages')
    for name, version in installed.items():
        info = site / f'{name.replace("-", "_")}-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(metadata(name, version))
    wheel, = index.glob('mmiformer-*.whl')
    report = folder / 'report.json'
    subprocess.run(
        [sys.executable, '-m', 'pip', '--python', folder / 'bin' / 'python',
         'install', '--quiet', '--dry-run', '--no-index', '--find-links',
         index, '--report', report,
         f'{wheel}[{extras}]' if extras else wheel], check=True)
    return {item['metadata']['name']: item['metadata']['version']
            for item in json.loads(report.read_text())['install']}


@pytest.mark.parametrize('installed', [
    CLASSIC, LOWEST, {**CLASSIC, 'torch': '2.13.0', 'numpy': '2.4.0',
                      'mmcv': '2.2.0', 'huggingface-hub': '2.4.0'}],
    ids=['classic', 'lowest', 'newest'])
def test_the_package_and_its_extras_leave_what_is_there(
        installed, index, tmp_path):
    found = resolve(index, tmp_path, installed, 'det,seg,cls')
    assert found == {'mmiformer': found['mmiformer']}


def test_the_tools_bring_themselves_alone(index, tmp_path):
    found = resolve(index, tmp_path, CLASSIC, 'predict,export,cam')
    assert found.keys() == {'mmiformer', *TOOLS}


def test_without_torch_none_is_chosen(index, tmp_path):
    found = resolve(index, tmp_path, {}, '')
    assert found.keys() == {'mmiformer', 'huggingface-hub'}


def test_an_old_torch_is_said_by_the_import():
    code = ("import torch; torch.__version__ = '1.13.1+cu117'; "
            'import mmiformer')
    result = subprocess.run([sys.executable, '-c', code], cwd=ROOT,
                            capture_output=True, text=True)
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith('ImportError') and '1.13.1+cu117' in line
    assert '2.0' in line and 'pip install' not in line


@pytest.fixture
def checkout(tmp_path):
    """What `make setup` reads."""
    for name in ('requirements', 'Makefile', 'setup.py'):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(str(ROOT / name), str(tmp_path / name))
    (tmp_path / 'tools').mkdir()
    (tmp_path / 'tools' / 'env.py').touch()
    version = '.'.join(map(str, sys.version_info[:2]))
    return tmp_path, ('make', f'VERSIONS={version}', 'PIP=true')


@pytest.mark.parametrize('made', [True, False])
def test_the_set_up_keeps_what_it_finds(made, checkout):
    """Also in a venv without pip, as uv makes them."""
    folder, make = checkout
    if made:
        venv.create(folder / '.venv', symlinks=True)
    files = [folder / '.venv' / 'mine', folder / 'work_dirs' / 'best.pth',
             folder / 'data' / 'coco']
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    for target in ('setup', 'clean'):
        subprocess.run([*make, target], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL)
    assert all(file.exists() for file in files)
    subprocess.run([folder / '.venv/bin/python', '-c', 'import pip'],
                   check=True)


def test_the_set_up_names_the_pythons_that_fit(checkout):
    folder, make = checkout
    result = subprocess.run(
        [*make, 'VERSIONS=2.9', 'HOME=/none', 'setup'], cwd=folder,
        capture_output=True, text=True)
    assert result.returncode != 0
    assert 'openmmlab' in result.stdout and '2.9' in result.stdout
    assert not (folder / '.venv').exists()


@pytest.mark.parametrize('stack, versions', [
    ('lowest', '3.8'), ('classic', '3.10 3.11 3.9 3.8')])
def test_a_stack_takes_the_pythons_that_its_torch_has(
        stack, versions, checkout):
    folder, (make, *_) = checkout
    command = [make, '-n', 'setup', f'STACK={stack}']
    printed = subprocess.run(command, cwd=folder, check=True,
                             capture_output=True, text=True).stdout
    assert f'needs Python {versions}\'' in printed
    command[-1] = 'STACK=nonsense'
    failed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert failed.returncode and 'nonsense' in failed.stderr
    assert 'classic' in failed.stderr
