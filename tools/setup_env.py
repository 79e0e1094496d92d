"""Sets up an environment for `make`: a tested stack and mmiformer itself.

Only the standard library is used, and Python 3.6 can read this file, since
the interpreter that runs it may be any.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(ROOT, 'build')  # log and constraints; no mmiformer here
BUILD_TOOLS = ('torch', 'setuptools', 'wheel', 'ninja', 'packaging')

PROBE = '''
import importlib.metadata, importlib.util, json, os, sys, sysconfig
spec = importlib.util.find_spec('mmiformer_cli')
print(json.dumps(dict(
    version=sys.version_info[:2], site=sysconfig.get_paths()['purelib'],
    mmiformer=spec and os.path.dirname(spec.origin),
    installed={dist.metadata['Name'].lower().replace('_', '-'): dist.version
               for dist in importlib.metadata.distributions()})))'''
FAULTS = (  # what a failed step has printed -> what to do
    ('externally-managed-environment|ResolutionImpossible', 'pip may not '
     'change what is installed: omit PYTHON= to use .venv'),
    ('No module named venv|ensurepip', 'install the venv module (apt-get '
     'install python3-venv)'),
    ('No space left on device', 'the disk is full: free some 8 GB'),
    ('NewConnectionError|NameResolution|ConnectTimeout|ReadTimeout|ProxyError|'
     'Temporary failure|Connection (refused|reset)|No matching distribution',
     'check the network (or the proxy and index that pip uses)'),
    ('Python.h: No such file', 'install the headers of Python (apt-get '
     'install python3-dev)'),
    ('CUDA_HOME environment variable is not set', 'install the CUDA toolkit '
     'that torch was built with, or hide the GPU (CUDA_VISIBLE_DEVICES=)'),
    ('fatal error|Killed|error: command|ninja: build stopped',
     'the compiler failed: if memory ran out, set MAX_JOBS=1'),
)


class SetupError(Exception):
    """What went wrong and what to do, in one line."""


def say(text):
    print('[set-up] ' + text, flush=True)


def read_requirements(stack):
    """``{name: line}`` of a stack and of the test tools."""
    lines = []
    for name in (stack, 'dev'):
        with open(os.path.join(ROOT, 'requirements', name + '.txt')) as file:
            lines += [line.split('#')[0].strip() for line in file]
    return {re.split('[=<>]', line)[0]: line for line in lines if line}


def is_met(line, installed):
    """Whether ``{name: version}`` has what a requirement asks for."""
    name, sign, wanted = re.match('([^=<>]+)([=<>]*)(.*)', line).groups()
    if name not in installed or not sign:
        return name in installed
    found, wanted = ([int(x) for x in re.findall(r'\d+', text.split('+')[0])]
                     for text in (installed[name], wanted))
    return {'==': found == wanted, '<': found < wanted,
            '>=': found >= wanted}[sign]


def check_version(version):
    if not (3, 10) <= tuple(version) <= (3, 12):
        raise SetupError('Python %d.%d does not fit: install 3.10, 3.11 or '
                         '3.12, or name one with PYTHON=' % tuple(version))


def run(title, estimate, command):
    """Runs a step; its output goes to the log, its progress to the screen."""
    say('%s, %s' % (title, estimate))
    start, shown, tail = time.time(), 0., ['']
    path = os.path.join(BUILD, 'setup.log')
    with open(path, 'a') as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            cwd=BUILD, universal_newlines=True, errors='replace')
        for line in process.stdout:
            log.write(line)
            tail = tail[-200:] + [line]
            ninja = re.match(r'\s*\[(\d+)/(\d+)\]', line)
            spent = time.time() - start
            if ninja and spent - shown > 30:
                shown, (done, total) = spent, map(int, ninja.groups())
                say('  %d of %d files, about %d minutes left' % (
                    done, total, spent / done * (total - done) / 60 + 1))
    if process.wait():
        advice = next((advice for pattern, advice in FAULTS if re.search(
            pattern, ''.join(tail))), tail[-1].strip())
        raise SetupError('%s failed: %s; then run the same command again '
                         '(log: %s)' % (title, advice, os.path.relpath(path)))


def probe(python):
    """What an interpreter is and has, see PROBE."""
    try:
        return json.loads(subprocess.check_output(
            [python, '-c', PROBE], cwd=BUILD).decode())
    except (OSError, subprocess.CalledProcessError):
        raise SetupError('%s does not run: name another with PYTHON=' %
                         python) from None


def mend_torchvision(python, site):
    """Only where it was compiled for another build of torch, see
    requirements/torchvision_finder.py."""
    error = subprocess.run([python, '-c', 'import torchvision'], cwd=BUILD,
                           stderr=subprocess.PIPE).stderr
    if b'operator torchvision::' in error:
        shutil.copy(os.path.join(ROOT, 'requirements',
                                 'torchvision_finder.py'), site)
        with open(os.path.join(site, 'torchvision_finder.pth'), 'w') as file:
            file.write('import torchvision_finder\n')


def set_up(stack, venv, python=None):
    """Does what is missing. An interpreter of the user's own is added to:
    nothing that it has is changed."""
    os.makedirs(BUILD, exist_ok=True)
    own, python = python, python or os.path.join(venv, 'bin', 'python')
    if not own and not os.path.exists(os.path.join(venv, 'bin', 'pip')):
        check_version(sys.version_info[:2])
        run('creating ' + os.path.relpath(venv), 'some seconds',
            [sys.executable, '-m', 'venv', '--clear', os.path.abspath(venv)])
    python = os.path.abspath(shutil.which(python) or python)
    state, required = probe(python), read_requirements(stack)
    check_version(state['version'])
    installed = state['installed']
    for name in installed:  # the stacks share modules under other names
        if name not in required and re.match(
                '(onedl-)?mm(cv|engine|det|seg|pretrain)', name):
            raise SetupError('%s is of another stack with the same modules: '
                             'name it with STACK=, or omit PYTHON=' % name)
    todo = {name: line for name, line in required.items() if (
        name not in installed if own else not is_met(line, installed))}
    if (not todo and state['mmiformer'] == ROOT
            and os.path.exists(os.path.join(ROOT, 'mmiformer', '.mim'))):
        return
    # Keeps pip from changing, for one package, what another needs.
    kept = installed if own else {}
    pins = ['%s==%s' % item for item in kept.items()] + [
        line for name, line in required.items() if name not in kept]
    if 'opencv-python' in kept:  # grad-cam brings the other, with its files
        pins.append('opencv-python-headless==' + kept['opencv-python'])
    constraints = os.path.join(BUILD, 'constraints.txt')
    with open(constraints, 'w') as file:
        file.write('\n'.join(pins))
    pip = [python, '-m', 'pip', 'install', '--disable-pip-version-check',
           '--constraint', constraints]
    first = [todo.pop(name) for name in BUILD_TOOLS if name in todo]
    if first:
        run('installing torch and the build tools',
            'a minute, several with CUDA', pip + first)
    for name in [name for name in todo if name.endswith('mmcv')]:
        if not (shutil.which('c++') or shutil.which('g++')):
            raise SetupError('there is no C++ compiler to build mmcv: install '
                             'one (apt-get install g++)')
        run("building mmcv's operators", 'some 12 minutes on 2 cores, once',
            pip + ['-v', '--no-build-isolation', todo.pop(name)])
    if todo:
        run('installing the frameworks and the test tools', 'a minute',
            pip + list(todo.values()))
    run('installing mmiformer', 'some seconds',
        pip + ['--no-build-isolation', '-e', ROOT])
    mend_torchvision(python, state['site'])
    run('checking the environment', 'some seconds',
        [python, os.path.join(ROOT, 'tools', 'env.py')])
    say('ready')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--stack', default='openmmlab',
                        help='a file of requirements/, without .txt')
    parser.add_argument('--venv', default=os.path.join(ROOT, '.venv'))
    parser.add_argument('--python', help='use this interpreter, no venv')
    try:
        set_up(**vars(parser.parse_args()))
    except SetupError as error:
        sys.exit('[set-up] %s' % error)
