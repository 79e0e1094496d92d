"""Checks the environment: versions, imports, GPU, disk, caches.

    tools/env.py

Prints a table for a bug report, and for each fault the line to type. What
breaks something is a fault, the rest a note; the exit status is 1 if there is
a fault. Only the standard library is imported, so that this also works where
torch, mmengine or mmiformer cannot be imported: they are tried in a process
of their own.
"""
import argparse
import importlib
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
NEEDED = ('torch', 'cv2', 'mmengine', 'mmcv.ops')  # by those that follow
OPENMMLAB = re.compile('(onedl-)?mm(cv|engine|det|seg|pretrain)')
PACKAGES = dict(cv2='opencv-python', PIL='pillow', yaml='pyyaml',
                pkg_resources='"setuptools<81"')  # named unlike their module
# mmengine and the build of mmcv import pkg_resources; later releases of
# setuptools have none.
SETUPTOOLS = 'setuptools<81'
MIN_FREE = 1  # GB; a checkpoint with its optimizer has half of one
TIMEOUT = 600  # seconds; imports from a cold network disk take minutes

ANSWER, STARTED = '@env ', 'started'  # between the two processes
OK, NONE, NOTE, FAULT = 'ok', '-', 'note', 'FAULT'


class Row(NamedTuple):
    """A line of the table."""
    mark: str
    name: str
    found: str
    cure: str = ''


# ---------------------------------------------------------------- facts

def gather() -> Dict[str, Any]:
    """What this environment is; JSON types only."""
    distributions = list(importlib.metadata.distributions())
    own = [dist for dist in distributions if dist.metadata['Name'] ==
           'mmiformer'][:1]
    return dict(
        python=platform.python_version(), platform=platform.platform(),
        installed={canonicalize_name(dist.metadata['Name']): dist.version
                   for dist in reversed(distributions)  # the first counts
                   if dist.metadata['Name']},
        requires_python=own[0].metadata['Requires-Python'] if own else None,
        requires=(own[0].requires or []) if own else [],
        pkg_resources=importlib.util.find_spec('pkg_resources') is not None,
        gpus=_gpus(), nvcc=shutil.which('nvcc'),
        compiler=shutil.which('c++') or shutil.which('g++'),
        hidden=os.environ.get('CUDA_VISIBLE_DEVICES'),
        weights=os.environ.get('MMIFORMER_WEIGHTS'),
        disk={str(path): _free(path) for path in (Path.cwd(), *_caches())},
        **_probe())


def _gpus() -> List[str]:
    """Name and driver of each GPU, as the driver says, not torch."""
    try:
        return subprocess.run(
            ['nvidia-smi', '--query-gpu=name,driver_version',
             '--format=csv,noheader'], capture_output=True, text=True,
            check=True, timeout=60).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []


def _caches() -> List[Path]:
    """Where huggingface_hub and torch.hub keep the weights."""
    cache = os.environ.get('XDG_CACHE_HOME', '~/.cache')
    hub = os.environ.get('HF_HUB_CACHE') or os.path.join(os.environ.get(
        'HF_HOME', os.path.join(cache, 'huggingface')), 'hub')
    torch = os.environ.get('TORCH_HOME', os.path.join(cache, 'torch'))
    return [Path(os.path.expandvars(path)).expanduser()
            for path in (hub, os.path.join(torch, 'hub', 'checkpoints'))]


def _free(path: Path) -> float:
    """GB on its disk, whether or not the folder exists yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free / 1e9


def _probe() -> Dict[str, Any]:
    """What the imports in a child process gave: ``imports``, the fields of
    :func:`try_imports` by module, and ``collected``, mmengine's report."""
    found: Dict[str, Any] = {}
    try:
        child = subprocess.run(
            [sys.executable, '-W', 'ignore', __file__, '--try-imports'],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            timeout=TIMEOUT)
        output, ended = child.stdout, f'crashed, status {child.returncode}'
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b'').decode()
        ended = f'no answer within {TIMEOUT} s'
    for line in re.findall(f'^{ANSWER}(.*)', output, re.M):
        name, fields = json.loads(line)
        found[name] = dict(error=ended) if fields == STARTED else fields
    return dict(collected=found.pop('collected', {}), imports=found)


