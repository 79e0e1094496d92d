"""The road of a reproduction: train, test, judge, report."""
import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional

from .plan import Plan
from .recipes import judge
from .report import REPORTS, Report, git_revision, write


class RunError(RuntimeError):
    """A command of the road failed."""


def reproduce(plan: Plan, command: str, echo: Callable[[str], None],
              warnings: Optional[List[str]] = None) -> Report:
    """Carries a plan out, from where the work dir stands.

    Args:
        plan: Checked by :func:`mmiformer.reproduce.checks.find_faults`.
        command: The command line, for the report.
        echo: Gets the output of training and testing, line by line.
        warnings: For the report.

    Returns:
        The report, written into the work dir.

    Raises:
        RunError: A command failed, or tested without result; names its log.
    """
    for name in REPORTS:  # an old verdict must not outlive a broken run
        (plan.work_dir / name).unlink(missing_ok=True)
    revision, training, start = git_revision(), plan.training(), time.time()
    if training == 'start':
        plan.write_settings(revision)
    *train, test = plan.commands()
    for arguments in train:
        run(arguments, plan.work_dir / 'train.log', echo)
    trained = time.time()
    old = set(_metric_files(plan.test_dir))
    run(test, plan.work_dir / 'test.log', echo)
    report = Report(
        plan=plan, command=command, revision=revision, training=training,
        commands=[shlex.join(line) for line in (*train, test)],
        train_seconds=trained - start, test_seconds=time.time() - trained,
        metrics=_new_metrics(plan, old), warnings=warnings or [])
    report.verdicts = judge(plan.recipe, report.metrics)
    write(report)
    return report


def run(command: List[str], log: Path, echo: Callable[[str], None]) -> None:
    """Runs a command; its output goes to ``echo`` and to a log.

    Whatever interrupts it ends the command too.

    Raises:
        RunError: It failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    line = shlex.join(command)
    with open(log, 'w') as file, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors='replace') as process:
        file.write(f'$ {line}\n')
        echo(f'$ {line}\n')
        try:
            for text in process.stdout:
                file.write(text)
                file.flush()
                echo(text)
        except BaseException:  # who stops us does not want it to train on
            process.terminate()
            process.wait()
            raise
    if process.returncode:
        raise RunError(f'this failed (log: {log}):\n  {line}\nmend what it '
                       'says and run the same command again: it goes on '
                       'where it stopped')


def _metric_files(folder: Path) -> List[Path]:
    """What each test has written: <time>/<time>.json."""
    return [file for file in folder.glob('*/*.json')
            if file.stem == file.parent.name]


def _new_metrics(plan: Plan, old: set) -> Dict[str, float]:
    """What the test just made has logged, and no earlier one."""
    new = [file for file in _metric_files(plan.test_dir) if file not in old]
    if len(new) != 1:
        raise RunError(f'the test left {len(new)} metric files below '
                       f'{plan.test_dir}, one was expected (log: '
                       f'{plan.work_dir / "test.log"})')
    return json.loads(new[0].read_text().splitlines()[-1])
