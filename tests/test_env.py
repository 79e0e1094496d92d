"""`tools/env.py`: what is a fault and what is none, the lines to type, and
environments in which little or nothing can be imported."""
import copy
import os
import shlex
import subprocess
import sys
import venv
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from conftest import ROOT

TOOL = ROOT / 'tools' / 'env.py'
spec = spec_from_file_location('env', TOOL)
env = module_from_spec(spec)
spec.loader.exec_module(env)

GPU = 'NVIDIA H100'
VERSIONS = dict(torch='2.1.2+cu118', mmcv='2.1.0', mmdet='3.3.0')
SOUND = {name: dict(error='', version=VERSIONS.get(dists[0], '1.0'),
                    owners={dists[0]: VERSIONS.get(dists[0], '1.0')})
         for name, dists in env.MODULES.items()}
SOUND['torch'].update(cuda='11.8', gpu=GPU)
ABSENT = {name: dict(owners={}, error=f"ModuleNotFoundError: No module named "
                                      f"'{name.partition('.')[0]}'")
          for name in env.MODULES}


def check(modules):
    """{name: row} of the sound environment with some facts changed."""
    facts = copy.deepcopy(SOUND)
    for name, change in modules.items():
        facts[name].update(change)
    return {row[1]: row for row in env.check(facts)}


def faults(rows):
    return {name: row[3] for name, row in rows.items()
            if row[0] == env.FAULT}


def test_a_sound_environment():
    rows = check({})
    assert faults(rows) == {} and {row[3] for row in rows.values()} == {''}
    assert rows['torch'][2] == 'torch 2.1.2+cu118'
    assert rows['mmseg'][:3] == ('ok', 'mmseg', 'mmsegmentation 1.0')
    assert rows['GPU'][:3] == ('ok', 'GPU', f'{GPU}, CUDA 11.8')


EXT = "ModuleNotFoundError: No module named 'mmcv._ext'"
CAP = dict(error='AssertionError: MMCV==2.2.0 is used but incompatible.',
           file='/site/mmdet/__init__.py')
FIVE = dict(version='5.1.0', owners=dict(transformers='5.1.0'))
TYPE_ERROR = dict(error='TypeError: NoneType takes no arguments')
MMCV = ('pip uninstall -y mmcv && pip install --no-deps --only-binary mmcv '
        'mmcv==2.1.0 -f https://download.openmmlab.com/mmcv/dist/cu118/'
        'torch2.1/index.html')
FAULTS = dict(  # facts, the row, what to type
    no_torch=(dict(torch=ABSENT['torch']), 'torch',
              'choose torch first, see docs/install.md'),
    old_torch=(dict(torch=dict(version='1.13.1')), 'torch', ''),
    another_torch=({'mmcv.ops': dict(
        error='ImportError: mmcv/_ext.so: undefined symbol: _ZN3c10')},
        'mmcv', MMCV),
    lite=({'mmcv.ops': dict(error=EXT, owners={'mmcv-lite': '2.1.0'})}, 'mmcv',
          MMCV.replace('-y mmcv', '-y mmcv-lite')),
    fork=({'mmcv.ops': dict(error=EXT, owners={'onedl-mmcv': '2.3.6'})}, 'mmcv',
          'pip uninstall -y onedl-mmcv && pip install "setuptools<81" wheel '
          'ninja && pip install --no-deps --no-cache-dir --no-build-isolation '
          'onedl-mmcv'),
    no_mmcv=({'mmcv.ops': ABSENT['mmcv.ops'],
              'mmdet.models': dict(error=ABSENT['mmcv.ops']['error'])},
             'mmdet', MMCV.partition('&& ')[2]),
    files_of_mmcv_are_gone=(
        {'mmcv.ops': dict(error=ABSENT['mmcv.ops']['error'])}, 'mmcv', MMCV),
    cap=({'mmdet.models': CAP}, 'mmdet',
         'sed -i -E "s/^(mmcv_maximum_version|MMCV_MAX) = .*/\\1 = '
         '\'2.3.0\'/" /site/mmdet/__init__.py'),
    setuptools=(dict(mmengine=dict(
        error="ModuleNotFoundError: No module named 'pkg_resources'")),
        'mmengine', 'pip install "setuptools<81"'),
    transformers=({'mmpretrain.models': TYPE_ERROR, 'transformers': FIVE},
                  'mmpretrain', 'pip install "transformers<5"'),
    torchvision=(dict(torchvision=dict(
        error='RuntimeError: operator torchvision::nms does not exist')),
        'torchvision', 'pip install --no-deps --force-reinstall "torchvision=='
        '0.16.*" --index-url https://download.pytorch.org/whl/cu118'),
    torchvision_of_torch_2_0=(dict(
        torch=dict(version='2.0.1', cuda=None),
        torchvision=dict(error='operator torchvision::nms does not exist')),
        'torchvision', 'pip install --no-deps --force-reinstall "torchvision=='
        '0.15.*" --index-url https://download.pytorch.org/whl/cpu'),
    libgl=(dict(cv2=dict(error='ImportError: libGL.so.1: cannot open shared')),
           'cv2', 'apt-get install -y libgl1'),
    old_code=({'mmdet.models': dict(
        error="ModuleNotFoundError: No module named 'mmcv.runner'")},
        'mmdet', ''),
    unknown=({'mmpretrain.models': dict(error='KeyError: 1')}, 'mmpretrain',
             ''),
    crash=({'mmcv.ops': dict(error='crashed, status -11')}, 'mmcv', ''),
    two_owners=({'mmcv.ops': dict(
        owners={'mmcv': '2.1.0', 'onedl-mmcv': '2.3.6'})}, 'mmcv', ''))


