"""What a user can get wrong ends every tool in one line, and no trace."""
import pickle
from pathlib import Path

import pytest
from conftest import call, refusal
from small_configs import write_config


class Hostile:
    def __reduce__(self):
        return Path.touch, (Path('ran'), )


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in dict(
            open='a = (1\n', line="a = 1\nb = undefined\n",
            child="_base_ = 'line.py'\n", one='a = 1\n', other='a = 2\n',
            twice="_base_ = ['one.py', 'other.py']\n",
            imports="custom_imports = dict(imports=['nowhere'])\n",
            bare='model = dict()\n').items():
        Path(f'{name}.py').write_text(text)
    Path('hostile.pth').write_bytes(pickle.dumps(Hostile()))
    Path('file').touch()


FPN = 'fpn_ade20k/iformer_s_80k'
OUT = 'export.py', FPN, 'a.pth', '--out'
MISTAKES = [  # the command, what its line names
    (['check_dataset.py', 'open.py'], ['open.py, line 1', 'SyntaxError']),
    (['check_dataset.py', 'line.py'], ['line.py, line 2', 'undefined']),
    (['get_flops.py', 'child.py'], ['line.py, line 2', 'undefined']),
    (['train.py', 'twice.py'], ['twice.py', "'a'"]),
    (['test.py', 'imports.py', 'a.pth'], ['imports.py', 'nowhere']),
    (['get_flops.py', 'fpn_ade20k/iformer_s_8k.py'],
     ['fpn_ade20k/iformer_s_80k.py']),
    (['train.py', FPN, '--cfg-options', 'max_epochs', '3'],
     ['max_epochs 3', 'KEY=VALUE']),
    (['train.py', 'bare.py'], ['bare.py', 'train_dataloader']),
    (['test.py', 'bare.py', 'a.pth'], ['bare.py', 'test_dataloader']),
    (['train.py', FPN, '--no-check', '--work-dir', 'file/below'],
     ['file/below']),
    ([*OUT, 'file/below.onnx'], ['file/below.onnx']),
    (['predict.py', FPN, 'hostile.pth', 'a.jpg'], ['hostile.pth']),
    (['spectrum.py', FPN, 'hostile.pth', '--images', 'file', '--out', 'a.png'],
     ['file']),
    (['models.py', 'iformer_x'], ['iformer_x', 'iformer_s_1x'])]


@pytest.mark.parametrize('command, named', MISTAKES)
def test_one_line(command, named, files):
    line = refusal(*command)
    assert 'error: ' in line and '\n' not in line
    assert [word for word in named if word not in line] == []


def test_a_hostile_checkpoint_is_refused(files, tmp_path):
    config = write_config(tmp_path / 'seg.py', 'seg')
    line = refusal('test.py', config, 'hostile.pth', '--no-check')
    assert 'hostile.pth' in line and 'tensors' in line
    assert not Path('ran').exists()


def test_debug_shows_the_trace(files):
    text = call('get_flops.py', 'line.py', '--debug', check=False)
    assert 'Traceback' in text and 'NameError' in text
    assert 'Traceback' not in call('get_flops.py', 'line.py', check=False)


def test_a_module_beside_the_config_is_imported(files):
    Path('beside.py').write_text(
        'from mmengine.registry import MODELS\nfrom torch import nn\n'
        '@MODELS.register_module()\nclass Beside(nn.Conv2d):\n'
        '    def __init__(self):\n        super().__init__(3, 4, 1)\n')
    Path('own.py').write_text(
        "custom_imports = dict(imports=['beside'])\n"
        "model = dict(type='Beside')\n")
    assert 'FLOPs' in call('get_flops.py', 'own.py', '--shape', 32, 32)
