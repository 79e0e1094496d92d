"""Judges what a test has logged."""
import math
from typing import Any, List, Mapping, NamedTuple, Optional

from .logs import to_points
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

    def __str__(self) -> str:
        got = 'not measured' if self.got is None else f'{self.got:.2f}'
        return (f'{"PASS" if self.passed else "FAIL"}: {self.metric} {got}, '
                f'expected {self.expected} less at most {self.tolerance:g}')


def judge(target: Target, logged: Mapping[str, Any]) -> List[Verdict]:
    """Compares what a test has logged with what a target expects."""
    finite = {name: to_points(name, value) for name, value in logged.items()
              if isinstance(value, (int, float)) and math.isfinite(value)}
    return [Verdict(name, expected, target.tolerance, finite.get(name))
            for name, expected in target.expected.items()]