@pytest.mark.parametrize('name', FAULTS)
def test_a_fault_and_its_line(name):
    modules, where, line = FAULTS[name]
    first, *others = where.split()  # which have no line of their own
    assert faults(check(modules)) == {first: line, **dict.fromkeys(others, '')}
    words = shlex.split(line, comments=True)
    assert not any(word.startswith('torch') for word in words) or (
        '--no-deps' in words or name == 'no_torch')  # torch is not moved


@pytest.mark.parametrize('modules', [
    {name: ABSENT[name] for name in env.MODULES if name not in env.NEEDED},
    {'mmcv.ops': dict(version='2.2.0', owners=dict(mmcv='2.2.0'))},
    {'mmcv.ops': dict(owners={'onedl-mmcv': '2.3.6'})},
    dict(cv2=dict(owners={name: '4.9' for name in env.MODULES['cv2']})),
    {'transformers': FIVE},
    dict(torch=dict(gpu='', cuda=None, version='2.4.0+cpu'))])
def test_what_breaks_nothing(modules):
    rows = check(modules)
    assert faults(rows) == {} and {row[3] for row in rows.values()} == {''}
    for name in modules:
        assert rows[name.partition('.')[0]][0] == (
            '-' if modules[name] is ABSENT[name] else 'ok')


SOURCE = '"mmcv>=2.0.0,<2.2.0"'


@pytest.mark.parametrize('version, cuda, machine, words', [
    ('2.0.1+cu117', '11.7', 'x86_64', ['mmcv==2.0.1', 'cu117/torch2.0/']),
    ('2.1.0', None, 'AMD64', ['mmcv==2.1.0', '/cpu/torch2.1/']),
    ('2.4.1', '12.1', 'x86_64', ['mmcv==2.2.0 ', '/cu121/torch2.4/']),
    ('2.4.1+cu124', '12.4', 'x86_64', [
        'mmcv==2.2.0+pt2.4.1cu124',
        '--extra-index-url https://miropsota.github.io/torch_packages_builder']),
    ('2.11.0', '12.8', 'x86_64', ['mmcv==2.2.0+a8073c7pt2.11.0cu128']),
    ('2.13.0+cpu', None, 'x86_64', ['mmcv==2.2.0+a8073c7pt2.13.0cpu']),
    ('2.13.0', None, 'arm64', [SOURCE]),
    ('2.4.1+rocm6.0', None, 'x86_64', [SOURCE]),
    ('2.1.0a0+29c30b1', '12.2', 'x86_64', [SOURCE]),
    ('2.14.0+cu130', '13.0', 'x86_64', ['torch >= 2.14']),
    ('1.13.1', None, 'x86_64', [])])
def test_the_mmcv_of_a_torch(version, cuda, machine, words, monkeypatch):
    monkeypatch.setattr(env.platform, 'machine', lambda: machine)
    line = check({'torch': dict(version=version, cuda=cuda),
                  'mmcv.ops': dict(error=EXT)})['mmcv'][3]
    assert [word for word in words if word not in line] == []
    assert (SOURCE in line) == (words == [SOURCE]) and bool(line) == bool(words)
    assert ('--no-deps' in line) == line.startswith('pip uninstall -y mmcv && ')


