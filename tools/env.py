"""Checks the environment: versions, imports, GPU, disk, caches.

    tools/env.py

Prints a table for a bug report, and for each fault the line to type. What
breaks something is a fault, the rest a note; the exit status is 1 if there is
a fault. Only the standard library is imported, so that this also works where
torch, mmengine or mmiformer cannot be imported: they are tried in a process
of their own.
"""
import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

# Modules to import, in the order in which they need each other, and the
# distributions that ship them. `import mmdet` alone imports no model.
MODULES = {
    'torch': ('torch', ),
    'torchvision': ('torchvision', ),
    'cv2': ('opencv-python', 'opencv-python-headless',
            'opencv-contrib-python', 'opencv-contrib-python-headless'),
    'mmengine': ('mmengine', 'mmengine-lite', 'onedl-mmengine'),
    'mmcv.ops': ('mmcv', 'mmcv-lite', 'mmcv-full', 'onedl-mmcv'),
    'mmdet.models': ('mmdet', 'onedl-mmdetection'),
    'mmseg.models': ('mmsegmentation', 'onedl-mmsegmentation'),
    'mmpretrain.models': ('mmpretrain', 'onedl-mmpretrain'),
    'mmiformer': ('mmiformer', ),
}
FRAMEWORKS = ('mmdet.models', 'mmseg.models', 'mmpretrain.models')
SHARED = ('torch', 'cv2', 'mmengine', 'mmcv.ops')  # the rest imports them
# mmengine and the build of mmcv import pkg_resources; later releases of
# setuptools have none.
SETUPTOOLS = 'setuptools<81'
# Packages with another name than their module.
PACKAGES = dict(
    cv2='opencv-python', PIL='pillow', yaml='pyyaml',
    distutils=f'"{SETUPTOOLS}"', pkg_resources=f'"{SETUPTOOLS}"')
MIN_FREE = 1  # GB; a checkpoint with its optimizer has half of one
CHILD = '--try-imports'  # the argument of the process that does
ANSWER = '@env '  # tells its lines from those that an import prints
UNTRIED = 'not tried'
OK, NONE, NOTE, FAULT = 'ok', '-', 'note', 'FAULT'

Facts = Dict[str, Any]


class Row(NamedTuple):
    """A line of the table; the cure is for a note or a fault."""
    mark: str
    name: str
    found: str
    cure: str = ''


def gather() -> Facts:
    """What this environment is."""
    distributions = [dist for dist in importlib.metadata.distributions()
                     if dist.metadata['Name']]
    own = [line for dist in distributions for line in dist.requires or []
           if dist.metadata['Name'] == 'mmiformer']
    imports = try_in_child()
    folders = [os.getcwd(), *(
        fields['cache'] for fields in imports.values() if 'cache' in fields)]
    report = imports['mmengine'].get('report', {})
    return dict(
        imports=imports,
        python=f'{platform.python_version()}, {platform.platform()}',
        requires={canonicalize_name(line.name): line
                  for line in map(Requirement, own)},
        installed={canonicalize_name(dist.metadata['Name']): dist.version
                   for dist in reversed(distributions)},  # the first counts
        pkg_resources=importlib.util.find_spec('pkg_resources') is not None,
        compiler=report.get('GCC') or shutil.which('c++'),
        nvcc=report.get('NVCC') or shutil.which('nvcc'),
        gpus=query_driver() or [value for key, value in report.items()
                                if key.startswith('GPU ')],
        hidden=os.environ.get('CUDA_VISIBLE_DEVICES'),
        weights=os.environ.get('MMIFORMER_WEIGHTS'),
        disk={folder: free_space(Path(folder)) for folder in folders})