def try_imports() -> None:
    """Imports all that is there and prints what comes of it, line by line,
    so that the last line tells which import took the process down."""
    for name in MODULES:
        if importlib.util.find_spec(name.split('.')[0]) is None:
            answer(name, None)
            continue
        answer(name, STARTED)
        fields: Dict[str, Any] = dict(error=None)
        try:
            module = importlib.import_module(name)
            if name == 'torch':
                fields.update(version=module.__version__,
                              cuda=module.version.cuda,
                              available=module.cuda.is_available())
            elif name == 'torchvision':
                fields['operators'] = _has_nms(module)
            elif name == 'cv2':  # the folder that a removal leaves has none
                fields['version'] = module.__version__
            elif name == 'mmcv.ops':
                fields.update(compiler=module.get_compiler_version(),
                              cuda=module.get_compiling_cuda_version())
        except BaseException as error:  # some exit
            fields['error'] = f'{type(error).__name__}: {error}'
        answer(name, fields)
    try:
        from mmengine.utils.dl_utils import collect_env
        answer('collected',
               {key: str(value) for key, value in collect_env().items()})
    except Exception:  # its import has a row of its own
        pass


def answer(name: str, fields: Any) -> None:
    """Beside what the imports print."""
    print(f'\n{ANSWER}{json.dumps([name, fields])}', flush=True)


def _has_nms(torchvision: Any) -> bool:
    import torch
    try:
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), .5)
    except (RuntimeError, NotImplementedError):
        return False
    return True


# ---------------------------------------------------------------- rules

def check(facts: Dict[str, Any]) -> List[Row]:
    """The rows of the table for the facts of :func:`gather`."""
    return [row for rule in (python, imports, requirements, stacks, opencv,
                             pkg_resources, compiler, gpu, mmcv_cuda,
                             torchvision_operators, disk, weights)
            for row in rule(facts)]


def python(facts: Dict) -> Iterator[Row]:
    found = f'{facts["python"]}, {facts["platform"]}'
    wanted = facts['requires_python']
    if wanted and not Requirement(f'python{wanted}').specifier.contains(
            facts['python'], prereleases=True):
        yield Row(FAULT, 'Python', f'{found}: mmiformer needs {wanted}',
                  'python3.12 -m venv .venv')
    else:
        yield Row(OK, 'Python', found)


def imports(facts: Dict) -> Iterator[Row]:
    """Each module with its versions, and whether it can be imported."""
    mended = False  # by the cure of a module that the others need
    cures = set()
    for name, names in MODULES.items():
        result = facts['imports'].get(name)
        found = ', '.join(
            f'{dist} {facts["installed"][dist]}' for dist in names
            if dist in facts['installed']) or 'not by pip'
        if name not in facts['imports']:
            row = Row(NONE, name, f'{found}: not tried')
        elif result is None:
            row = missing(facts, name)
        elif error := result['error']:
            line = '' if mended else cure(facts, name, error)
            row = Row(FAULT, name, f'{found}: {error}',
                      '' if line in cures else line)
            cures.add(line)
        else:
            build = [result.get(key) and f'{key} {result[key]}'
                     for key in ('compiler', 'cuda')]
            row = Row(OK, name, '; '.join([found, *filter(None, build)]))
        mended |= row.mark == FAULT and name in NEEDED
        yield row


def missing(facts: Dict, name: str) -> Row:
    if name == 'mmiformer':
        return Row(FAULT, name, 'not installed', 'pip install . '
                   '(in the checkout)')
    if name in ('torch', 'mmengine'):
        return Row(FAULT, name, 'not installed',
                   f'pip install "{wanted(facts, name)}"')
    if name == FRAMEWORKS[-1] and not any(
            facts['imports'].get(framework) for framework in FRAMEWORKS):
        return Row(NOTE, 'frameworks', 'mmdet, mmseg, mmpretrain: none',
                   f'{build_mmcv(facts)} && pip install '
                   f'"{wanted(facts, "mmdet")}"')
    return Row(NONE, name, 'not installed')


def cure(facts: Dict, name: str, error: str) -> str:
    """The line to type where an import fails."""
    if match := re.search(r"No module named '(\w+)", error):
        other = match[1]
        return (build_mmcv(facts) if other == 'mmcv' else
                reinstall_torchvision(facts) if other == 'torchvision' else
                f'pip install {PACKAGES.get(other, other)}')
    if name == 'mmcv.ops' or 'MMCV==' in error:
        return build_mmcv(facts)
    if 'MMEngine==' in error:
        return f'pip install "{wanted(facts, "mmengine")}"'
    if name == 'torchvision' or 'torchvision::' in error:
        return reinstall_torchvision(facts)
    if name == 'cv2' and 'cannot open shared object' in error:  # libGL.so.1
        return 'apt-get install -y libgl1 libglib2.0-0'
    if name == 'cv2':
        present = [dist for dist in MODULES['cv2']
                   if dist in facts['installed']]
        return (f'pip uninstall -y {" ".join(present)}; pip install '
                'opencv-python')
    if name == 'torch':
        return 'pip install --force-reinstall torch'
    return f'python -c "import {name}"  # the whole message'


