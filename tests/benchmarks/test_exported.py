"""The benchmark of exported files."""
import sys

import exported
import pytest
from conftest import needs_dynamo_export


@pytest.mark.slow
@needs_dynamo_export
@pytest.mark.filterwarnings('ignore')
def test_every_runtime_gives_the_networks_maps(monkeypatch, tmp_path):
    out = tmp_path / 'table.md'
    monkeypatch.setattr(sys, 'argv', [
        'exported.py', '--sizes', '64x96@2', '--opsets', '20', '--rounds', '1',
        '--threads', '1', '--cpu-time', '--out', str(out)])
    exported.main()
    rows = [line.strip('| ').split(' | ') for line in
            out.read_text().splitlines() if line.startswith('| 64x96')]
    assert [row[1:3] for row in rows if row[1] != 'openvino'] == [
        ['eager', ''], ['deployed', ''], ['deployed, bf16', ''],
        ['onnxruntime', '20'], ['onnxruntime', '20, dynamic']]
    assert rows[0][5] == '1.00'
    for row in rows:
        assert float(row[3]) > 0 and float(row[6]) > 0
        if row[1].endswith('bf16'):
            assert 1e-3 < float(row[7]) < 0.1
        else:
            assert float(row[7]) < 1e-4
