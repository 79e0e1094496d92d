"""What a user can get wrong is said in one line, by every tool."""
import os
import sys
import warnings
from argparse import Namespace

import pytest
from conftest import ROOT, refusal, run_tool
from mmengine.logging import MMLogger

from mmiformer import front
from mmiformer.config import load_config

SHAPES = f"_base_ = '{ROOT}/configs/fpn_ade20k/iformer_s_shapes.py'\n"
FILES = dict(base='a = 1\n\nb = = 2', broken='\nimport nowhere', one='k = 1',
             two='k = 2', beside='value = 3')
# The config; the command with {} for its path; what the line names.
FAULTS = dict(
    syntax=('a = 1\nb = = 2', 'train.py {}', ['{}', 'line 2', 'SyntaxError']),
    syntax_of_a_base=("_base_ = './base.py'", 'get_flops.py {}',
                      ['{}', 'a base, line 3', 'SyntaxError']),
    name=('a = 1\nb = c', 'check_dataset.py {}', ["{}, line 2:", "'c'"]),
    imports=("custom_imports = dict(imports=['broken'])",
             'export.py {} a.pth --out a.onnx',
             ['broken.py, line 2:', "'nowhere'"]),
    two_bases=("_base_ = ['one.py', 'two.py']", 'predict.py {} a.pth .',
               ['{}: ', "{'k'}"]),
    no_loader=(SHAPES + 'test_dataloader = None', 'test.py {} a.pth',
               ['{}: ', 'test_dataloader']),
    no_key=("default_scope = 'mmseg'", 'predict.py {} a.pth .',
            ['{}: ', 'test_dataloader']),
    no_class=("default_scope = 'mmseg'\nmodel = dict(type='Nett')",
              'get_flops.py {}', ['{}: ', 'Nett']),
    folder=(SHAPES, 'train.py {} --no-check --work-dir one.py/work '
            '--cfg-options model.backbone.init_cfg=None', ['one.py']),
    path=('', 'get_flops.py mask_rcn/iformer_s_1x.py', [
        "'mask_rcn/iformer_s_1x.py'", 'mask_rcnn/iformer_s_1x.py']),
    checkpoint=(SHAPES, 'spectrum.py {} gone.pth --images a.png --out b.png',
                ['gone.pth']),
    layer=(SHAPES, 'cam.py {} gone.pth --images a.png --out b.png',
           ['gone.pth']),
    model=('', 'models.py nothing_like_it', ["'nothing_like_it'"]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With modules, bases and an image; sys.path is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    for name, text in FILES.items():
        (tmp_path / f'{name}.py').write_text(text)
    (tmp_path / 'a.png').write_bytes(
        next((ROOT / 'docs').rglob('*.png')).read_bytes())
    return tmp_path


@pytest.mark.parametrize('fault', FAULTS)
def test_a_users_error_is_a_line(fault, folder, capfd):
    text, command, names = FAULTS[fault]
    config = folder / 'own.py'
    config.write_text(text)
    words = command.format(config).split()
    line = refusal(*words)
    assert '\n' not in line
    for name in names:
        assert name.replace('{}', str(config)) in line
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_tool(*words, '--debug')
    assert ended.value.code == 1
    assert 'Traceback (most recent' in capfd.readouterr().err


@pytest.mark.parametrize('tool', [
    'train.py', 'test.py', 'predict.py', 'check_dataset.py', 'reproduce.py'])
def test_an_option_without_a_value(tool, folder):
    arguments = dict(predict=['a.pth', 'a.png'], test=['a.pth'],
                     reproduce=[]).get(tool[:-3], [])
    first = 'shapes/fpn' if tool == 'reproduce.py' else 'one.py'
    line = refusal(tool, first, *arguments, '--cfg-options', 'a=1', 'bc')
    assert 'bc: ' in line and 'KEY=VALUE' in line


def test_a_module_beside_the_config_is_found(folder):
    (folder / 'own.py').write_text("custom_imports = dict(imports='beside')")
    load_config(folder / 'own.py')
    assert sys.modules.pop('beside').value == 3


@pytest.mark.parametrize('error, traced', [
    (ValueError('x 7'), False), (OSError('x 7'), False),
    (RuntimeError('x 7'), False), (ImportError('x 7'), False),
    (TypeError('x 7'), True), (KeyError('x 7'), True),
    (AttributeError('x 7'), True), (NotImplementedError('x 7'), True)])
def test_a_bug_keeps_its_trace(error, traced, capfd):
    def work(args):
        raise error

    with pytest.raises(SystemExit) as ended:
        front.run(work, Namespace(debug=False), status=2)
    printed = capfd.readouterr().err
    assert ended.value.code == 2 and 'x 7' in printed
    assert ('Traceback' in printed) == traced
    hint = ' (--debug shows the trace)' * isinstance(error, RuntimeError)
    assert traced or printed == f'error: x 7{hint}\n'


def test_only_these_kinds_are_mended(capfd):
    """As while a training runs."""
    for error, traced in ((OSError('x'), True), (EOFError('x'), False)):
        with pytest.raises(SystemExit), front.report_errors(
                Namespace(debug=False), kinds=(EOFError, )):
            raise error
        assert ('Traceback' in capfd.readouterr().err) == traced


def test_the_process_is_prepared(monkeypatch):
    """An unsafe checkpoint is refused, and others' warnings are not shown."""
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    before = [*warnings.filters]

    def work(args):
        return (os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'],
                MMLogger.get_current_instance().level, args.debug)

    with warnings.catch_warnings():
        assert front.run(work, Namespace(debug=False), 20)[0] == '1'
        assert warnings.filters == before
        assert front.run(work, Namespace(debug=False)) == ('1', 40, False)
        assert warnings.filters[0][0] == 'ignore'
