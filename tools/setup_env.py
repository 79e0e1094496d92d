"""Sets up an environment for `make`: a tested stack and mmiformer itself.

Only the standard library is used, and Python 3.6 can read it, since the
interpreter that runs it may be any.
"""
import argparse
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOG = os.path.join(ROOT, 'build', 'setup.log')
PYTHONS = ((3, 10), (3, 12))  # oldest and newest that are tested
OPENCV = 'opencv-python'

# Runs in the environment: what is installed there, without importing it.
PROBE = r'''
import importlib.metadata as metadata, importlib.util as util, json, os
import sys, sysconfig
names = json.loads(sys.argv[1])
found = {}
for name in names:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
def folder(name):
    spec = util.find_spec(name)
    return spec and spec.submodule_search_locations[0]
mmcv = folder('mmcv')
print(json.dumps(dict(
    version=list(sys.version_info[:2]), found=found,
    ops=bool(mmcv) and any(f.startswith('_ext.') for f in os.listdir(mmcv)),
    mmiformer=folder('mmiformer'),
    header=os.path.join(sysconfig.get_paths()['include'], 'Python.h'))))
'''
VERIFY = 'import cv2, torch, mmcv.ops, mmdet, mmseg, mmiformer'
NEEDS_NVCC = ('import sys, torch; from torch.utils.cpp_extension import '
              'CUDA_HOME; sys.exit(torch.cuda.is_available() and not '
              'CUDA_HOME)')

# What pip printed -> what to do.
PIP_FAULTS = (
    (r'externally-managed-environment',
     'pip may not change {python}: leave PYTHON= away to use .venv, or name '
     'the interpreter of a virtual environment'),
    (r'No space left on device', 'the disk is full: free some 8 GB'),
    (r'NewConnectionError|NameResolution|ConnectTimeout|ReadTimeout|'
     r'ProxyError|Temporary failure|Connection (refused|reset)|'
     r'Could not find a version|No matching distribution',
     'a package could not be downloaded: check the network (or the proxy '
     'and index that pip uses)'),
    (r'fatal error|Killed|command .*(gcc|g\+\+|ninja).* failed|'
     r'error: command',
     'the compiler failed: if memory ran out, set MAX_JOBS=1'),
)


class SetupError(Exception):
    """What went wrong and what to do, in one line."""


def say(text):
    print('[set-up] ' + text, flush=True)


def read_requirements(path):
    """{name: line} of a requirements file."""
    with open(path) as file:
        lines = [line.split('#')[0].strip() for line in file]
    return {re.split(r'[=<>!~ ]', line)[0]: line for line in lines if line}


def probe(python, names):
    result = subprocess.run(
        [python, '-c', PROBE, json.dumps(names)], stdout=subprocess.PIPE,
        cwd=os.path.join(ROOT, 'tools'))  # not ROOT: mmiformer lies there
    if result.returncode:
        raise SetupError('%s does not run; name another with PYTHON=' % python)
    return json.loads(result.stdout.decode())


def check_version(version):
    if not PYTHONS[0] <= tuple(version) <= PYTHONS[1]:
        raise SetupError(
            'Python %d.%d does not fit, 3.10 to 3.12 do: install one of them '
            '(with its venv module), or name one by '
            'PYTHON=/path/to/python' % tuple(version))


def other_stacks(stack):
    """{distribution: stack} of the mm packages of all the other stacks, which
    have the same modules as this one's under other names."""
    own = read_requirements(
        os.path.join(ROOT, 'requirements', stack + '.txt'))
    found = {}
    for path in sorted(glob.glob(os.path.join(ROOT, 'requirements', '*.txt'))):
        for name in read_requirements(path):
            if name.startswith(('mm', 'onedl')) and name not in own:
                found[name] = os.path.basename(path)[:-len('.txt')]
    return found


