"""The benchmark's arithmetic, its order, and what it says of failures."""
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch
from conftest import TINY
from mmengine.config import Config
from torch import nn

from mmiformer import IFormer
from mmiformer.analysis import benchmark
from mmiformer.analysis.benchmark.measure import Traffic, peak_memory
from mmiformer.analysis.benchmark.models import Network, Variant

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / 'tests/reference.py'


class Clock:
    """Goes on when a step says so."""

    def __init__(self):
        self.now = 0.

    def __call__(self):
        return self.now


def test_samples_are_taken_in_turns():
    clock, log, told = Clock(), [], []

    def step(name, seconds):
        log.append(name)
        clock.now += seconds

    timings = benchmark.measure(
        {'a': lambda: step('a', 1.), 'b': lambda: step('b', 2.5)},
        repeats=3, clock=clock, advance=lambda *x: told.append(x))
    assert ''.join(log) == 'ab' + 'ababab'  # the first round warms up
    assert timings['a'].samples == [1., 1., 1.]
    assert timings['b'].samples == [2.5, 2.5, 2.5]
    assert told == [('a', 1), ('b', 1)] * 4


def test_the_device_is_waited_for_around_each_sample():
    log = []
    benchmark.measure({'a': lambda: log.append('a')}, repeats=2,
                      synchronise=lambda: log.append('|'))
    assert ''.join(log) == '|a|' * 3


def test_a_slow_case_ends_early_but_has_its_least():
    clock, told = Clock(), []

    def step():
        clock.now += 10

    timings = benchmark.measure(
        dict(a=step, b=step), repeats=9, seconds=30, least=1, clock=clock,
        advance=lambda name, steps: told.append(steps))
    assert [len(t.samples) for t in timings.values()] == [2, 2]
    assert sum(told) == 2 * (1 + 9)  # the bar is full nevertheless
    timings = benchmark.measure(dict(a=step), repeats=9, seconds=0, least=4,
                                clock=clock)
    assert len(timings['a'].samples) == 4


def test_a_failing_step_leaves_the_others_alone():
    calls = []

    def fails():
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError('no | kernel\nand more')

    timings = benchmark.measure(dict(a=fails, b=lambda: None), repeats=5)
    assert timings['a'].error == 'RuntimeError: no / kernel'
    assert timings['a'].samples == [] and len(calls) == 3
    assert timings['b'].error is None and len(timings['b'].samples) == 5


def test_median_and_quartiles():
    timing = benchmark.Timing([10., 1., 4., 2., 3.])
    assert timing.median == 3 and timing.quartiles == [2, 4]
    assert benchmark.Timing([7.]).quartiles == [7, 7]


def make_row(variant, median, **changes):
    return {**dict(
        variant=variant, network=variant.split('+')[0], shape='64@2',
        height=64, width=64, batch=2, mode='forward', dtype='fp32',
        error=None, samples=[median], median=median,
        quartiles=[0.9 * median, 1.2 * median], images_per_second=2 / median,
        memory=3 * 2 ** 20, multiply_adds=4e9, accuracy=2e-6), **changes}


def make_report():
    rows = [
        make_row('iFormer-S', 0.1, traffic=10 ** 8),
        make_row('reference', 0.4),
        make_row('Swin-T', 0.2, error='out of memory'),
        make_row('iFormer-S', 0.5, mode='train'),
        make_row('ResNet50', 0.25, mode='train'),
    ]
    for key in ('samples', 'median', 'quartiles', 'memory'):
        del rows[2][key]
    rates = dict(fp32=1e11, copy=1e10)
    benchmark.compare(rows, rates)
    return dict(title='backbone', command='tools/benchmark.py --x',
                date='2026-01-02', machine=dict(cpu='a cpu', device='cpu'),
                ceilings=rates, left_out={'ConvNeXt-T': 'not installed'},
                rows=rows)


