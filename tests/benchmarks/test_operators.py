"""Operators and their shares."""
import operators
import torch
from torch import nn
from variants import NETWORKS, Variant


def test_table():
    lines = operators.markdown({
        'aten::a': (1., 3.), 'aten::b': (7., 1.), 'aten::c': (0.5, 2.),
        'aten::d': (1.5, 10.)}, least=0.12).splitlines()[2:]
    assert lines == ['| `aten::b` | 1 | 7.0 | 70 % |',
                     '| `aten::d` | 10 | 1.5 | 15 % |',
                     '| and the rest | 5 | 1.5 | 15 % |',
                     '| all | 16 | 10.0 | 100 % |']


def test_calls_of_one_pass(monkeypatch):
    monkeypatch.setitem(NETWORKS, 'plain', lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.GELU(), nn.GELU()))
    times = operators.own_times(Variant('plain'), (8, 6, 2), 'fp32', passes=2)
    assert times['aten::gelu'][1] == 2 and times['aten::gelu'][0] > 0
    assert times['aten::conv2d'][1] == 1
    assert 'aten::_to_copy' not in times
    times = operators.own_times(Variant('plain'), (8, 6, 2), 'bf16', passes=1)
    assert times['aten::_to_copy'][1] >= 1  # the image is cast
    assert not torch.is_autocast_cpu_enabled()
