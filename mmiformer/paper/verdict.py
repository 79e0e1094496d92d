"""Judges a test, and a training so far beside the authors' curve."""
import math
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Optional

from .curves import MILESTONES, compare, read_curve
from .logs import read_scalars, to_points
from .targets import Target


class Verdict(NamedTuple):
    """A metric of a test beside what is expected, in points (percent).

    Attributes:
        metric: Its name in the log.
        expected: Its value in the target.
        tolerance: By how much it may be lower.
        got: Its value in the log; None if that has no finite number.
    """
    metric: str
    expected: float
    tolerance: float
    got: Optional[float]

    @property
    def passed(self) -> bool:
        """The same or better passes, no number fails."""
        # Rounded: 46.2 - 0.3 is a little more than 45.9 in binary.
        return self.got is not None and round(
            self.got - self.expected + self.tolerance, 6) >= 0

    def describe(self) -> str:
        got = 'not measured' if self.got is None else f'{self.got:.2f}'
        return (f'{"PASS" if self.passed else "FAIL"}: {self.metric} {got}, '
                f'expected {self.expected} less at most {self.tolerance:g}')


def judge(target: Target, logged: Mapping[str, Any]) -> List[Verdict]:
    """Compares what a test has logged with what a target expects."""
    verdicts = []
    for name, expected in target.expected.items():
        got = logged.get(name)
        if isinstance(got, (int, float)) and math.isfinite(got):
            got = to_points(name, got)
        else:
            got = None
        verdicts.append(Verdict(name, expected, target.tolerance, got))
    return verdicts


def describe_progress(target: Target, train_dir: Path) -> List[str]:
    """A line for each milestone, and for the last epoch, of a training beside
    the authors' curve; none where they have published no curve."""
    if not target.curve:
        return []
    curve = read_curve(target.curve)
    epochs = compare(read_scalars(train_dir), curve)
    return [epoch.describe(len(curve), target.tolerance) for epoch in epochs
            if epoch.epoch in MILESTONES or epoch is epochs[-1]]
