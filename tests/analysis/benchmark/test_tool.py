"""tools/benchmark.py as a person calls it."""
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def run_tool(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / 'tools/benchmark.py'), *arguments],
        capture_output=True, text=True)


def test_the_tool(tmp_path):
    result = run_tool(
        '--shapes', '32@2', '--dtypes', 'fp32', '--repeats', '2',
        '--variants', 'iFormer-S', 'reference', 'PoolFormer-S24',
        '--threads', '1', '--out', str(tmp_path))
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / 'benchmark.json').read_text())
    rows = {(row['mode'], row['variant']): row for row in report['rows']
            if row['variant'] != 'PoolFormer-S24'}
    assert list(rows) == [(mode, name) for mode in ('forward', 'train')
                          for name in ('iFormer-S', 'reference')]
    for (_, name), row in rows.items():
        assert row['error'] is None and len(row['samples']) == 2
        assert row['baseline'] == 'reference' and row['memory'] > 0
        assert row['accuracy'] == 0 or name == 'reference'
    assert 0 < rows['forward', 'reference']['accuracy'] < 1e-4
    assert (rows['train', 'iFormer-S']['multiply_adds'] ==
            3 * rows['forward', 'reference']['multiply_adds'])
    assert 'the plan: ' in result.stdout and ' 2 cases' in result.stdout
    assert 'plan: 4 measurements' in result.stdout or (
        'PoolFormer-S24' not in report['left_out'])
    assert (tmp_path / 'benchmark.md').read_text() in result.stdout
    assert report['machine']['threads'] == 1
    assert 'USDT' not in result.stderr  # the profiler's own chatter


def test_the_tool_names_what_is_wrong_before_it_measures():
    result = run_tool('--shapes', '224', 'big')
    assert result.returncode == 2 and "unknown shape 'big'" in result.stderr
    assert 'the plan' not in result.stdout