def missing(state, required):
    """Lines of the requirements that the environment does not meet."""
    lines = []
    for name, line in required.items():
        version = state['found'][name]
        pin = line.partition('==')[2]
        below = line.partition('<')[2]
        if version is None or (pin and version.split('+')[0] != pin) or (
                below and int(version.split('.')[0]) >= int(below)):
            lines.append(line)
    return lines


def check_foreign(state, required, others, python):
    """An environment of the user's own is added to, never changed."""
    for name, stack in others.items():
        if state['found'][name] is not None:
            raise SetupError(
                '%s has %s, of another stack with the same modules: name it '
                'with STACK=%s, or leave PYTHON= away' % (python, name, stack))
    for name, line in required.items():
        version, pin = state['found'][name], line.partition('==')[2]
        if version is None or not pin:
            continue
        if name == 'torch':
            fits = tuple(map(int, version.split('.')[:2])) >= (2, 1)
        elif name.startswith(('mm', 'onedl')):
            fits = version.split('.')[:2] == pin.split('.')[:2]
        else:
            fits = True
        if not fits:
            raise SetupError(
                '%s has %s %s, which does not fit: run `%s -m pip install '
                '%s`, or leave PYTHON= away to use .venv' %
                (python, name, version, python, line))


def write_constraints(state, required, own):
    """Keeps pip from changing, for the sake of one package, what another
    needs: torch, for one, would take a setuptools without pkg_resources."""
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    path = os.path.join(os.path.dirname(LOG), 'constraints.txt')
    with open(path, 'w') as file:
        for name, line in required.items():
            version = state['found'][name]
            keep = version and not own
            file.write('%s==%s\n' % (name, version) if keep else line + '\n')
        if not own and state['found'][OPENCV]:
            # grad-cam brings the other one, whose files are the same.
            file.write('%s-headless==%s\n' % (OPENCV, state['found'][OPENCV]))
    return path


def run(title, estimate, command, python):
    """Runs a step; its output goes to the log, its progress to the screen."""
    say('%s, %s' % (title, estimate))
    start, tail, shown = time.time(), [], 0.
    os.makedirs(os.path.dirname(LOG), exist_ok=True)
    with open(LOG, 'a') as log:
        log.write('\n$ %s\n' % ' '.join(command))
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=ROOT, universal_newlines=True, errors='replace')
        for line in process.stdout:
            log.write(line)
            tail = tail[-200:] + [line]
            done = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            spent = time.time() - start
            count, total = map(int, done.groups()) if done else (0, 0)
            if count > 3 and spent - shown > 15:  # ninja's count of files
                left = spent / count * (total - count)
                say('  %d of %d files, %s spent, about %s left' % (
                    count, total, minutes(spent), minutes(left)))
                shown = spent
    if process.wait():
        text = ''.join(tail)
        advice = next((advice for pattern, advice in PIP_FAULTS
                       if re.search(pattern, text)), 'see the end of the log')
        raise SetupError('%s failed: %s; then run the same command again '
                         '(log: %s)' % (title, advice.format(python=python),
                                        os.path.relpath(LOG)))
    say('  done in %s' % minutes(time.time() - start))


def minutes(seconds):
    return '%d:%02d min' % divmod(int(seconds), 60)


def check_compiler(python, header):
    if not (shutil.which('g++') or shutil.which('c++')):
        raise SetupError('there is no C++ compiler for the operators of '
                         'mmcv: install one (apt-get install g++)')
    if not os.path.isfile(header):
        raise SetupError(
            'the headers of %s are missing (%s): install them (apt-get '
            'install python3-dev)' % (python, header))
    if subprocess.call([python, '-c', NEEDS_NVCC],
                       stderr=subprocess.DEVNULL):
        raise SetupError(
            'a GPU but no nvcc: install the CUDA toolkit that torch was '
            'built with and set CUDA_HOME, or hide the GPU for a CPU build '
            '(CUDA_VISIBLE_DEVICES= make ...)')