def run_in_new_venv(folder, *command, links=(), files=()):
    """In an environment without pip, packaging and setuptools, in which only
    these can be imported.

    Returns the exit status, {row: (mark, found)}, and all that was printed.
    """
    venv.create(folder, symlinks=True)
    site, = folder.glob('lib/python*/site-packages')
    for path in links:
        (site / path.name).symlink_to(path)
    for name, text in dict(files).items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    variables = {name: value for name, value in os.environ.items()
                 if name != 'PYTHONPATH'}
    result = subprocess.run(
        [folder / 'bin' / 'python', *command], cwd=folder, env=variables,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    cells = [[cell.strip() for cell in line.strip('|').split(' | ')]
             for line in result.stdout.splitlines() if line[:2] == '| ']
    return result.returncode, {
        name: (mark, found) for mark, name, found in cells}, result.stdout


def test_where_nothing_is_installed(tmp_path):
    status, rows, printed = run_in_new_venv(tmp_path, TOOL)
    assert status == 1, printed
    for name in ('torch', 'mmengine', 'mmiformer'):
        assert rows[name] == ('FAULT', 'not installed')
    assert rows['mmcv'] == rows['transformers'] == ('-', 'not installed')


def test_the_command_where_the_package_cannot_be_imported(tmp_path):
    status, rows, printed = run_in_new_venv(
        tmp_path, '-c', 'import sys, mmiformer_cli; sys.argv = ["", "env"]; '
        'mmiformer_cli.main()', files={'torch.py': 'raise OSError("libc10")'},
        links=[ROOT / name for name in (
            'mmiformer', 'mmiformer_cli.py', 'tools')])
    assert status == 1, printed
    assert rows['torch'] == ('FAULT', 'not by pip; OSError: libc10')
    assert rows['mmiformer'][0] == 'FAULT'


def test_an_import_that_fails_exits_or_crashes(tmp_path):
    """A crash hides nothing of the others; names of distributions are found
    as pip writes them; the cap is raised in the file that asserts it."""
    cap = "MMCV_MAX = '2.2.0'\nassert MMCV_MAX > '2.2.0', 'MMCV==2.2.0 is used'"
    init = "__version__ = '2'\n"
    metadata = 'Metadata-Version: 2.1\nName: {}\nVersion: 2.1.0\n'
    status, rows, printed = run_in_new_venv(tmp_path, TOOL, files={
        'torch.py': 'print("@[")\nraise OSError("a | b\\nc")',
        'cv2.py': 'raise SystemExit(0)', 'numpy.py': 'import os; os.abort()',
        'mmengine.py': 'import pkg_resources', 'mmdet.py': 'import mmseg',
        'mmseg/__init__.py': cap, 'mmseg/models.py': '',
        'mmcv/__init__.py': init, 'mmcv/ops.py': '',
        **{f'{name.replace("-", "_")}-2.1.0.dist-info/METADATA':
           metadata.format(name) for name in ('mmcv', 'mmcv-lite')}})
    assert status == 1, printed
    assert rows['torch'] == ('FAULT', 'not by pip; OSError: a b c')
    assert rows['cv2'] == ('FAULT', 'not by pip; SystemExit: 0')
    assert rows['numpy'] == ('FAULT', 'not by pip; crashed, status -6')
    assert rows['mmcv'][0] == 'FAULT' and rows['mmcv'][1].startswith(
        'mmcv 2.1.0, mmcv-lite 2.1.0; ')
    assert rows['mmdet'] == rows['mmseg'] == (
        'FAULT', 'not by pip; AssertionError: MMCV==2.2.0 is used')
    lines = [line.partition(': ')[::2] for line in printed.splitlines()
             if line.startswith('FAULT ')]
    assert [name for name, _ in lines] == ['FAULT mmengine', 'FAULT mmdet']
    subprocess.run(lines[1][1], shell=True, check=True)
    init, = tmp_path.glob('lib/python*/site-packages/mmseg/__init__.py')
    assert init.read_text() == cap.replace("= '2.2.0'", "= '2.3.0'", 1)


@pytest.mark.slow
def test_the_environment_of_the_tests():
    result = subprocess.run([sys.executable, TOOL], stdout=subprocess.PIPE,
                            text=True)
    assert result.returncode == 0, result.stdout
