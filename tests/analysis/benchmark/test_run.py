"""Cases, and rows of networks that fail or fold."""
from pathlib import Path

import pytest
import torch
from conftest import TINY
from fakes import Plain, run_fakes

from mmiformer.analysis import benchmark
from mmiformer.analysis.benchmark.models import Network, Variant

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / 'tests/reference.py'


@pytest.mark.parametrize('arguments, words', [
    ((['22y'], ['forward'], ['fp32']), ['22y', '800x1280']),
    ((['0x3'], ['forward'], ['fp32']), ['0x3', '224@8']),
    ((['224'], ['backward'], ['fp32']), ['backward', 'train']),
    ((['224'], ['forward'], ['fp16']), ['fp16', 'bf16']),
])
def test_an_unknown_case_is_named(arguments, words):
    with pytest.raises(ValueError) as error:
        benchmark.make_cases(*arguments)
    assert all(word in str(error.value) for word in words)


def test_cases_and_variants():
    cases = benchmark.make_cases(['224@8', '800x1280'], ['train'], ['bf16'])
    assert cases == [benchmark.Case(224, 224, 8, 'train', 'bf16'),
                     benchmark.Case(800, 1280, 1, 'train', 'bf16')]
    assert [case.shape for case in cases] == ['224@8', '800x1280']
    known = benchmark.networks('base', REFERENCE)
    assert list(known)[:3] == ['iFormer-B', 'iFormer-B-window', 'reference']
    assert 'reference' not in benchmark.networks('base', ROOT / 'none.py')
    variant = benchmark.parse_variant('iFormer-B+compiled+deploy', known)
    assert variant == Variant('iFormer-B+deploy+compiled', 'iFormer-B',
                              deploy=True, compiled=True)
    assert variant.runs('forward') and not variant.runs('train')
    variant = benchmark.parse_variant('iFormer-B+cp', known)
    assert variant.runs('train') and not variant.runs('forward')
    names = benchmark.default_variants(known)
    assert names[:8] == [
        'iFormer-B', 'iFormer-B+cp', 'iFormer-B+deploy', 'iFormer-B+compiled',
        'iFormer-B+deploy+compiled', 'iFormer-B-window',
        'iFormer-B-window+deploy', 'reference']
    assert {'ResNet50', 'Swin-T', 'PVT-S', 'PVTv2-B2', 'ConvNeXt-T',
            'PoolFormer-S24'} <= set(names)


@pytest.mark.parametrize('cp', [False, True])
def test_a_variant_recomputes_if_it_is_to(cp):
    known = benchmark.networks(reference=REFERENCE)
    known['tiny'] = Network(dict(type='mmiformer.IFormer', arch=TINY), (1, ))
    bench = benchmark.Benchmark(
        known, [benchmark.parse_variant('tiny' + '+cp' * cp, known)],
        benchmark.BackboneTask(), torch.device('cpu'), repeats=1)
    case, = benchmark.make_cases(['64'], ['train'], ['fp32'])
    model = bench.build(bench.variants[0], case)
    assert all(stage.with_cp == cp for stage in model.stages)


def test_the_error_is_that_against_the_base():
    _, _, rows = run_fakes(['plain', 'shifted'])
    assert [row['accuracy'] for row in rows] == pytest.approx([0, 0.5])
    _, _, ((row, )) = run_fakes(['folding+deploy'])
    # Off by a quarter of the largest value, as a part of the deviation.
    model = Plain()
    benchmark.fill(model)
    image = torch.randn(2, 3, 8, 6,
                        generator=torch.Generator().manual_seed(0))
    out = model.conv(image).detach()
    assert row['accuracy'] == pytest.approx(
        float(0.25 * out.abs().max() / out.std(unbiased=False)), rel=1e-4)
    _, _, ((row, )) = run_fakes(['plain'], dtype='bf16')
    assert 1e-4 < row['accuracy'] < 0.1  # what bf16 rounds, against fp32


def test_a_failing_variant_is_reported_in_its_row():
    steps = []
    bench, cases, rows = run_fakes(
        ['plain', 'broken', 'shifted'],
        advance=lambda name, done: steps.append(done))
    assert [row['variant'] for row in rows] == ['plain', 'broken', 'shifted']
    assert [row['error'] for row in rows] == [None, 'out of memory', None]
    assert [len(row.get('samples', ())) for row in rows] == [2, 0, 2]
    assert sum(steps) == bench.total(cases) == 3 * (1 + 1 + 2)


def test_work_of_a_step():
    _, _, ((row, )) = run_fakes(['plain'])
    assert row['multiply_adds'] == 2 * 48 * 3 * 4
    _, _, ((row, )) = run_fakes(['plain'], 'train')
    assert row['multiply_adds'] == 3 * 2 * 48 * 3 * 4
    assert 'traffic' not in row


def test_a_folded_network_does_not_train():
    _, _, rows = run_fakes(['plain', 'plain+deploy'], 'train')
    assert [row['variant'] for row in rows] == ['plain']
    _, _, rows = run_fakes(['plain', 'plain+deploy'])
    assert rows[1]['error'].startswith('ValueError: maps of')  # it did fold


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['forward', 'train'])
def test_compiled(mode):
    seen = torch._dynamo.utils.counters['stats']
    _, _, rows = run_fakes(['plain', 'plain+compiled'], mode)
    assert seen['unique_graphs'] >= 1
    assert [row['error'] for row in rows] == [None, None]
    assert rows[1]['accuracy'] < 1e-5 and 'traffic' not in rows[1]