def query_driver() -> List[str]:
    """Name and driver of each GPU, as the driver says, not torch."""
    try:
        return subprocess.check_output(
            ['nvidia-smi', '--query-gpu=name,driver_version',
             '--format=csv,noheader'], text=True, timeout=60).splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def free_space(path: Path) -> float:
    """GB on its disk, whether or not the folder exists yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / 1e9


def try_in_child() -> Dict[str, Dict]:
    """What :func:`try_imports` says of each module. The first of which it
    says nothing took the process down."""
    child = subprocess.run(
        [sys.executable, '-W', 'ignore', __file__, CHILD],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines = re.findall(f'^{ANSWER}(.*)', child.stdout, re.MULTILINE)
    said = dict(map(json.loads, lines))
    error = f'crashed, status {child.returncode}'
    for name in MODULES:
        if name not in said:
            said[name], error = dict(error=error), UNTRIED
    return said


def try_imports() -> None:
    """Prints a line for each module: nothing if it is not installed, else
    the error, which may be None, and what it says of itself."""
    for name in MODULES:
        fields = {}
        if importlib.util.find_spec(name.split('.')[0]) is not None:
            try:
                module = importlib.import_module(name)
                fields = dict(describe(name, module), error=None)
            except BaseException as error:  # some exit
                fields = dict(error=f'{type(error).__name__}: {error}')
        print(f'\n{ANSWER}{json.dumps([name, fields])}', flush=True)


def describe(name: str, module: Any) -> Dict[str, Any]:
    """What the rules ask of a module."""
    if name == 'torch':
        return dict(version=module.__version__, cuda=module.version.cuda,
                    available=module.cuda.is_available(),
                    cache=os.path.join(module.hub.get_dir(), 'checkpoints'))
    if name == 'torchvision':
        import torch
        # requirements/torchvision_finder.py defines nms, for the import.
        return dict(operators=hasattr(torch.ops.torchvision, 'roi_align'))
    if name == 'cv2':  # the folder that a removal leaves has no version
        return dict(version=module.__version__)
    if name == 'mmengine':
        from mmengine.utils.dl_utils import collect_env
        return dict(report={
            key: str(value) for key, value in collect_env().items()
            if value not in ('Not Available', 'n/a')})
    if name == 'mmcv.ops':
        return dict(compiler=module.get_compiler_version(),
                    cuda=module.get_compiling_cuda_version())
    if name == 'mmiformer':
        from huggingface_hub.constants import HF_HUB_CACHE
        return dict(cache=HF_HUB_CACHE)
    return {}


def shipping(facts: Facts, module: str) -> Dict[str, str]:
    """The distributions that ship a module here, and their versions."""
    return {name: facts['installed'][name] for name in MODULES[module]
            if name in facts['installed']}


def wanted(facts: Facts, name: str) -> str:
    """A package as pip takes it, in the versions that setup.py allows."""
    if name == 'mmiformer':
        return '. (in the checkout)'
    requirement = facts['requires'].get(name)
    return f'"{name}{requirement.specifier if requirement else ""}"'


def build(facts: Facts, remove: Iterator[str], *install: str) -> str:
    """Against the torch that is there."""
    remove = ' '.join(remove)
    return ((f'pip uninstall -y {remove} && ' if remove else '')
            + f'pip install "{SETUPTOOLS}" wheel ninja && pip install '
            '--no-cache-dir --no-build-isolation '
            + ' '.join(wanted(facts, name) for name in install))


def build_mmcv(facts: Facts) -> str:
    forks = 'onedl-mmengine' in facts['installed']
    return build(facts, shipping(facts, 'mmcv.ops'),
                 'onedl-mmcv' if forks else 'mmcv')


def reinstall_torchvision(facts: Facts) -> str:
    """The build of the release that fits torch."""
    torch = facts['imports']['torch'].get('version')
    if not torch:
        return 'pip install --force-reinstall torchvision'
    index = torch.partition('+')[2]
    return ('pip uninstall -y torchvision && pip install torchvision '
            f'"torch=={torch}"' + (index and
            f' --index-url https://download.pytorch.org/whl/{index}'))


def cure_import(facts: Facts, name: str, error: str) -> str:
    """The line to type where an import fails."""
    missing = re.search(r"No module named '(\w+)", error)
    culprit = missing[1] if missing else name.split('.')[0]
    cures = {
        '^mmcv|MMCV==': build_mmcv(facts),
        '^torchvision|torchvision::': reinstall_torchvision(facts),
        'MMEngine==': f'pip install {wanted(facts, "mmengine")}',
        'No module named': f'pip install {PACKAGES.get(culprit, culprit)}',
        r'^cv2.*libGL\.so': 'apt-get install -y libgl1 libglib2.0-0',
        '^cv2': f'pip uninstall -y {" ".join(shipping(facts, "cv2"))}; '
                'pip install opencv-python',
        '^torch:': 'pip install --force-reinstall torch',
        '': f'python -c "import {name}"  # the whole message'}
    return next(line for pattern, line in cures.items()
                if re.search(pattern, f'{culprit}: {error}'))


def check(facts: Facts) -> List[Row]:
    """The rows of the table, rule by rule."""
    return [Row(OK, 'Python', facts['python']), *(
        row for rule in (imports, frameworks, versions, stacks, opencv,
                         build_tools, gpu, operators, folders)
        for row in rule(facts))]


def imports(facts: Facts) -> Iterator[Row]:
    """Each module with its versions, and whether it can be imported."""
    cures = {''}
    mended = False  # by the cure of a module that the others import
    for name in MODULES:
        result = facts['imports'][name]
        found = ', '.join(map(' '.join, shipping(facts, name).items())) or (
            'not by pip')
        if not result:
            needed = name in ('torch', 'mmengine', 'mmiformer')
            row = Row(FAULT if needed else NONE, name, 'not installed',
                      f'pip install {wanted(facts, name)}')
        elif error := result['error']:
            row = Row(NONE if error == UNTRIED else FAULT, name,
                      f'{found}: {error}',
                      '' if mended else cure_import(facts, name, error))
        else:
            built = [f'{key} {result[key]}' for key in ('compiler', 'cuda')
                     if result.get(key)]
            row = Row(OK, name, '; '.join([found, *built]))
        mended |= row.mark == FAULT and name in SHARED
        yield row._replace(cure='') if row.cure in cures else row
        cures.add(row.cure)


def frameworks(facts: Facts) -> Iterator[Row]:
    if not any(facts['imports'][name] for name in FRAMEWORKS):
        mmcv = '' if facts['imports']['mmcv.ops'] else (
            f'{build_mmcv(facts)} && ')
        yield Row(NOTE, 'frameworks', 'mmdet, mmseg, mmpretrain: none',
                  f'{mmcv}pip install {wanted(facts, "mmdet")}')


def versions(facts: Facts) -> Iterator[Row]:
    """What mmiformer asks for: always, and by extras, of what is there."""
    for name, requirement in facts['requires'].items():
        version = facts['installed'].get(name)
        optional = requirement.marker is not None
        if version is None and (optional or name in MODULES):
            continue  # an import has a row already
        if not version or not requirement.specifier.contains(
                version, prereleases=True):
            yield Row(NOTE if optional else FAULT, name,
                      f'{version or "not installed"}: mmiformer '
                      f'{"is tested with" if optional else "needs"} '
                      f'{requirement.specifier}',
                      build_mmcv(facts) if name.endswith('mmcv') else
                      f'pip install {wanted(facts, name)}')


def stacks(facts: Facts) -> Iterator[Row]:
    """openmmlab and onedl-* ship the same modules under other names."""
    present = sorted(name for name in facts['installed'] if re.match(
        '(onedl-)?mm(cv|engine|det|seg|pretrain)', name))
    forks = [name for name in present if name.startswith('onedl-')]
    if forks and forks != present:
        kept = [names[0] for names in MODULES.values() if names[0] in present]
        yield Row(FAULT, 'stacks', 'both at once, each overwrites the other: '
                  + ', '.join(present), build(facts, present, *kept))


def opencv(facts: Facts) -> Iterator[Row]:
    """Several distributions write the folder cv2. While both are there it
    works, with the files of the one that came last; if one is removed, the
    other's files are gone."""
    present = shipping(facts, 'cv2')
    if len(set(present.values())) > 1:
        version = next(iter(present.values()))
        yield Row(NOTE, 'OpenCV', 'several write one folder: ' + ', '.join(
            map(' '.join, present.items())), 'pip install ' + ' '.join(
                f'{name}=={version}' for name in present))


