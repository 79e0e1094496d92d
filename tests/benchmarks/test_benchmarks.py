"""The benchmarks: each script runs, and errors and differences are right."""
import json
import sys
from functools import partial

import backbones
import exported
import measure
import pytest
import torch
from backbones import Case, run_case
from conftest import needs_dynamo_export
from reference import fill
from torch import nn
from variants import DEFAULT, NETWORKS, SAME, Variant


class Plain(nn.Module):
    """One convolution, whose output can be moved."""

    def __init__(self, shift=0.):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.shift, self.factor = shift, 1.

    def switch_to_deploy(self):
        self.factor = 1.25

    def forward(self, x):
        x = self.conv(x)
        return x * self.factor + self.shift * x.std(unbiased=False), x


class Broken(Plain):

    def forward(self, x):
        raise RuntimeError('no | kernel\nand more')


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for name, network in dict(plain=Plain, shifted=partial(Plain, 0.5),
                              broken=Broken).items():
        monkeypatch.setitem(NETWORKS, name, network)
    monkeypatch.setitem(SAME, 'shifted', 'plain')


def run(*names, mode='forward', size=(8, 6, 2)):
    return run_case(Case(*size, mode, 'fp32'),
                    [Variant.parse(name) for name in names],
                    torch.device('cpu'), rounds=2)


def test_worst_error():
    maps = [torch.tensor([0., 2.]), torch.tensor([0., 20.])]
    assert measure.worst_error(maps, maps) == 0
    moved = [maps[0] + 0.5, maps[1] + 1]
    assert measure.worst_error(moved, maps) == pytest.approx(0.5)
    moved[1] = maps[1] * float('nan')
    assert str(measure.worst_error(moved, maps)) == 'nan'
    with pytest.raises(ValueError, match=r'\[\(2,\)\].*\[\(2,\), \(2,\)\]'):
        measure.worst_error(maps[:1], maps)


def test_memory_is_the_peak_of_what_a_step_adds():
    kept = torch.zeros(10 ** 6)

    def step():
        first = kept + 1  # 4 MB
        second = first[:250_000] + 1  # 1 MB more
        del first
        return second + 1  # 1 MB, after 4 MB were freed

    # But for a few bytes, of the numbers that are added.
    assert measure.peak_memory(step, torch.device('cpu')) == pytest.approx(
        5_000_000, abs=100)


@pytest.mark.parametrize('name, words', [
    ('Swin-X', ['Swin-T', 'reference']),
    ('iFormer-S+fast', ["'fast'", 'deploy', 'compile'])])
def test_an_unknown_variant_is_refused_with_the_choices(name, words):
    assert all(Variant.parse(known).name == known for known in DEFAULT)
    with pytest.raises(ValueError) as error:
        Variant.parse(name)
    assert all(word in str(error.value) for word in (name, *words))


def test_the_error_is_that_against_the_eager_network():
    rows = run('plain', 'shifted', 'plain+deploy')
    fill(model := Plain())
    out = model.conv(torch.randn(
        2, 3, 8, 6, generator=torch.Generator().manual_seed(0)))
    largest = (out.abs().max() / out.std(unbiased=False)).item()
    assert [row['error'] for row in rows] == pytest.approx(
        [0, 0.5, 0.25 * largest], rel=1e-4)


def test_a_failing_variant_costs_its_own_row():
    plain, broken = run('plain', 'plain+deploy', 'broken', mode='train')
    assert plain['failure'] is None and len(plain['samples']) == 2
    assert plain['multiply_adds'] == 3 * 2 * 48 * 3 * 4
    assert broken['failure'] == 'RuntimeError: no / kernel'


def test_backbones(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backbones, 'product_rate', partial(
        backbones.product_rate, sides=(64, )))
    monkeypatch.setattr(sys, 'argv', [
        'backbones.py', '--sizes', '8x6@2', '7', '--dtypes', 'fp32',
        '--variants', 'plain', 'broken', '--rounds', '2', '--out',
        str(tmp_path)])
    backbones.main()
    report = json.loads((tmp_path / 'backbones.json').read_text())
    assert [(row['size'], row['mode']) for row in report['rows'][::2]] == [
        ('8x6@2', 'forward'), ('7', 'forward'), ('8x6@2', 'train'),
        ('7', 'train')]
    for row in report['rows'][::2]:
        assert row['speedup'] == 1 and row['memory'] > 0
        assert row['of_peak'] == (row['multiply_adds'] / row['median'] /
                                  report['product_rates']['fp32'])
    page = (tmp_path / 'backbones.md').read_text()
    assert page in capsys.readouterr().out
    assert '| 7 | broken | failed: RuntimeError: no / kernel |' in page


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['forward', 'train'])
def test_real_networks(mode):
    rows = run('reference', 'iFormer-S', 'iFormer-S+deploy', 'ResNet50',
               'Swin-T', 'PVT-S', mode=mode, size=(64, 32, 2))
    assert [row['failure'] for row in rows] == [None] * len(rows)
    assert all(row['error'] < 1e-4 for row in rows)


@pytest.mark.slow
@needs_dynamo_export
@pytest.mark.filterwarnings('ignore')
def test_exported(monkeypatch, tmp_path):
    out = tmp_path / 'table.md'
    monkeypatch.setattr(sys, 'argv', [
        'exported.py', '--sizes', '64x96@2', '--opsets', '20', '--fixed',
        '--rounds', '1', '--threads', '1', '--cpu-time', '--out', str(out)])
    exported.main()
    rows = [line.strip('| ').split(' | ') for line in
            out.read_text().splitlines() if line.startswith('| 64x96')]
    assert [row[1] for row in rows if row[1] != 'openvino'] == [
        'eager', 'deployed', 'deployed, bf16', 'onnxruntime']
    for row in rows:
        assert float(row[7]) < (0.1 if row[1].endswith('bf16') else 1e-4)


def test_what_the_kill_harness_takes_for_a_difference(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # set by the import
    from kill_and_resume import differences
    a = dict(weights=torch.tensor([1., 2.]), random=[3], metrics={8: 0.5})
    assert differences(a, dict(a)) == []
    for key, value in dict(weights=torch.tensor([1., 2.0000002]), random=[3.],
                           metrics={8: 0.5, 9: 0.5}).items():
        b = {**a, key: value}
        assert len(differences(a, b)) == len(differences(b, a)) == 1
        assert differences(a, b)[0].startswith(key)
