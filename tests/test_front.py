"""What a user can get wrong is said in one line, by every tool."""
import os
import pickle
import runpy
import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT, refusal, run_tool
from mmengine.logging import MMLogger

from mmiformer import front
from mmiformer.config import load_config

OURS = 'fpn_ade20k/iformer_s_shapes'
OPTIONS = '--cfg-options', 'model.backbone.init_cfg=None'
# The config, the words of the command with its path, and what the line names.
TRAIN = ('train.py', '{}', '--no-check', *OPTIONS)
FAULTS = dict(
    syntax=('a = 1\nb = = 2', ('train.py', '{}'), '{}, line 2: SyntaxError'),
    base_syntax=("_base_ = './base.py'", ('get_flops.py', '{}'),
                 'base.py, line 3: SyntaxError'),
    name=('a = 1\nb = c', ('check_dataset.py', '{}'), "{}, line 2: NameError: "
          "name 'c'"),
    imports=("custom_imports = dict(imports=['beside_broken'])",
             ('export.py', '{}', 'a.pth', '--out', 'a.onnx'),
             "beside_broken.py, line 2: ModuleNotFoundError: No module named "
             "'nowhere'"),
    two_bases=("_base_ = ['one.py', 'two.py']", ('predict.py', '{}', 'a.pth',
                                                 'a.png'), "{}: KeyError: {'k'}"),
    test_dataloader=(f"_base_ = '{ROOT}/configs/{OURS}.py'\n"
                     'test_dataloader = None',
                     ('test.py', '{}', 'a.pth'), '{}: test_dataloader'),
    key=("default_scope = 'mmseg'", ('predict.py', '{}', 'a.pth', 'a.png'),
         "{}: 'test_dataloader'"),
    kind=("model = dict(type='Nett')\ndefault_scope = 'mmseg'",
          ('get_flops.py', '{}'), '{}: Nett'),
    option=('', ('train.py', '{}', '--cfg-options', 'a'), '--cfg-options a: '
            'KEY=VALUE'),
    folder=(f"_base_ = '{ROOT}/configs/{OURS}.py'",
            (*TRAIN, '--work-dir', 'one.py/work'), 'one.py/work'),
    path=('', ('get_flops.py', 'mask_rcn/iformer_s_1x.py'),
          "'mask_rcn/iformer_s_1x.py' mask_rcnn/iformer_s_1x.py"),
    checkpoint=(f"_base_ = '{ROOT}/configs/{OURS}.py'",
                ('spectrum.py', '{}', 'gone.pth', '--images', 'a.png', '--out',
                 'b.png'), 'gone.pth'),
    model=('', ('models.py', 'nothing_like_it'), "'nothing_like_it'"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [*sys.path])
    for name, text in dict(
            base='a = 1\n\nb = = 2', beside_broken='\nimport nowhere',
            one='k = 1', two='k = 2').items():
        (tmp_path / f'{name}.py').write_text(text)
    return tmp_path
