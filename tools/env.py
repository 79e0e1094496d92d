"""Checks the environment: versions, imports, the GPU.

    tools/env.py

Prints a table for a bug report, and for a known fault the line to type. The
exit status is 1 if something is broken. It needs nothing but Python: each
module is imported by a process of its own.
"""
import argparse
import importlib
import json
import os
import platform
import re
import subprocess
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Dict, List, NamedTuple

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
OK, NONE, FAULT = 'ok', '-', 'FAULT'
Facts = Dict[str, Any]


class Row(NamedTuple):
    mark: str
    name: str
    found: str
    cure: str = ''  # what to type, if the fault is known


def gather() -> Facts:
    """What this environment is."""
    try:  # what the driver sees, not torch
        gpus = subprocess.check_output(
            ['nvidia-smi', '--query-gpu=name,driver_version',
             '--format=csv,noheader'], text=True, timeout=60).splitlines()
    except (OSError, subprocess.SubprocessError):
        gpus = []
    return dict(
        python=f'{platform.python_version()}, {platform.platform()}',
        machine=f'{platform.system()} {platform.machine()}', gpus=gpus,
        hidden=os.environ.get('CUDA_VISIBLE_DEVICES'),
        modules={name: dict(try_import(name), owners=find_owners(names))
                 for name, names in MODULES.items()})


def find_owners(names: List[str]) -> Dict[str, str]:
    """The version of each of these distributions that is installed."""
    owners = {}
    for name in names:
        try:
            owners[name] = version(name)
        except PackageNotFoundError:
            continue
    return owners


