"""The shapes that attention gets, and the table of its kernels."""
import sys

import pytest
import torch

from mmiformer import IFormer

pytest.importorskip('torch.nn.attention', reason='needs torch 2.3')
import attention  # noqa: E402
from torch.nn.attention import sdpa_kernel  # noqa: E402


def test_the_shapes_are_the_networks(monkeypatch):
    """Those of the calls of a forward pass, last of each stage."""
    calls = []
    real = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, 'scaled_dot_product_attention',
        lambda q, k, v: calls.append(tuple(q.shape)) or real(q, k, v))
    with torch.no_grad():
        IFormer('small')(torch.zeros(2, 3, 40, 72))
    assert len(calls) == 18  # blocks: 3, 3, 9, 3
    assert attention.shapes('40x72@2') == [calls[i] for i in (2, 5, 14, 17)]


def test_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [
        'attention.py', '--sizes', '32@2', '--dtypes', 'fp32', '--rounds', '1',
        '--threads', '1'])
    attention.main()
    rows = [line.strip('| ').split(' | ') for line in
            capsys.readouterr().out.splitlines() if line.startswith('| 32@2')]
    assert [row[1:6] for row in rows[:3]] == [
        ['1', '1, 16', 'fp32', 'forward', kernel] for kernel in (
            "torch's own: flash_attention_for_cpu", 'math', 'flash')]
    assert {row[4] for row in rows} == {'forward', 'train'}
    assert all(float(row[6]) > 0 for row in rows)


def test_each_kernel_is_the_one_that_was_asked_for():
    steps = attention.make_steps(torch.randn(3, 1, 1, 8, 32))
    assert list(steps) == [attention.DEFAULT, 'math', 'flash']
    assert attention.name_of(steps['flash']) == 'flash_attention_for_cpu'
    assert attention.name_of(steps['math']) == 'attention_math'
    with sdpa_kernel(attention.KERNELS[2:]), pytest.raises(RuntimeError):
        torch.nn.functional.scaled_dot_product_attention(
            *torch.randn(3, 1, 1, 8, 32))