def build_tools(facts: Facts) -> Iterator[Row]:
    version = facts['installed'].get('setuptools', 'none')
    if facts['pkg_resources']:
        yield Row(OK, 'pkg_resources', f'setuptools {version}')
    else:  # onedl-mmengine needs none
        yield Row(FAULT if 'mmengine' in facts['installed'] else NONE,
                  'pkg_resources', f'missing (setuptools {version}): mmengine '
                  "needs it for _base_ = 'mmdet::...', mmcv to be built",
                  f'pip install "{SETUPTOOLS}"')
    compiler, nvcc = facts['compiler'], facts['nvcc']
    yield Row(OK if compiler else NOTE, 'compiler',
              compiler or 'none: mmcv cannot be built',
              'apt-get install -y g++')
    if facts['gpus']:
        cuda = facts['imports']['torch'].get('cuda') or ''
        yield Row(OK if nvcc else NOTE, 'nvcc',
                  nvcc or 'none: mmcv cannot be built for the GPU',
                  f'install the CUDA toolkit {cuda}, put its bin/ on PATH')


def gpu(facts: Facts) -> Iterator[Row]:
    torch = facts['imports']['torch']
    version, cuda = torch.get('version'), torch.get('cuda')
    found = '; '.join(facts['gpus'])
    if torch.get('available'):
        yield Row(OK, 'GPU', found or 'of unknown name')
    elif not found or not version:
        yield Row(NONE, 'GPU', found or 'none')
    elif not cuda:
        yield Row(NOTE, 'GPU', f'{found}: not used, torch {version} is a '
                  'build for CPUs', 'pip install --force-reinstall torch=='
                  f'{version.partition("+")[0]}; then build mmcv again')
    elif facts['hidden'] is not None:
        yield Row(NOTE, 'GPU', f'{found}: not used, CUDA_VISIBLE_DEVICES='
                  f'{facts["hidden"]}', 'unset CUDA_VISIBLE_DEVICES')
    else:
        yield Row(FAULT, 'GPU', f'{found}: torch for CUDA {cuda} cannot use '
                  'it', f'a driver for CUDA {cuda} (nvidia-smi shows what '
                  'yours is for), or a torch for an older CUDA: '
                  'https://pytorch.org/get-started/locally')