def test_ratios_and_fractions():
    ours, reference, failed, trained, peer = make_report()['rows']
    assert ours['ratio'] == pytest.approx(4) and reference['ratio'] == 1
    assert ours['baseline'] == 'reference'
    # 4 G multiply-adds in 0.1 s of 100 G/s; 0.1 GB in 0.1 s of 10 GB/s.
    assert ours['fraction'] == pytest.approx(0.4)
    assert ours['copy_fraction'] == pytest.approx(0.1)
    assert reference['fraction'] == pytest.approx(0.1)
    assert 'copy_fraction' not in reference and 'ratio' not in failed
    # Without a reference the first is the measure.
    assert trained['ratio'] == 1 and peer['ratio'] == 2
    assert peer['baseline'] == 'iFormer-S'


def test_markdown():
    page = benchmark.markdown(make_report())
    for line in (
            '# Benchmark: backbone',
            '`tools/benchmark.py --x`, 2026-01-02',
            '- cpu: a cpu',
            '- matrix products, fp32: 100 G multiply-adds/s',
            '- copy: 10 GB/s, read and written',
            '- ConvNeXt-T: left out, not installed',
            '## forward, fp32',
            '## train, fp32',
            '| 64@2 | iFormer-S | 100 | 90 to 120 | 4.00 | 20 | 3.0 | 0.400 '
            '| 0.10 | 2.0e-06 |',
            '| 64@2 | reference | 400 | 360 to 480 | 1.00 | 5 | 3.0 | 0.100 '
            '|  | 2.0e-06 |',
            '| 64@2 | Swin-T | failed: out of memory |  |  |  |  |  |  |  |',
    ):
        assert line in page.splitlines(), line


def blue(path):
    image = cv2.imread(str(path)).astype(int)
    return ((image[..., 0] - image[..., 2]) > 100).mean()


def test_files(tmp_path):
    report = make_report()
    paths = benchmark.save(tmp_path / 'new', report)
    assert [path.name for path in paths] == [
        'benchmark.md', 'benchmark.json', 'benchmark.png']
    assert paths[0].read_text() == benchmark.markdown(report)
    assert json.loads(paths[1].read_text()) == report
    fast = blue(paths[2])
    report['rows'][0].update(ratio=0.5)
    benchmark.draw(paths[2], report)
    assert fast > 1.2 * blue(paths[2]) > 0  # the bar is as long as the ratio


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


@pytest.mark.parametrize('text, words', [
    ('Swin-X', ['Swin-X', 'Swin-T', 'tests/']),
    ('iFormer-S+fast', ['fast', 'deploy', 'compiled']),
])
def test_an_unknown_variant_is_named(text, words):
    with pytest.raises(ValueError) as error:
        benchmark.parse_variant(text, benchmark.networks())
    assert all(word in str(error.value) for word in words)


def test_cases_and_variants():
    cases = benchmark.make_cases(['224@8', '800x1280'], ['train'], ['bf16'])
    assert cases == [benchmark.Case(224, 224, 8, 'train', 'bf16'),
                     benchmark.Case(800, 1280, 1, 'train', 'bf16')]
    assert [case.shape for case in cases] == ['224@8', '800x1280']
    known = benchmark.networks('base', REFERENCE)
    assert list(known)[:2] == ['iFormer-B', 'reference']
    assert 'reference' not in benchmark.networks('base', ROOT / 'none.py')
    variant = benchmark.parse_variant('iFormer-B+compiled+deploy', known)
    assert variant == Variant('iFormer-B+deploy+compiled', 'iFormer-B',
                              deploy=True, compiled=True)
    assert variant.runs('forward') and not variant.runs('train')
    names = benchmark.default_variants(known)
    assert names[:5] == [
        'iFormer-B', 'iFormer-B+deploy', 'iFormer-B+compiled',
        'iFormer-B+deploy+compiled', 'reference']
    assert {'ResNet50', 'Swin-T', 'PVT-S', 'PVTv2-B2', 'ConvNeXt-T',
            'PoolFormer-S24'} <= set(names)


