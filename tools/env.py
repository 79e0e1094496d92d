"""Checks the environment: versions, imports, the GPU.

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
from typing import Any, Dict, List, Tuple

MODULES = {  # what is imported: `import mmdet` alone imports no model
    'torch': ['torch'], 'torchvision': ['torchvision'], 'numpy': ['numpy'],
    'cv2': ['opencv-python', 'opencv-python-headless'],
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
# Known faults in "module: error", and the line to type; none moves torch.
CURES = {
    r'MMCV==2\.[1-9]': 'sed -i -E "s/^(mmcv_maximum_version|MMCV_MAX) = .*/'
                       '\\1 = \'2.3.0\'/" {file}',
    "No module named 'pkg_resources'": 'pip install "setuptools<81"',
    r'libGL\.so': 'apt-get install -y libgl1',
    r"No module named 'mmcv(\._ext|\.ops)?'|"
    '^mmcv.*(undefined symbol|DLL load failed|cannot open shared)': '{mmcv}',
    'torchvision::': 'pip install --no-deps --force-reinstall '
                     '"torchvision==0.{minor}.*" --index-url '
                     'https://download.pytorch.org/whl/{device}',
    '^mmpretrain.*NoneType takes no arguments':
        'pip install "transformers<5"',
    "^torch: .*No module named 'torch'": 'choose torch first, see '
                                         'docs/install.md'}
CHILD, ANSWER, TIMEOUT = '--import', '@env ', 180
OK, NONE, FAULT = 'ok', '-', 'FAULT'
Facts = Dict[str, Dict[str, Any]]
Row = Tuple[str, str, str, str]  # mark, name, what was found, line to type


def probe(name: str) -> None:
    """Imports a module; prints its version, or the error and its file."""
    facts: Dict[str, Any] = dict(error='')
    try:
        module = importlib.import_module(name)
        facts['version'] = sys.modules[name.partition('.')[0]].__version__
        if name == 'torch':
            facts.update(cuda=module.version.cuda, gpu=(
                module.cuda.get_device_name() if module.cuda.is_available()
                else ''))
        if name == 'mmengine':  # `_base_ = 'mmdet::...'` does the same
            module.utils.is_installed('numpy')
    except BaseException as error:  # some exit
        facts.update(error=f'{type(error).__name__}: {error}',
                     file=traceback.extract_tb(error.__traceback__)[-1][0])
    print(f'\n{ANSWER}{json.dumps(facts)}', flush=True)


def look_at(name: str) -> Dict[str, Any]:
    """What :func:`probe` prints, and the distributions of a module."""
    owners = {}
    for owner in MODULES[name]:
        try:
            owners[owner] = version(owner)
        except PackageNotFoundError:
            continue
    try:
        child = subprocess.run(
            [sys.executable, '-W', 'ignore', __file__, CHILD, name],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            errors='replace', timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        return dict(owners=owners, error=f'not imported in {TIMEOUT} s')
    answer = re.search(f'^{ANSWER}(.*)', child.stdout, re.MULTILINE)
    return dict(json.loads(answer[1]) if answer else dict(
        error=f'crashed, status {child.returncode}'), owners=owners)


def check(facts: Facts) -> List[Row]:
    """The rows of the table."""
    rows = []
    for name, module in facts.items():
        root, owners = name.partition('.')[0], module['owners']
        faults = [module['error']] if module['error'] else []
        if not owners and module['error'].endswith(f"named '{root}'"):
            mark, found = FAULT if name in NEEDED else NONE, 'not installed'
        else:
            found = ', '.join(map(' '.join, owners.items())) or (
                f'{module.get("version", "")} not by pip'.strip())
            if root[:2] == 'mm' and len(owners) > 1:
                faults.append('two owners: uninstall both, install one')
            if name == 'torch' and module.get('version', '')[:2] == '1.':
                faults.append('mmiformer needs torch >= 2.0')
            mark, found = FAULT if faults else OK, '; '.join([found, *faults])
        cure = find_cure(facts, name) if mark == FAULT else ''
        rows.append((mark, root, found, cure))
    torch = facts['torch']
    return [*rows, (OK if torch.get('gpu') else NONE, 'GPU', (
        f'{torch.get("gpu") or "none that torch can use"}, CUDA '
        f'{torch.get("cuda") or "none"}'), '')]


def find_cure(facts: Facts, name: str) -> str:
    """The line to type for a known fault; empty for others."""
    torch, mmcv = facts['torch'], facts['mmcv.ops']
    number, _, device = torch.get('version', '').partition('+')
    device = device or (f'cu{torch["cuda"]}'.replace('.', '')
                        if torch.get('cuda') else 'cpu')
    minor = re.match(r'2\.(\d+)', number)
    for pattern, line in CURES.items():
        if re.search(pattern, f'{name}: {facts[name]["error"]}', re.DOTALL):
            return line.format(
                file=facts[name].get('file'), device=device,
                minor=int(minor[1]) + 15 if minor else '*',
                mmcv=find_mmcv(number, device, mmcv['owners']))
    return ''


def find_mmcv(torch: str, device: str, owners: Dict[str, str]) -> str:
    """The line for an mmcv of a build of torch: prebuilt, or from source."""
    remove = f'pip uninstall -y {" ".join(owners)} && ' if owners else ''
    fork = 'onedl-mmcv' in owners
    for pattern, wheel in WHEELS.items():
        build = re.fullmatch(pattern, f'{torch}+{device}')
        if build and not fork and platform.machine() in ('x86_64', 'AMD64'):
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
    rows = [(OK, 'Python', f'{platform.python_version()}, '
             f'{platform.platform()}', ''),
            *check({name: look_at(name) for name in MODULES})]
    print(f'|       | {"module":15} | found |\n|---|---|---|')
    for mark, name, found, _ in rows:
        found = re.sub(r'[\s|]+', ' ', found)[:300]
        print(f'| {mark:5} | {name:15} | {found} |')
    for cure in dict.fromkeys(cure for *_, cure in rows if cure):
        name = next(name for _, name, _, line in rows if line == cure)
        print(f'\nFAULT {name}: {cure}')
    sys.exit(any(mark == FAULT for mark, *_ in rows))


if __name__ == '__main__':
    probe(sys.argv[2]) if sys.argv[1:2] == [CHILD] else main()