def operators(facts: Facts) -> Iterator[Row]:
    """Built for other hardware, or another torch, than is there."""
    torch, torchvision, mmcv = (facts['imports'][name] for name in (
        'torch', 'torchvision', 'mmcv.ops'))
    if torch.get('available') and mmcv.get('cuda') == 'not available':
        yield Row(FAULT, 'mmcv on the GPU', 'built without CUDA operators',
                  f'export FORCE_CUDA=1 && {build_mmcv(facts)}')
    if torchvision.get('operators') is False:
        yield Row(NOTE, 'torchvision', 'of another build than torch: its '
                  'operators do not load; mmpretrain and grad-cam need none',
                  reinstall_torchvision(facts))


def folders(facts: Facts) -> Iterator[Row]:
    for folder, free in facts['disk'].items():
        yield Row(OK if free >= MIN_FREE else FAULT, 'disk',
                  f'{folder}: {free:.1f} GB free',
                  f'free some space (df -h {folder})')
    if weights := facts['weights']:
        there = Path(weights).expanduser().is_dir()
        yield Row(OK if there else FAULT, 'weights', 'MMIFORMER_WEIGHTS='
                  f'{weights}: {"a" if there else "no"} folder',
                  'unset MMIFORMER_WEIGHTS')


def table(rows: List[Row]) -> str:
    """In Markdown, aligned to be read as it is."""
    width = max(len(row.name) for row in rows)
    lines = [f'| {row.mark:5} | {row.name:{width}} | '
             + re.sub(r'[\s|]+', ' ', row.found)[:300] + ' |' for row in rows]
    return '\n'.join([f'| {"":5} | {"mmiformer env":{width}} |  |',
                      '|---|---|---|', *lines])


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print('importing the frameworks, some seconds', file=sys.stderr)
    rows = check(gather())
    print(table(rows) + '\n')
    # Faults last: that is what remains on the screen.
    for row in sorted(rows, key=lambda row: row.mark == FAULT):
        if row.mark in (NOTE, FAULT) and row.cure:
            print(f'{row.mark} {row.name}: {row.cure}')
    sys.exit(any(row.mark == FAULT for row in rows))


if __name__ == '__main__':
    try_imports() if sys.argv[1:] == [CHILD] else main()