class Plain(nn.Module):
    """A made-up network: one convolution, whose output can be moved."""

    def __init__(self, arch=None, shift=0.):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.shift, self.deployed = shift, False

    def switch_to_deploy(self):
        self.deployed = True

    def forward(self, x):
        x = self.conv(x)
        if self.deployed:
            return (x + 3 * x.std(unbiased=False), )
        return x + self.shift * x.std(unbiased=False), x


class Broken(Plain):

    def forward(self, x):
        raise RuntimeError("can't allocate memory: you tried 9 bytes")


class Folding(Plain):

    def forward(self, x):
        return self.conv(x) * (1.25 if self.deployed else 1), self.conv(x)


def fake(cls, base=None, **kwargs):
    return Network(dict(arch=None), (4, ), lambda arch: cls(arch, **kwargs),
                   base)


FAKES = {'plain': fake(Plain), 'shifted': fake(Plain, 'plain', shift=0.5),
         'broken': fake(Broken), 'folding': fake(Folding)}


def run_fakes(names, mode='forward', dtype='fp32', **kwargs):
    variants = [benchmark.parse_variant(name, FAKES) for name in names]
    bench = benchmark.Benchmark(
        FAKES, variants, benchmark.BackboneTask(), torch.device('cpu'),
        repeats=2, **kwargs)
    cases = benchmark.make_cases(['8x6@2'], [mode], [dtype])
    return bench, cases, bench.run(cases)


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


def test_worst_error():
    maps = [torch.tensor([0., 2.]), torch.tensor([0., 20.])]
    assert benchmark.worst_error(maps, maps) == 0
    moved = [maps[0] + 0.5, maps[1] + 1]
    assert benchmark.worst_error(moved, maps) == pytest.approx(0.5)
    moved[1] = maps[1] * float('nan')
    assert benchmark.worst_error(moved, maps) != 0
    assert str(benchmark.worst_error(moved, maps)) == 'nan'
    with pytest.raises(ValueError, match='instead of'):
        benchmark.worst_error(maps[:1], maps)


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


def test_what_is_left_out():
    known = {
        'here': Network(dict(arch=None), (1, ), nn.Identity),
        'ours': fake(Plain),
        'gone': Network(dict(type='mmiformer.Nothing'), (1, )),
        'far': Network(dict(type='nopackage.Nothing'), (1, ))}
    variants = [benchmark.parse_variant(name, known) for name in (
        'here', 'here+deploy', 'ours+deploy', 'gone', 'far+compiled')]
    assert benchmark.left_out(variants, known) == {
        'here+deploy': 'the network has no switch_to_deploy()',
        'gone': 'not in the installed packages',
        'far+compiled': 'not in the installed packages'}


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['forward', 'train'])
def test_compiled(mode):
    seen = torch._dynamo.utils.counters['stats']
    _, _, rows = run_fakes(['plain', 'plain+compiled'], mode)
    assert seen['unique_graphs'] >= 1
    assert [row['error'] for row in rows] == [None, None]
    assert rows[1]['accuracy'] < 1e-5 and 'traffic' not in rows[1]


def test_a_training_step_trains():
    bench, (case, ), _ = run_fakes(['plain'], 'train')
    model = bench.build(bench.variants[0], case)
    before = model.conv.weight.detach().clone()
    bench.step(model, case, torch.rand(2, 3, 8, 6))()
    # The first step of AdamW is of the size of the learning rate.
    moved = (model.conv.weight - before).abs()
    assert moved.max().item() == pytest.approx(1e-4, rel=0.2)
    assert model.conv.weight.grad is None
    assert model.training
    bench, (case, ), _ = run_fakes(['plain'])
    model = bench.build(bench.variants[0], case)
    assert not model.training


