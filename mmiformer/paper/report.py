"""A reproduced row judged, and its report for people."""
import hashlib
import math
import subprocess
from pathlib import Path
from typing import List, Mapping, Optional

from ..checkpoint import find
from .logs import to_points
from .rows import Row


def judge(row: Row, logged: Mapping[str, float]) -> List[dict]:
    """Compares what a test has logged with what a row expects: the same or
    better passes, no finite number fails."""
    metrics = []
    for name, expected in row.expected.items():
        got, passed = logged.get(name), False
        if isinstance(got, (int, float)) and math.isfinite(got):
            got = to_points(name, got)
            # Rounded: 46.2 - 0.3 is a little more than 45.9 in binary.
            passed = round(got - expected + row.tolerance, 6) >= 0
        else:
            got = None
        metrics.append(dict(
            metric=name, expected=expected, tolerance=row.tolerance, got=got,
            verdict='PASS' if passed else 'FAIL'))
    return metrics


def to_markdown(report: dict) -> str:
    """A report for people."""
    def table(values: Mapping[str, object]) -> List[str]:
        return ['| | |', '|---|---|', *(
            f'| {name} | {value} |' for name, value in values.items()
            if '\n' not in str(value)), '']

    return '\n'.join([
        f'# {report["verdict"]}: {report["row"]}', '',
        *([f'Note: {report["note"]}.', ''] if report['note'] else []),
        f'| metric | expected ({report["source"]}) | tolerance | got | '
        'verdict |', '|---|---|---|---|---|',
        *('| {metric} | {expected} | {tolerance} | {shown} | {verdict} |'
          .format(**metric, shown='none' if metric['got'] is None
                  else f'{metric["got"]:.2f}')
          for metric in report['metrics']), '',
        'In points (percent); a metric passes if it is at least the expected '
        'value less the tolerance.', '',
        *(f'- Warning: {warning}' for warning in report['warnings']), '',
        *(["## Beside the authors' curve", '', *(
            f'- {line}' for line in report['progress']), '']
          if report['progress'] else []),
        '## How', '', '```', report['command'],
        *(f'  {line}' for line in report['commands']), '```', '',
        'Loss and metrics of a training are in `curve.png`, the whole config '
        'in `report.json`.', '',
        *table({name.replace('_', ' '): report[name] for name in (
            'config_file', 'training', 'revision', 'gpus',
            'images_per_iteration')}),
        '## Weights, sha256', '', *table(report['weights']),
        '## Environment', '', *table(report['environment'])])


def sha256(source: str) -> Optional[str]:
    """The digest of a checkpoint; None if it is not there as a file."""
    try:
        return hashlib.sha256(find(source).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return None


def git_revision(package: Path = Path(__file__).parents[1]) -> str:
    """The commit of a package's checkout, with ``-dirty`` where tracked files
    have changed since."""
    def git(*arguments: str) -> str:
        return subprocess.check_output(
            ['git', '-C', str(package), *arguments], text=True,
            stderr=subprocess.DEVNULL).strip()

    try:
        # An installed package may lie in an environment inside a checkout,
        # whose revision says nothing about it.
        git('ls-files', '--error-unmatch', '__init__.py')
        return git('describe', '--always', '--dirty', '--abbrev=40',
                   '--exclude=*')
    except (OSError, subprocess.CalledProcessError):
        return 'not a git checkout'
