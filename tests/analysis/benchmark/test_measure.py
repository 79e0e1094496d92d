"""Sampling in turns, memory, traffic and error."""
import pytest
import torch

from mmiformer.analysis import benchmark
from mmiformer.analysis.benchmark.measure import Traffic, peak_memory


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
