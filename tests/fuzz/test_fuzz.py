"""Damaged and hostile files: a clear error or a right answer.

Never an ended interpreter, a hang, or memory without bound: each case runs in
a process with a limit of memory and of time (cases.py). The seeds are fixed;
`make test-all` has more of them.
"""
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cases import KINDS, SECONDS

CASES = Path(__file__).with_name('cases.py')
FEW, MANY = 100, 1500
FIRMLY = 2  # kinds of outcome at least, or nothing was tested


def run(kind, first, last, folder):
    """[seed, seconds, what was said] of each case."""
    result = subprocess.run(
        [sys.executable, str(CASES), kind, str(first), str(last),
         str(folder)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, timeout=60 + SECONDS + (last - first))
    cases = [json.loads(line) for line in result.stdout.splitlines()]
    seed = first + len(cases)
    assert result.returncode == 0, (
        f'{kind} {seed} ended the interpreter ({result.returncode}): '
        f'{result.stderr[-1000:]}')
    assert seed == last
    return cases


def judge(kind, cases):
    for seed, seconds, said in cases:
        assert seconds < SECONDS, (kind, seed)
        assert not said.startswith('UNCLEAR'), (kind, seed, said)
        assert not said.endswith(': '), (kind, seed, said)
    outcomes = {said.partition(':')[0] for _, _, said in cases}
    assert len(outcomes) >= FIRMLY, outcomes


@pytest.mark.parametrize('kind', KINDS)
def test_some_files(kind, tmp_path):
    judge(kind, run(kind, 0, FEW, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_many_files(kind, tmp_path):
    judge(kind, run(kind, FEW, MANY, tmp_path))