def test_memory_is_the_peak_of_what_a_step_adds():
    kept = torch.zeros(10 ** 6)

    def step():
        first = kept + 1  # 4 MB
        second = first[:250_000] + 1  # 1 MB more
        del first
        return second + 1  # 1 MB, after 4 MB were given back

    # But for a few bytes, of the numbers that are added.
    assert peak_memory(step, torch.device('cpu')) == pytest.approx(
        5_000_000, abs=100)


def test_traffic_counts_what_is_read_and_written():
    x = torch.zeros(1000)
    with Traffic() as traffic:
        y = x.relu()
    assert traffic.total == 2 * 4000
    with Traffic() as traffic:
        y.view(10, 100).t()[:5]
        torch.empty(50)
    assert traffic.total == 0
    with Traffic() as traffic:
        y.add_(x)  # both read, one written
    assert traffic.total == 3 * 4000


def test_ours_and_the_reference_get_the_same_weights():
    reference = benchmark.networks('small', REFERENCE)['reference']
    models = IFormer(TINY, pretrain_img_size=64), reference.replacement(
        TINY, pretrain_img_size=64)
    for model in models:
        benchmark.fill(model)
    ours, plain = (model.state_dict() for model in models)
    assert ours.keys() == plain.keys()
    for name, value in ours.items():
        assert torch.equal(value, plain[name]), name
        if 'layer_scale' in name:
            assert value.min() >= 0.1
        elif name.endswith('running_var'):
            assert value.min() >= 0.5
        elif value.is_floating_point():
            assert value.std() > 0.01, name
    # Each name has values of its own, and kernels keep a map's deviation.
    assert not torch.equal(*(ours[f'stages.0.blocks.0.norm{i}.weight']
                             for i in (1, 2)))
    kernel = ours['stages.3.blocks.0.mlp.fc1.weight']
    assert abs(kernel.std() * 48 ** 0.5 - 1) < 0.05
    with torch.no_grad():
        outs = [model.eval()(torch.rand(
            1, 3, 64, 48, generator=torch.Generator().manual_seed(0)))
            for model in models]
    assert benchmark.worst_error(*outs) < 1e-5


@pytest.mark.parametrize('name', ['ResNet50', 'Swin-T', 'PVT-S', 'PVTv2-B2'])
@torch.no_grad()
def test_peers(name):
    network = benchmark.networks()[name]
    model = benchmark.BackboneTask().build(network)
    model.eval()
    outs = model(torch.randn(1, 3, 64, 32))
    assert [out.shape[1] for out in outs] == list(network.channels)
    assert [out.shape[2:] for out in outs] == [
        (64 // stride, 32 // stride) for stride in (4, 8, 16, 32)]
    # Neither vanishing nor overflowing: that would change the timing.
    assert all(1e-2 < out.std() < 1e4 for out in outs)


@pytest.mark.parametrize('config', ['fpn_ade20k/iformer_s_shapes.py',
                                    'mask_rcnn/iformer_s_shapes.py'])
def test_whole_models(config, configs):
    task = benchmark.ModelTask(Config.fromfile(configs / config), 'x')
    reference = benchmark.networks('small', REFERENCE)['reference']
    cfg = dict(type='mmiformer.IFormer', arch=TINY, pretrain_img_size=64)
    ours = Network(cfg, TINY['embed_dims'])
    plain = Network(cfg, TINY['embed_dims'], lambda arch:
                    reference.replacement(arch, 64), 'ours')
    images = torch.rand(2, 3, 48, 64)
    losses, maps = [], []
    for network in (ours, plain):
        model = task.build(network).train()
        torch.manual_seed(1)  # dropout, and the regions that are sampled
        losses.append(task.loss(model, images))
        losses[-1].backward()
        for name, parameter in task.backbone(model).named_parameters():
            assert parameter.grad is not None, name
        model.eval()
        with torch.no_grad():
            maps.append(task.maps(model, images))
            assert len(task.forward(model, images)) == 2  # one per image
    assert isinstance(task.backbone(model), reference.replacement)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-3)
    assert benchmark.worst_error(*maps) < 1e-4


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
