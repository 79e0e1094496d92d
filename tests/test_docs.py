"""The commands and settings of the documents are those that the tools take;
the blocks of python and console run, and print what they say."""
import argparse
import contextlib
import copy
import doctest
import functools
import inspect
import io
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from unittest import SkipTest, mock

import pytest
import sybil
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.registry import root
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers import markdown

from mmiformer.config import add_cfg_options, load_config, walk
from mmiformer.kit.checks import check_settings
from mmiformer_cli import find_tools

DOCUMENTS = ['README.md', *(f'docs/{path.name}' for path in sorted(
    ROOT.glob('docs/*.md')) if path.name != 'commands.md')]  # of the tools' own
FENCED = re.compile('```.*?```', re.DOTALL)
COMMAND = re.compile(r'(tools/[\w/]+\.\w+|benchmarks/backbones\.py)\s(.*)')
OPTIONAL = re.compile(r'\[.*?\]')
# For each framework; documents say `train.py CONFIG`.
CONFIGS = ['mask_rcnn/iformer_s_1x.py', 'fpn_ade20k/iformer_s_80k.py']
IMAGE = ROOT / 'docs/images/demo.jpg'  # in place of those of examples
AMP = {'optim_wrapper.type': 'AmpOptimWrapper'}  # the subject of some lines


def find_commands(document):
    """Tools and arguments of the commands on lines of their own."""
    text = (ROOT / document).read_text().replace('\\\n', ' ')
    for line in '\n'.join(FENCED.findall(text)).splitlines():
        line = re.sub(r'^(?:\$ )?mmiformer (\w+)', lambda found: 'tools/' +
                      find_tools()[found[1]].name, line)
        if found := COMMAND.search(line):
            tool, rest = found[1], found[2].split(' #')[0]
            words = subprocess.run(
                ['bash', '-c', f'printf "%s\\n" {re.sub(OPTIONAL, "", rest)}'],
                env=dict(CONFIG=f'configs/{CONFIGS[0]}'), check=True,
                stdout=subprocess.PIPE, text=True).stdout.split('\n')[:-1]
            if tool.endswith('.sh'):  # of dist_*.sh: how many processes
                tool = re.sub(r'(dist|slurm)_(\w+)\.sh', r'\2.py', tool)
                words = [word for word in words if not word.isdigit()]
            yield tool, words


def find_settings(document):
    """Settings within a line, for --cfg-options."""
    text = FENCED.sub('', (ROOT / document).read_text())
    for span in re.findall('`([^`]+)`', text):
        if re.match(r'--cfg-options\s|\w+\.[\w.]+=', span):
            yield [word for word in shlex.split(span)
                   if re.match('[a-z]', word)]


def read(words):
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    return parser.parse_args(['--cfg-options', *words]).cfg_options


read_once = functools.lru_cache(maxsize=None)(Config.fromfile)


COMMANDS = [(document, *command) for document in DOCUMENTS
            for command in find_commands(document)]
SETTINGS = sorted({' '.join(map(shlex.quote, words)) for document in DOCUMENTS
                   for words in find_settings(document) if words})


@pytest.mark.parametrize('document, tool, words', COMMANDS)
def test_commands(document, tool, words, tmp_path, monkeypatch):
    for word in words:
        assert not word.startswith('configs/') or (ROOT / word).is_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    words = [re.sub(r'^[^=]*\.(jpg|\*)$', str(IMAGE), word) for word in words]
    with mock.patch.object(sys, 'argv', [tool, *words]):
        parsed = vars(runpy.run_path(str(ROOT / tool))['parse_args']())
    if options := parsed.get('cfg_options'):
        assert find_faults(ROOT / words[0], options) == []


@pytest.mark.parametrize('words', SETTINGS)
def test_settings(words, monkeypatch):
    """Of a detector or of a segmentor."""
    monkeypatch.setattr(Config, 'fromfile', lambda path: copy.deepcopy(
        read_once(path)))
    options = {**AMP, **read(shlex.split(words))}
    assert any(not find_faults(ROOT / 'configs' / config, options)
               for config in CONFIGS)


def find_faults(config, options):
    """What is said of overrides, and those that a class does not take."""
    try:
        cfg = load_config(config, options)
    except ValueError as error:
        return [str(error)]
    nodes = dict(walk(cfg.to_dict()))
    return [key for option in options for key in parents(option)
            if not takes(nodes[key.rpartition('.')[0]], key, cfg)]