def try_import(name: str) -> Facts:
    """What :func:`probe` prints, or that it could not."""
    try:
        child = subprocess.run(
            [sys.executable, '-W', 'ignore', __file__, CHILD, name],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            errors='replace', timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return dict(error=f'not imported in {TIMEOUT} s')
    answer = re.search(f'^{ANSWER}(.*)', child.stdout, re.MULTILINE)
    return json.loads(answer[1]) if answer else dict(
        error=f'crashed, status {child.returncode}')


def probe(name: str) -> None:
    """Imports a module; prints its version, or the error and its file."""
    facts: Facts = dict(error=None)
    try:
        module = importlib.import_module(name)
        facts['version'] = sys.modules[name.partition('.')[0]].__version__
        if name == 'torch':
            facts.update(cuda=module.version.cuda,
                         gpu=module.cuda.is_available())
        if name == 'mmengine':  # `_base_ = 'mmdet::...'` does the same
            module.utils.is_installed('numpy')
    except BaseException as error:  # some exit
        facts.update(error=f'{type(error).__name__}: {error}',
                     file=traceback.extract_tb(error.__traceback__)[-1][0])
    print(f'\n{ANSWER}{json.dumps(facts)}', flush=True)


def check(facts: Facts) -> List[Row]:
    """The rows of the table."""
    return [Row(OK, 'Python', facts['python']),
            *(check_module(facts, name) for name in facts['modules']),
            check_gpu(facts)]


def check_module(facts: Facts, name: str) -> Row:
    """Whether it is there, can be imported, and has one owner."""
    module, root = facts['modules'][name], name.partition('.')[0]
    error, owners = module['error'] or '', module['owners']
    if not owners and error == (
            f"ModuleNotFoundError: No module named '{root}'"):
        return Row(FAULT if name in NEEDED else NONE, root, 'not installed',
                   'choose torch first, see docs/install.md'
                   if name == 'torch' else '')
    found = ', '.join(map(' '.join, owners.items())) or (
        f'{module.get("version", "")} not by pip'.strip())
    faults = [error] if error else []
    if root[:2] == 'mm' and len(owners) > 1:
        faults.append('two owners: uninstall both, then install one')
    if name == 'torch' and not error:
        found += f', CUDA {module["cuda"] or "none"}'
        if module['version'].startswith('1.'):
            faults.append('mmiformer needs torch >= 2.0: use a new environment')
    return Row(FAULT, root, '; '.join([found, *faults]), find_cure(
        facts, name, error)) if faults else Row(OK, root, found)


def check_gpu(facts: Facts) -> Row:
    """Whether torch can use what the driver sees."""
    torch, gpus = facts['modules']['torch'], '; '.join(facts['gpus'])
    if torch.get('gpu') or not gpus:
        return Row(OK if torch.get('gpu') else NONE, 'GPU', gpus or 'none')
    if torch.get('cuda') and facts['hidden'] is None:
        return Row(FAULT, 'GPU', f'{gpus}; torch for CUDA {torch["cuda"]} '
                   'cannot use it: check the driver')
    return Row(NONE, 'GPU', f'{gpus}; not used by torch, '
               f'CUDA_VISIBLE_DEVICES={facts["hidden"]}')


def find_cure(facts: Facts, name: str, error: str) -> str:
    """The line to type for a known fault; no line moves torch."""
    modules = facts['modules']
    torch, mmcv = modules['torch'], modules['mmcv.ops']
    number, _, device = torch.get('version', '').partition('+')
    device = device or (f'cu{torch["cuda"]}'.replace('.', '')
                        if torch.get('cuda') else 'cpu')
    cap = re.search(r'MMCV==2\.(\d+)', error)
    cures = {  # mmdet has the first name for the cap, mmseg the second
        r'MMCV==2\.[1-9]':
            'sed -i -E "s/^(mmcv_maximum_version|MMCV_MAX) = .*/\\1 = '
            f'\'2.{cap and int(cap[1]) + 1}.0\'/" {modules[name].get("file")}',
        "No module named 'pkg_resources'": 'pip install "setuptools<81"',
        r'libGL\.so': 'apt-get install -y libgl1  # or: pip install --no-deps '
                      '--force-reinstall opencv-python-headless',
        r"No module named 'mmcv(\._ext|\.ops)?'|"
        '^mmcv.*(undefined symbol|DLL load failed|cannot open shared)':
            find_mmcv(number, device, facts['machine'], mmcv['owners']),
        'torchvision::': find_torchvision(number, device)}
    if modules['transformers'].get('version', '') >= '5' and not mmcv['error']:
        cures['^mmpretrain'] = 'pip install "transformers<5"'
    return next((line for pattern, line in cures.items() if re.search(
        pattern, f'{name}: {error}', re.DOTALL)), '')


def find_torchvision(torch: str, device: str) -> str:
    """The line for the torchvision of a build of torch."""
    build = re.fullmatch(r'2\.(\d+)\.(\d+) (cpu|cu\d+)', f'{torch} {device}')
    if not build:
        return ''
    minor, patch = int(build[1]), int(build[2])
    return ('pip install --no-deps --force-reinstall torchvision==0.'
            f'{minor + 15}.{patch + (minor == 0)} --index-url '
            f'https://download.pytorch.org/whl/{device}')


def find_mmcv(torch: str, device: str, machine: str, owners: Facts) -> str:
    """The line for an mmcv of a build of torch: prebuilt, or from source."""
    remove = f'pip uninstall -y {" ".join(owners)} && ' if owners else ''
    fork = 'onedl-mmcv' in owners
    for pattern, wheel in WHEELS.items():
        build = re.fullmatch(pattern, f'{torch}+{device}')
        if build and not fork and machine in ('Linux x86_64', 'Windows AMD64'):
            return (f'{remove}pip install --no-deps --only-binary mmcv '
                    + wheel.format(torch, *build.groups()))
    if not re.match(r'2\.(\d|1[0-3])\.', torch):
        return ('mmcv does not build with torch >= 2.14, see docs/install.md'
                if torch.startswith('2.') else '')  # else torch comes first
    return (f'{remove}pip install "setuptools<81" wheel ninja && pip install '
            '--no-deps --no-cache-dir --no-build-isolation '
            + ('onedl-mmcv' if fork else '"mmcv>=2.0.0,<2.2.0"'))


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print('importing each module, half a minute', file=sys.stderr)
    rows = check(gather())
    width = max(len(row.name) for row in rows)
    print(f'|       | {"module":{width}} | found |\n|---|---|---|')
    for row in rows:
        found = re.sub(r'[\s|]+', ' ', row.found)[:300]
        print(f'| {row.mark:5} | {row.name:{width}} | {found} |')
    for cure in dict.fromkeys(row.cure for row in rows if row.cure):
        name = next(row.name for row in rows if row.cure == cure)
        print(f'\nFAULT {name}: {cure}')
    sys.exit(any(row.mark == FAULT for row in rows))


if __name__ == '__main__':
    probe(sys.argv[2]) if sys.argv[1:2] == [CHILD] else main()