def create_venv(path):
    say('creating %s, some seconds' % os.path.relpath(path))
    if subprocess.call([sys.executable, '-m', 'venv', path],
                       stdout=subprocess.DEVNULL):
        shutil.rmtree(path, ignore_errors=True)
        raise SetupError(
            '%s cannot make a virtual environment: install its venv module '
            '(apt-get install python3-venv)' % sys.executable)


def verify(python, mmcv):
    result = subprocess.run(
        [python, '-c', VERIFY], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, cwd=os.path.join(ROOT, 'tools'))
    if result.returncode:
        error = result.stdout.decode(errors='replace').strip()
        error = error.splitlines()[-1] if error else 'crashed'
        if 'libGL' in error:
            advice = 'install it (apt-get install libgl1)'
        elif '_ext' in error or 'undefined symbol' in error:
            advice = ("mmcv's operators were built against another torch: "
                      'run `%s -m pip cache remove %s` and `%s -m pip '
                      'uninstall -y %s`' % (python, mmcv, python, mmcv))
        else:
            advice = 'remove the environment'
        raise SetupError('the packages do not work together (%s): %s, then '
                         'run the same command again' % (error, advice))


def set_up(args):
    own = not args.python
    python = args.python or os.path.join(args.venv, 'bin', 'python')
    if own:
        check_version(sys.version_info[:2])
        if not os.path.exists(python):
            create_venv(args.venv)
    python = os.path.abspath(shutil.which(python) or python)
    stack = read_requirements(
        os.path.join(ROOT, 'requirements', args.stack + '.txt'))
    required = dict(stack, **read_requirements(
        os.path.join(ROOT, 'requirements', 'dev.txt')))
    others = other_stacks(args.stack)
    state = probe(python, list(required) + list(others) + [OPENCV])
    check_version(state['version'])
    constraints = write_constraints(state, required, own)
    if not own:
        check_foreign(state, required, others, python)
        required = {name: line for name, line in required.items()
                    if state['found'][name] is None}
    todo = missing(state, required)
    mmcv_name = next(name for name in stack if name.endswith('mmcv'))
    mmcv = stack[mmcv_name]
    if not state['ops'] and mmcv not in todo:
        todo.append(mmcv)
    here = os.path.join(ROOT, 'mmiformer')
    if not todo and state['mmiformer'] == here:
        return
    say('%s, %s' % (python, 'Python %d.%d' % tuple(state['version'])))
    pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check',
           '--constraint', constraints]
    first = [line for line in todo
             if re.match(r'(torch|setuptools|wheel|ninja|packaging)\b', line)]
    rest = [line for line in todo if line not in first and line != mmcv]
    if first:
        run('installing torch and the build tools', 'about 1 minute, several '
            'with CUDA', pip + first, python)
    if mmcv in todo:
        check_compiler(python, state['header'])
        # A broken or op-less mmcv of the right version is built anew.
        force = ['--force-reinstall', '--no-deps',
                 '--no-binary=' + mmcv_name] if (
            mmcv not in missing(state, required)) else []
        run("building mmcv's ops", 'about 12 minutes on 2 cores, once',
            pip + ['-v', '--no-build-isolation', mmcv] + force, python)
    if rest:
        run('installing %s and the test tools' % ', '.join(
            name for name in stack
            if name.startswith(('mm', 'onedl')) and name != mmcv_name),
            'about 1 minute', pip + rest, python)
    run('installing mmiformer from this folder', 'some seconds',
        pip + ['--no-deps', '--no-build-isolation', '-e', '.'], python)
    say('checking that everything imports, some seconds')
    verify(python, mmcv_name)
    say('ready')


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--stack', default='openmmlab',
                        help='a file of requirements/, without .txt')
    parser.add_argument('--venv', default=os.path.join(ROOT, '.venv'))
    parser.add_argument('--python', help='use this interpreter, no venv')
    try:
        set_up(parser.parse_args())
    except SetupError as error:
        say(str(error))
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
