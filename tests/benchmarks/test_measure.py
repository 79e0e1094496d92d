"""Interleaved samples, memory and error."""
import measure
import pytest
import torch


class Clock:
    """Moves when a step says so."""
    now = 0.

    def __call__(self):
        return self.now


@pytest.mark.parametrize('max_seconds, min_rounds, rounds', [
    (1000, 1, 9), (10, 1, 3), (0, 4, 4)])
def test_samples_are_interleaved(max_seconds, min_rounds, rounds):
    clock, log = Clock(), []

    def step(name, seconds):
        log.append(name)
        clock.now += seconds

    samples = measure.sample_rounds(
        {'a': lambda: step('a', 1.), 'b': lambda: step('b', 2.5)},
        9, max_seconds, min_rounds, clock)
    assert samples == {'a': [1.] * rounds, 'b': [2.5] * rounds}
    assert ''.join(log) == 'ab' * (1 + rounds)  # the first round is a warm-up


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


def test_worst_error():
    maps = [torch.tensor([0., 2.]), torch.tensor([0., 20.])]
    assert measure.worst_error(maps, maps) == 0
    moved = [maps[0] + 0.5, maps[1] + 1]
    assert measure.worst_error(moved, maps) == pytest.approx(0.5)
    moved[1] = maps[1] * float('nan')
    assert str(measure.worst_error(moved, maps)) == 'nan'
    with pytest.raises(ValueError, match=r'\[\(2,\)\].*\[\(2,\), \(2,\)\]'):
        measure.worst_error(maps[:1], maps)
