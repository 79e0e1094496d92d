"""What the machine can do."""
import subprocess
import sys

import pytest
import torch

from mmiformer.analysis import benchmark


def test_ceilings():
    rates = benchmark.ceilings(torch.device('cpu'), ['fp32'], (64, 128),
                               copied=10 ** 6)
    assert rates.keys() == {'fp32', 'copy'}
    assert all(0 < rate < float('inf') for rate in rates.values())


@pytest.mark.skipif(sys.platform != 'linux', reason='a limit of Linux')
def test_an_allocation_past_the_limit_is_refused():
    code = '''
import torch
from mmiformer.analysis import benchmark
benchmark.limit_memory(spare=2 ** 30)
torch.ones(2 ** 26)  # 256 MiB
try:
    torch.ones(2 ** 29)
except RuntimeError as error:
    print(benchmark.measure.__globals__['describe_error'](error))
'''
    assert subprocess.check_output(
        [sys.executable, '-c', code], text=True) == 'out of memory\n'
