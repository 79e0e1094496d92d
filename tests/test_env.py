"""`tools/env.py`: what is a fault and what is none, the lines to type, and
environments in which little or nothing can be imported."""
import os
import re
import shlex
import subprocess
import venv
from importlib.util import module_from_spec, spec_from_file_location

import pytest
from conftest import ROOT

TOOL = ROOT / 'tools' / 'env.py'
spec = spec_from_file_location('env', TOOL)
env = module_from_spec(spec)
spec.loader.exec_module(env)

VERSIONS = dict(torch='2.1.2+cu118', mmcv='2.1.0', transformers='4.9')
LINUX = 'Linux x86_64'


def check(name, modules, machine=LINUX):
    """The row of a module in a sound environment with some facts changed."""
    facts = {name: dict(error='', version=VERSIONS.get(owner, '1.0'),
                        owners={owner: VERSIONS.get(owner, '1.0')})
             for name, (owner, *_) in env.MODULES.items()}
    for changed, change in modules.items():
        facts[changed].update(change)
    return env.check(name, facts, machine)


def absent(name):
    return dict(owners={}, error='ModuleNotFoundError: No module named '
                                 f"'{name.partition('.')[0]}'")


EXT = dict(error="ModuleNotFoundError: No module named 'mmcv._ext'")
GONE = "ModuleNotFoundError: No module named 'mmcv'"
CAP = dict(error='AssertionError: MMCV==2.2.0 is used but incompatible.',
           file='/site/mmdet/__init__.py')
FIVE = dict(version='5.1.0')
TYPE_ERROR = dict(error='TypeError: NoneType takes no arguments')
NMS = 'operator torchvision::nms does not exist'
FAULTS = [  # the module, other facts, words of the line to type
    ('torch', dict(torch=absent('torch')), ['docs/install.md']),
    ('torch', dict(torch=dict(version='1.13.1')), []),
    ('mmcv.ops', {'mmcv.ops': dict(error='mmcv/_ext.so: undefined symbol: _Z')},
     ['uninstall -y mmcv && ', 'mmcv==2.1.0 ', '/cu118/torch2.1/']),
    ('mmcv.ops', {'mmcv.ops': dict(EXT, owners={'mmcv-lite': '2.1.0'})},
     ['uninstall -y mmcv-lite && ', 'mmcv==2.1.0 ']),
    ('mmcv.ops', {'mmcv.ops': dict(error=GONE)}, ['uninstall', 'mmcv==2.1.0 ']),
    ('mmdet.models', {'mmcv.ops': absent('mmcv'),
                      'mmdet.models': dict(error=GONE)}, ['mmcv==2.1.0 ']),
    ('mmdet.models', {'mmdet.models': CAP}, [
        'sed ', "'2.3.0'", '/site/mmdet/__init__.py']),
    ('mmengine', dict(mmengine=dict(error="No module named 'pkg_resources'")),
     ['"setuptools<81"']),
    ('mmpretrain.models', {'mmpretrain.models': TYPE_ERROR,
                           'transformers': FIVE}, ['"transformers<5"']),
    ('mmpretrain.models', {'mmcv.ops': EXT, 'mmpretrain.models': TYPE_ERROR,
                           'transformers': FIVE}, []),  # it follows from mmcv
    ('mmpretrain.models', {'mmpretrain.models': TYPE_ERROR}, []),
    ('torchvision', dict(torchvision=dict(error=NMS)), [
        'torchvision==0.16.2 ', '/whl/cu118']),
    ('torchvision', dict(torchvision=dict(error=NMS), torch=dict(
        version='2.0.1+cpu')), ['torchvision==0.15.2 ', '/whl/cpu']),
    ('cv2', dict(cv2=dict(error='ImportError: libGL.so.1: cannot open')),
     ['libgl1', 'opencv-python-headless']),
    ('mmdet.models', {'mmdet.models': dict(
        error="No module named 'mmcv.runner'")}, []),  # for an old mmcv
    ('mmcv.ops', {'mmcv.ops': dict(error='crashed, status -11')}, []),
    ('mmcv.ops', {'mmcv.ops': dict(
        owners={'mmcv': '2.1.0', 'onedl-mmcv': '2.3.6'})}, [])]


@pytest.mark.parametrize('name, modules, words', FAULTS)
def test_a_fault_and_its_line(name, modules, words):
    mark, _, line = check(name, modules)
    assert mark == 'FAULT'
    assert [word for word in words if word not in line] == []
    assert bool(line) == bool(words)
    typed = shlex.split(line, comments=True)
    assert not any(word.startswith('torch') for word in typed) or (
        '--no-deps' in typed or name == 'torch')  # torch is not moved


@pytest.mark.parametrize('name, modules, mark, words', [
    ('torch', {}, 'ok', 'torch 2.1.2+cu118'),
    ('mmseg.models', {}, 'ok', 'mmsegmentation 1.0'),
    ('transformers', {'transformers': absent('transformers')}, '-',
     'not installed'),
    ('transformers', {'transformers': FIVE}, 'ok', 'transformers'),
    ('mmcv.ops', {'mmcv.ops': dict(owners={'onedl-mmcv': '2.3.6'})}, 'ok',
     'onedl-mmcv 2.3.6'),
    ('cv2', dict(cv2=dict(owners={name: '4.9' for name in
                                  env.MODULES['cv2']})), 'ok', '4.9')])
def test_what_breaks_nothing(name, modules, mark, words):
    found = check(name, modules)
    assert (found[0], found[2]) == (mark, '') and words in found[1]


@pytest.mark.parametrize('version, machine, words', [
    ('2.0.1+cu117', LINUX, 'mmcv==2.0.1 .*/cu117/torch2.0/'),
    ('2.1.0+cpu', 'Windows AMD64', 'mmcv==2.1.0 .*/cpu/torch2.1/'),
    ('2.4.1+cu121', LINUX, 'mmcv==2.2.0 .*/cu121/torch2.4/'),
    ('2.4.1+cu124', LINUX, '--extra-index-url https://miropsota.github.io/'
     r'torch_packages_builder mmcv==2.2.0\+pt2.4.1cu124$'),
    ('2.11.0+cu128', LINUX, r'mmcv==2.2.0\+a8073c7pt2.11.0cu128$'),
    ('2.13.0+cpu', 'Darwin arm64', 'build it'),
    ('2.4.1+rocm6.0', LINUX, 'build it'),
    ('2.14.0+cu130', LINUX, 'build it')])
def test_the_mmcv_of_a_torch(version, machine, words):
    line = check('mmcv.ops', {'torch': dict(version=version),
                              'mmcv.ops': EXT}, machine)[2]
    assert re.search(words, line)
    assert ('build it' in line) or ' --no-deps --only-binary mmcv ' in line


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
    assert lines[0][1].startswith('uv pip install ')  # there is no pip
    subprocess.run(lines[1][1], shell=True, check=True)
    init, = tmp_path.glob('lib/python*/site-packages/mmseg/__init__.py')
    assert init.read_text() == cap.replace("= '2.2.0'", "= '2.3.0'", 1)