def wanted(facts: Dict, name: str) -> str:
    """What mmiformer asks for of a package, in one of its extras or always:
    the name with its versions."""
    for line in facts['requires']:
        requirement = Requirement(line)
        if canonicalize_name(requirement.name) == name:
            return f'{name}{requirement.specifier}'
    return name


def build_mmcv(facts: Dict) -> str:
    """mmcv without operators, of other versions, for another torch or none:
    a build against the torch that is there."""
    present = [dist for dist in MODULES['mmcv.ops']
               if dist in facts['installed']]
    forks = 'onedl-mmengine' in facts['installed']
    remove = f'pip uninstall -y {" ".join(present)} && ' if present else ''
    return (f'{remove}pip install "{SETUPTOOLS}" wheel ninja && pip install '
            '--no-cache-dir --no-build-isolation '
            f'"{wanted(facts, "onedl-mmcv" if forks else "mmcv")}"')


def reinstall_torchvision(facts: Dict) -> str:
    """The build of the release that fits torch."""
    torch = (facts['imports'].get('torch') or {}).get('version', '')
    build = torch.partition('+')[2]
    index = (f' --index-url https://download.pytorch.org/whl/{build}'
             if build else '')
    return (f'pip uninstall -y torchvision && pip install torchvision '
            f'"torch=={torch}"{index}' if torch else
            'pip install --force-reinstall torchvision')


def requirements(facts: Dict) -> Iterator[Row]:
    """What mmiformer asks for: always, and by extras, of what is there."""
    done = set()
    for line in facts['requires']:
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        version = facts['installed'].get(name)
        optional = 'extra' in str(requirement.marker or '')
        fits = version and requirement.specifier.contains(
            version, prereleases=True)
        if fits or name in done or not version and (
                optional or name in MODULES):  # these have a row already
            continue
        done.add(name)
        text = f'{version or "not installed"}: mmiformer '
        specifier = f'"{name}{requirement.specifier}"'
        if not optional:
            yield Row(FAULT, name, f'{text}needs {requirement.specifier}',
                      f'pip install {specifier}')
        else:
            yield Row(NOTE, name, f'{text}is tested with '
                      f'{requirement.specifier}', build_mmcv(facts)
                      if name.endswith('mmcv') else f'pip install {specifier}')


def stacks(facts: Dict) -> Iterator[Row]:
    """openmmlab and onedl-* ship the same modules under other names."""
    present = sorted(filter(OPENMMLAB.match, facts['installed']))
    forks = [name for name in present if name.startswith('onedl-')]
    if forks and len(forks) < len(present):
        kept = [wanted(facts, name) for name in present if name not in forks
                and name in MODULES[module_of(name)][0]]
        yield Row(FAULT, 'stacks', 'both at once, each overwrites the other: '
                  + ', '.join(present), f'pip uninstall -y '
                  f'{" ".join(present)} && pip install "{SETUPTOOLS}" wheel '
                  'ninja && pip install --no-cache-dir --no-build-isolation '
                  + ' '.join(f'"{line}"' for line in kept))


def module_of(distribution: str) -> str:
    return next((module for module, names in MODULES.items()
                 if distribution in names), 'torch')


def opencv(facts: Dict) -> Iterator[Row]:
    """Several distributions write the folder cv2. While both are there it
    works, with the files of the one that came last; if one is removed, the
    other's files are gone."""
    present = {dist: facts['installed'][dist] for dist in MODULES['cv2']
               if dist in facts['installed']}
    if len(set(present.values())) > 1:
        first = next(iter(present))
        yield Row(NOTE, 'OpenCV', 'several write one folder: ' + ', '.join(
            map(' '.join, present.items())), 'pip install ' + ' '.join(
                f'{dist}=={present[first]}' for dist in present))


def pkg_resources(facts: Dict) -> Iterator[Row]:
    version = facts['installed'].get('setuptools')
    found = f'setuptools {version}' if version else 'no setuptools'
    if facts['pkg_resources']:
        yield Row(OK, 'pkg_resources', found)
    elif 'mmengine' in facts['installed']:
        yield Row(FAULT, 'pkg_resources', f'missing ({found}): mmengine needs '
                  "it for _base_ = 'mmdet::...', mmcv to be built",
                  f'pip install "{SETUPTOOLS}"')
    else:
        yield Row(NONE, 'pkg_resources', f'missing ({found})')


def compiler(facts: Dict) -> Iterator[Row]:
    found = facts['collected'].get('GCC') or facts['compiler']
    if found and found != 'n/a':
        yield Row(OK, 'compiler', found)
    else:
        yield Row(NOTE, 'compiler', 'none: mmcv cannot be built',
                  'apt-get install -y g++')