def parents(key):
    """``a.b``, ``a.b.c`` of ``a.b.c``."""
    names = key.split('.')
    return ['.'.join(names[:n]) for n in range(2, len(names) + 1)]


def takes(node, key, cfg):
    """Whether a class of the node's name has an argument of the key's name, or
    passes it on to a base class."""
    kind, name = isinstance(node, dict) and node.get('type'), (
        key.rpartition('.')[2])
    if not kind or name == 'type':
        return True
    registries = [found for found in vars(root).values()
                  if isinstance(found, root.Registry)]
    for registry in registries:
        with contextlib.suppress(ImportError, RuntimeError, AttributeError):
            with registry.switch_scope_and_registry(
                    cfg.default_scope) as scoped:
                found = scoped.get(kind)
            for part in inspect.getmro(found):
                taken = inspect.signature(part.__init__).parameters
                if name in taken:
                    return True
                if all(p.kind is not p.VAR_KEYWORD for p in taken.values()):
                    break
    return False


def test_the_tests_that_are_named_exist():
    """Of the table of README's claims."""
    named = re.findall(r'`(tests/[\w/]+\.py)::(\w+)`',
                       (ROOT / 'CONTRIBUTING.md').read_text())
    assert named and [(file, name) for file, name in named if (
        f'def {name}(' not in (ROOT / file).read_text())] == []


@pytest.mark.parametrize('title', ['the size', 'the schedule'])
def test_what_a_child_config_changes(title, tmp_path):
    """The settings of the child agree with each other."""
    text = (ROOT / 'docs/downstream.md').read_text()
    lines = re.search(rf'\n# {title}.*?(?=\n\n|\n```)', text, re.DOTALL)[0]
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = {str(ROOT / "configs" / CONFIGS[0])!r}\n{lines}')
    assert check_settings(load_config(child), ('train', 'val', 'test')) == []


@pytest.fixture(scope='module')
def weights(tmp_path_factory, released_small):
    """The names and shapes of the authors' weights, with other values."""
    file = tmp_path_factory.mktemp('weights') / 'iformer_small.pth'
    torch.save(released_small, file)
    return file


@pytest.fixture
def project(tmp_path, monkeypatch, weights):
    """A folder with what the blocks mention: a photo, and weights."""
    shutil.copy(IMAGE, tmp_path / 'photo.jpg')
    (tmp_path / weights.name).symlink_to(weights)
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize('document', DOCUMENTS)
def test_blocks(document, project):
    """`python` and `console`; a block that cannot run says why before it, as
    <!-- skip: next "needs COCO" -->."""
    assert not re.search(r'<!--+ *skip: \w+ *--+>', (
        ROOT / document).read_text())
    parsed = parse(ROOT / document)
    parsed.namespace['images'] = torch.rand(1, 3, 64, 96)
    for example in parsed.examples():
        with contextlib.suppress(SkipTest):
            example.evaluate()


def parse(path):
    return sybil.Sybil([
        markdown.CodeBlockParser('python', run_python),
        markdown.CodeBlockParser('console', run_console),
        markdown.SkipParser()]).parse(path)


def run_python(example):
    """Configs are loaded; comments below a print are what it prints."""
    if re.search(r'^_base_ = ', example.parsed, re.MULTILINE):
        with open('child.py', 'w') as file:
            file.write(example.parsed)
        Config.fromfile('child.py')
        return
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        PythonEvaluator()(example)
    expected = re.findall(r'^ *print\(.*\n((?:# .*\n)+)', example.parsed, re.M)
    compare(re.sub('(?m)^# ', '', ''.join(expected)), printed)


def run_console(example):
    """Commands follow `$ `, then what they print."""
    for block in re.split(r'^\$ ', example.parsed, flags=re.MULTILINE)[1:]:
        command, expected = re.fullmatch(
            r'((?:[^\n]*\\\n)*[^\n]*)\n(.*)', block, re.DOTALL).groups()
        name, *words = shlex.split(command)
        assert name == 'mmiformer', command
        with mock.patch.object(sys, 'argv', [name, *words]), (
                contextlib.redirect_stdout(io.StringIO())) as printed:
            try:
                runpy.run_module('mmiformer', run_name='__main__')
            except SystemExit as ended:
                assert not ended.code
        compare(expected, printed)


def compare(expected, printed):
    """`...` is any text."""
    printed, checker = printed.getvalue(), doctest.OutputChecker()
    assert checker.check_output(expected, printed, doctest.ELLIPSIS), printed
