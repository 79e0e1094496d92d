"""Judges what a test has logged."""
from typing import Any, Dict, Mapping

import numpy as np

from .logs import to_points
from .targets import Target


def judge(target: Target, logged: Mapping[str, Any]) -> Dict[str, bool]:
    """A line on each metric that a target expects, and whether it passes: the
    same or better does; what is missing or not finite does not."""
    verdicts = {}
    for name, expected in target.expected.items():
        value = logged.get(name)
        got = to_points(name, value) if isinstance(
            value, (int, float)) else np.nan
        # Rounded: 46.2 - 0.3 is a little more than 45.9 in binary.
        passed = np.isfinite(got) and (
            round(got - expected + target.tolerance, 6) >= 0)
        verdicts[f'{"PASS" if passed else "FAIL"}: {name} {got:.2f}, expected '
                 f'{expected} less at most {target.tolerance:g}'] = passed
    return verdicts
