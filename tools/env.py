"""Checks the environment: versions, imports, known faults.

    tools/env.py

Prints a table for a bug report, and for a known fault the line to type. The
exit status is 1 if something is broken. It needs nothing but Python: each
module is imported by a process of its own.
"""
import argparse
import importlib
import json
import platform
import re
import subprocess
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, Dict, Tuple

MODULES = {  # what is imported: `import mmdet` alone imports no model
    'torch': ['torch'], 'torchvision': ['torchvision'], 'numpy': ['numpy'],
    'cv2': ['opencv-python', 'opencv-python-headless',
            'opencv-contrib-python', 'opencv-contrib-python-headless'],
    'mmengine': ['mmengine', 'mmengine-lite', 'onedl-mmengine'],
    'mmcv.ops': ['mmcv', 'mmcv-lite', 'mmcv-full', 'onedl-mmcv'],
    'mmdet.models': ['mmdet', 'onedl-mmdetection'],
    'mmseg.models': ['mmsegmentation', 'onedl-mmsegmentation'],
    'mmpretrain.models': ['mmpretrain', 'onedl-mmpretrain'],
    'transformers': ['transformers'], 'huggingface_hub': ['huggingface-hub'],
    'mmiformer': ['mmiformer']}  # from the distributions that ship it
NEEDED = 'torch', 'mmengine', 'mmiformer'
UPSTREAM = '-f https://download.openmmlab.com/mmcv/dist/{2}/torch{1}/index.html'
COMMUNITY = ('--extra-index-url https://miropsota.github.io/'
             'torch_packages_builder mmcv==2.2.0+{}pt{{0}}{{2}}')
WHEELS = {  # the mmcv that is prebuilt for a build of torch
    r'(2\.0)\.\d+\+(cpu|cu117|cu118)': f'mmcv==2.0.1 {UPSTREAM}',
    r'(2\.1)\.\d+\+(cpu|cu118|cu121)': f'mmcv==2.1.0 {UPSTREAM}',
    r'(2\.[2-4])\.\d+\+(cpu|cu118|cu121)': f'mmcv==2.2.0 {UPSTREAM}',
    r'(2\.[2-8])\.\d+\+(cpu|cu\d+)': COMMUNITY.format(''),
    r'(2\.9|2\.1[0-3])\.\d+\+(cpu|cu\d+)': COMMUNITY.format('a8073c7')}
CHILD, ANSWER, TIMEOUT = '--import', '@env ', 180
MACHINE = f'{platform.system()} {platform.machine()}'
COLLECT = '''
from mmengine.utils.dl_utils import collect_env
for name, value in collect_env().items():
    if name != "Python" and "\\n" not in str(value):
        print(f"{name}: {value}")
'''


def run_python(*arguments: str) -> 'subprocess.CompletedProcess[str]':
    return subprocess.run(
        [sys.executable, '-W', 'ignore', *arguments], errors='replace',
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        timeout=TIMEOUT)


def try_import(name: str) -> Dict[str, Any]:
    """The answer of :func:`probe`, or that there was none."""
    try:
        child = run_python(__file__, CHILD, name)
    except subprocess.TimeoutExpired:
        return dict(error=f'not imported in {TIMEOUT} s')
    answer = re.search(f'^{ANSWER}(.*)', child.stdout, re.MULTILINE)
    return json.loads(answer[1]) if answer else dict(
        error=f'crashed, status {child.returncode}')


def probe(name: str) -> None:
    """Imports a module; prints its version, or the error and its file."""
    facts = dict(error='')
    try:
        module = importlib.import_module(name)
        facts['version'] = sys.modules[name.partition('.')[0]].__version__
        if name == 'torch' and '+' not in facts['version']:
            cuda = module.version.cuda  # conda's builds do not say it
            facts['version'] += '+cu' + cuda.replace('.', '') if cuda else (
                '+cpu')
        if name == 'mmengine':  # `_base_ = 'mmdet::...'` does the same
            module.utils.is_installed('numpy')
    except BaseException as error:  # some exit
        facts.update(error=f'{type(error).__name__}: {error}',
                     file=traceback.extract_tb(error.__traceback__)[-1][0])
    print(f'\n{ANSWER}{json.dumps(facts)}', flush=True)


def find_owners(name: str) -> Dict[str, str]:
    """The versions of the installed distributions that ship a module."""
    owners = {}
    for owner in MODULES[name]:
        try:
            owners[owner] = version(owner)
        except PackageNotFoundError:
            continue
    return owners


