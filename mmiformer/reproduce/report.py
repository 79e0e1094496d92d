"""One report of a reproduction: Markdown, JSON and a curve."""
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Dict, List, Mapping, Optional

import torch

from ..analysis.pictures import draw_curves
from ..backbone.hub import find, sha256
from ..checks.preflight import find_checkpoints
from .plan import Plan
from .recipes import Verdict

PACKAGE = Path(__file__).parents[1]
REPORTS = ('report.md', 'report.json', 'curve.png')
TRAINING = {
    'none': 'none, a checkpoint was given',
    'done': 'found finished in the work dir, begun at revision {}',
    'continue': 'continued from the work dir, begun at revision {}',
    'start': 'whole, in this run',
}


@dataclass
class Report:
    """What happened; ``revision`` is the code's when it began."""
    plan: Plan
    command: str
    commands: List[str]
    revision: str
    training: str
    train_seconds: float
    test_seconds: float
    metrics: Mapping[str, float]
    warnings: List[str]
    verdicts: List[Verdict] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return bool(self.verdicts) and all(v.passed for v in self.verdicts)


def write(report: Report) -> None:
    """Writes the three files into the plan's work dir."""
    plan = report.plan
    plan.work_dir.mkdir(parents=True, exist_ok=True)
    if report.training != 'none':
        draw_curves(plan.work_dir / 'curve.png', {plan.name: (
            plan.train_dir,
            {name: name.split('/')[-1] for name in plan.recipe.expected})})
    content = as_dict(report)
    (plan.work_dir / 'report.md').write_text(as_markdown(report, content))
    content['config'] = plan.cfg.pretty_text
    (plan.work_dir / 'report.json').write_text(
        json.dumps(content, indent=2) + '\n')


def as_dict(report: Report) -> dict:
    """The report in plain values; NaN, which JSON has not, is null."""
    plan = report.plan
    _, begun = plan.read_settings()
    return dict(
        row=plan.name, verdict=_word(report.passed),
        metrics=[dict(asdict(verdict), verdict=_word(verdict.passed))
                 for verdict in report.verdicts],
        source=plan.recipe.source, note=plan.recipe.note,
        logged={name: value if value == value else None
                for name, value in report.metrics.items()},
        command=report.command, commands=report.commands,
        revision=report.revision,
        training=TRAINING[report.training].format(begun),
        train_seconds=round(report.train_seconds, 1),
        test_seconds=round(report.test_seconds, 1),
        seed=plan.cfg.randomness.seed, config_file=plan.recipe.config,
        options=list(plan.options), images_per_iteration=plan.total_batch,
        versions=versions(plan.recipe.framework), devices=devices(plan.gpus),
        files=_files(plan), warnings=report.warnings)


def as_markdown(report: Report, content: dict) -> str:
    """The report for people."""
    plan = report.plan
    lines = [
        f'# {content["verdict"]}: {plan.name}', '', *_notes(plan),
        f'| metric | expected ({plan.recipe.source}) | tolerance | got | '
        'verdict |', '|---|---|---|---|---|',
        *(f'| {v.metric} | {v.expected:.1f} | {v.tolerance:.1f} | '
          f'{"none" if v.got is None else format(v.got, ".2f")} | '
          f'{_word(v.passed)} |' for v in report.verdicts), '',
        'In points (percent). A metric passes when it is at least the '
        'expected value less the tolerance: better passes too. One that was '
        'not measured fails.', '',
        *(f'- Warning: {warning}' for warning in report.warnings),
        *([''] if report.warnings else []),
        '![loss and metrics while training](curve.png)'
        if report.training != 'none' else
        'There is no curve: a checkpoint was given, nothing was trained.', '',
        '## How', '', '```', report.command,
        *(f'  {line}' for line in report.commands), '```', '',
        *_table({
            'config': f'{content["config_file"]}, in full in `report.json`',
            'options': ' '.join(f'`{option}`' for option in plan.options),
            'seed': content['seed'],
            'git revision': report.revision,
            'training': content['training'],
            'wall time of this run':
            f'training {_clock(report.train_seconds)}, testing '
            f'{_clock(report.test_seconds)}',
            'devices': content['devices'],
            'images an iteration': plan.total_batch}), '',
        '## With', '', *_table(content['versions']), '',
        '## Files', '', *_table({
            f'{what}: {file["path"]}': f'sha256 `{file["sha256"]}`'
            for what, file in content['files'].items()}), '']
    return '\n'.join(lines)


def _notes(plan: Plan) -> List[str]:
    return [f'Note: {plan.recipe.note}.', ''] if plan.recipe.note else []


def _table(values: Mapping[str, object]) -> List[str]:
    return ['| | |', '|---|---|',
            *(f'| {name} | {value} |' for name, value in values.items())]


def _word(passed: bool) -> str:
    return 'PASS' if passed else 'FAIL'


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _files(plan: Plan) -> Dict[str, dict]:
    """The checkpoint tested and, of a training, the weights it began with."""
    sources = {'tested': plan.checkpoint or str(plan.final_checkpoint)}
    if not plan.checkpoint:
        sources.update(find_checkpoints(plan.cfg, with_init=True))
    return {what: dict(path=source, sha256=_sha256(source))
            for what, source in sources.items()}


def _sha256(source: str) -> Optional[str]:
    """Of a path, URL or name that the run has opened; else None."""
    try:
        return sha256(find(source))
    except (OSError, ValueError):
        return None


def versions(framework: str) -> Dict[str, str]:
    """Of Python and of all that computes."""
    names = ('torch', 'mmengine', 'mmcv', framework, 'mmiformer')
    return dict(
        python=platform.python_version(),
        **{name: import_module(name).__version__ for name in names},
        CUDA=torch.version.cuda or 'none',
        cuDNN=str(torch.backends.cudnn.version() or 'none'))


def devices(gpus: int) -> str:
    """The GPUs used, or the CPU."""
    if not gpus:
        return f'CPU, {os.cpu_count()} cores, {torch.get_num_threads()} used'
    names = {torch.cuda.get_device_name(i)
             for i in range(torch.cuda.device_count())}
    return f'{gpus} x {" / ".join(sorted(names)) or "GPU"}'


def git_revision(package: Path = PACKAGE) -> str:
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
