"""What is said where nothing can be exported, on any torch and without the
packages of the export."""
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch
from conftest import refusal

from mmiformer.kit import export as exporting
from mmiformer.kit.exported import ExportedModel


@pytest.fixture
def line(configs, monkeypatch, tmp_path):
    """Gives the error of an export to a file of a name."""
    monkeypatch.chdir(tmp_path)

    def line(name):
        error = refusal('export.py', configs / 'imagenet/iformer_s_300e.py',
                        'none.pth', '--out', name)
        assert not Path(name).exists()
        return error

    return line


@pytest.mark.parametrize('name, found', [
    ('model.pt2', "'.pt2'"), ('model', "''"), ('model.onnx.gz', "'.gz'")])
def test_another_kind_of_file(name, found, line):
    error = line(name)
    assert name in error and found in error and "'.onnx'" in error


def test_a_torch_without_the_exporter(line, monkeypatch):
    monkeypatch.setattr(exporting, 'TORCH', (2, 4))
    error = line('model.onnx')
    assert '2.5' in error and torch.__version__ in error


@pytest.mark.parametrize('version', [(2, 5), (2, 13), (3, 0)])
def test_newer_ones_pass(version, monkeypatch):
    monkeypatch.setattr(exporting, 'TORCH', version)
    monkeypatch.setattr(exporting, 'find_spec', lambda name: ModuleSpec(
        name, None))
    exporting.check_environment()


def test_missing_packages_are_named(line, monkeypatch):
    monkeypatch.setattr(exporting, 'TORCH', (2, 5))
    monkeypatch.setattr(exporting, 'find_spec', lambda name: None)
    error = line('model.onnx')
    assert 'onnx, onnxscript, onnxruntime' in error
    assert '".[export]"' in error


def test_a_file_without_its_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    with pytest.raises(ImportError, match='onnxruntime'):
        ExportedModel('x.onnx')