def check(name: str, modules: Dict[str, Dict[str, Any]],
          machine: str = MACHINE) -> Tuple[str, ...]:
    """Whether a module can be imported and has one owner.

    Args:
        name: Of :data:`MODULES`.
        modules: By name, what :func:`probe` answers, with ``owners``.

    Returns:
        A mark, what was found, and what to type if the fault is known.
    """
    module, root = modules[name], name.partition('.')[0]
    error, owners = module['error'], module['owners']
    if not owners and error == (
            f"ModuleNotFoundError: No module named '{root}'"):
        return 'FAULT' if name in NEEDED else '-', 'not installed', (
            'choose torch first, see docs/install.md' if name == 'torch'
            else '')
    faults = [error] if error else []
    if root[:2] == 'mm' and len(owners) > 1:
        faults.append('two owners: uninstall both, then install one')
    if module.get('version', '').startswith('1.') and name == 'torch':
        faults.append('mmiformer needs torch >= 2.0: use a new environment')
    found = ', '.join(map(' '.join, owners.items())) or (
        f'{module.get("version", "")} not by pip'.strip())
    return ('FAULT' if faults else 'ok', '; '.join([found, *faults]),
            find_cure(name, modules, machine) if error else '')


def find_cure(name: str, modules: Dict[str, Dict[str, Any]],
              machine: str) -> str:
    """The line to type for a known fault; no line moves torch."""
    error, torch = modules[name]['error'], modules['torch'].get('version', '')
    mmcv = modules['mmcv.ops']
    cap = re.search(r'MMCV==2\.(\d+)', error)
    if cap:  # mmdet has the first name for it, mmseg the second
        return ('sed -i -E "s/^(mmcv_maximum_version|MMCV_MAX) = .*/\\1 = '
                f'\'2.{int(cap[1]) + 1}.0\'/" {modules[name].get("file")}')
    if "No module named 'pkg_resources'" in error:
        return 'pip install "setuptools<81"'
    if 'libGL.so' in error:
        return ('apt-get install -y libgl1  # or: pip install --no-deps '
                '--force-reinstall opencv-python-headless')
    if re.search(r"No module named 'mmcv(\._ext|\.ops)?'|^mmcv.*(undefined "
                 'symbol|DLL load failed|cannot open shared)',
                 f'{name}: {error}', re.DOTALL):
        remove = ' '.join(['pip uninstall -y', *mmcv['owners'], '&& '])
        for pattern, wheel in WHEELS.items():
            build = re.fullmatch(pattern, torch)
            if build and machine in ('Linux x86_64', 'Windows AMD64'):
                return (remove * bool(mmcv['owners']) +
                        'pip install --no-deps --only-binary mmcv ' +
                        wheel.format(torch.split('+')[0], *build.groups()))
        return (f'no wheel of mmcv fits torch {torch} on {machine}: build it, '
                'see docs/install.md') if torch else ''
    build = re.fullmatch(r'2\.(\d+)\.(\d+)\+(cpu|cu\d+)', torch)
    if 'torchvision::' in error and build:
        minor, patch = int(build[1]), int(build[2])
        return ('pip install --no-deps --force-reinstall torchvision==0.'
                f'{minor + 15}.{patch + (minor == 0)} --index-url '
                f'https://download.pytorch.org/whl/{build[3]}')
    if (name == 'mmpretrain.models' and not mmcv['error']
            and modules['transformers'].get('version', '') >= '5'):
        return 'pip install "transformers<5"'
    return ''


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print('importing each module, half a minute', file=sys.stderr)
    modules = {name: dict(try_import(name), owners=find_owners(name))
               for name in MODULES}
    rows = {name: check(name, modules) for name in MODULES}
    print('|       | module          | found |\n|---|---|---|')
    for name, (mark, found, _) in rows.items():
        found = re.sub(r'[\s|]+', ' ', found)[:300]
        print(f'| {mark:5} | {name.partition(".")[0]:15} | {found} |')
    print(f'\nPython: {platform.python_version()}, {platform.platform()}')
    if not modules['mmengine']['error']:
        print(run_python('-c', COLLECT).stdout)
    said = {''}
    for name, (_, _, cure) in rows.items():
        if cure not in said:
            said.add(cure)
            if not find_spec('pip'):
                cure = cure.replace('pip ', 'uv pip ').replace(' -y mm', ' mm')
            print(f'\nFAULT {name.partition(".")[0]}: {cure}')
    sys.exit(any(row[0] == 'FAULT' for row in rows.values()))


if __name__ == '__main__':
    probe(sys.argv[2]) if sys.argv[1:2] == [CHILD] else main()