def gpu(facts: Dict) -> Iterator[Row]:
    torch = facts['imports'].get('torch') or {}
    gpus = facts['gpus']
    seen = [f'{key}: {value}' for key, value in facts['collected'].items()
            if key.startswith('GPU ')]
    if not gpus and not torch.get('available'):
        yield Row(NONE, 'GPU', 'none')
        return
    found = '; '.join(gpus or seen)
    if torch.get('available'):
        yield Row(OK, 'GPU', found)
    elif torch.get('version') and not torch.get('cuda'):
        yield Row(NOTE, 'GPU', f'{found}: not used, torch {torch["version"]} '
                  'is a build for CPUs', 'pip install --force-reinstall '
                  f'torch=={torch["version"].partition("+")[0]}; then build '
                  'mmcv again')
    elif torch.get('version') and facts['hidden'] is not None:
        yield Row(NOTE, 'GPU', f'{found}: not used, CUDA_VISIBLE_DEVICES='
                  f'{facts["hidden"]}', 'unset CUDA_VISIBLE_DEVICES')
    elif torch.get('version'):
        yield Row(FAULT, 'GPU', f'{found}: torch for CUDA {torch["cuda"]} '
                  'cannot use it', f'a driver for CUDA {torch["cuda"]} '
                  '(nvidia-smi shows what yours is for), or a torch for an '
                  'older CUDA: https://pytorch.org/get-started/locally')
    nvcc = facts['collected'].get('NVCC') or facts['nvcc']
    if nvcc and nvcc != 'Not Available':
        yield Row(OK, 'nvcc', nvcc)
    else:
        yield Row(NOTE, 'nvcc', 'none: mmcv cannot be built for the GPU',
                  f'install the CUDA toolkit {torch.get("cuda") or ""}, put '
                  'its bin/ on PATH')


def mmcv_cuda(facts: Dict) -> Iterator[Row]:
    mmcv, torch = (facts['imports'].get(name) or {}
                   for name in ('mmcv.ops', 'torch'))
    if torch.get('available') and mmcv.get('cuda') == 'not available':
        yield Row(FAULT, 'mmcv on the GPU', 'built without CUDA operators',
                  f'export FORCE_CUDA=1 && {build_mmcv(facts)}')


def torchvision_operators(facts: Dict) -> Iterator[Row]:
    """Of another build than torch, imported by torchvision_finder's help."""
    vision = facts['imports'].get('torchvision') or {}
    if vision.get('operators') is False:
        yield Row(NOTE, 'torchvision', 'of another build than torch: its '
                  'operators do not load; mmpretrain and grad-cam need none',
                  reinstall_torchvision(facts))


def disk(facts: Dict) -> Iterator[Row]:
    for folder, free in facts['disk'].items():
        full = free < MIN_FREE
        yield Row(FAULT if full else OK, 'disk', f'{folder}: {free:.1f} GB '
                  'free', f'free some space (df -h {folder})' if full else '')


def weights(facts: Dict) -> Iterator[Row]:
    folder = facts['weights']
    if folder and not Path(folder).expanduser().is_dir():
        yield Row(FAULT, 'weights', f'MMIFORMER_WEIGHTS={folder}: no such '
                  'folder', 'unset MMIFORMER_WEIGHTS')
    elif folder:
        yield Row(OK, 'weights', f'MMIFORMER_WEIGHTS={folder}')


# ---------------------------------------------------------------- table

def table(rows: List[Row]) -> str:
    """In Markdown, aligned to be read as it is."""
    cells = [(row.mark, row.name, re.sub(r'[\s|]+', ' ', row.found)[:300])
             for row in rows]
    widths = [max(len(cell[i]) for cell in cells) for i in range(2)]
    lines = [f'| {mark:{widths[0]}} | {name:{widths[1]}} | {found} |'
             for mark, name, found in [('', 'mmiformer env', ''), *cells]]
    return '\n'.join([lines[0], '|---|---|---|', *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--try-imports', action='store_true',
                        help=argparse.SUPPRESS)  # the child process
    if parser.parse_args().try_imports:
        try_imports()
        return
    print('importing the frameworks, some seconds', file=sys.stderr)
    rows = check(gather())
    print(table(rows) + '\n')
    # Faults last: that is what remains on the screen.
    for row in sorted(rows, key=lambda row: row.mark == FAULT):
        if row.cure:
            print(f'{row.mark} {row.name}: {row.cure}')
    sys.exit(any(row.mark == FAULT for row in rows))


if __name__ == '__main__':
    main()
