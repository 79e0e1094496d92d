"""Reproduces a row of the paper: trains, tests, compares, reports."""
import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Tuple

import torch
from mmengine.config import Config
from mmengine.utils.dl_utils import collect_env

from ..config import add_cfg_options, find_pretrained, load_config
from .curves import (
    METRIC,
    MILESTONES,
    Comparison,
    Epoch,
    compare,
    read_curve,
    read_run,
)
from .logs import find_metrics, last_metrics, read_scalars
from .pictures import draw_curves, draw_learning
from .report import git_revision, judge, sha256, to_markdown
from .rows import RELEASED_TOLERANCE, Row

REPORTS = ('report.md', 'report.json', 'curve.png')


def launcher(gpus: int, environ: Mapping[str, str] = os.environ
             ) -> Tuple[List[str], str]:
    """What starts one process per GPU, and its name in OpenMMLab's tools:
    ``srun`` in a Slurm allocation, torchrun elsewhere, nothing for one."""
    # Inside a job step (srun --pty bash) another srun would wait for ever.
    if gpus and 'SLURM_JOB_ID' in environ and shutil.which('srun') and (
            'SLURM_STEP_NUM_TASKS' not in environ):
        nodes = int(environ.get('SLURM_JOB_NUM_NODES', 1))
        command = ['srun', f'--ntasks={gpus}',
                   f'--ntasks-per-node={math.ceil(gpus / nodes)}',
                   '--kill-on-bad-exit=1']
        if 'SLURM_CPUS_PER_TASK' in environ:  # not inherited since 22.05
            command.append(
                f'--cpus-per-task={environ["SLURM_CPUS_PER_TASK"]}')
        return [*command, sys.executable], 'slurm'
    if gpus > 1:  # torchrun, also where it is not on the PATH
        return [sys.executable, '-m', 'torch.distributed.run', '--standalone',
                f'--nproc_per_node={gpus}'], 'pytorch'
    return [sys.executable], 'none'


def parse_options(options: Tuple[str, ...]) -> dict:
    """``KEY=VALUE`` strings as ``--cfg-options`` reads them.

    Raises:
        ValueError: One has no ``=``.
    """
    for option in options:
        if '=' not in option:
            raise ValueError(f'--cfg-options {option}: give KEY=VALUE')
    parser = argparse.ArgumentParser()
    add_cfg_options(parser)
    return parser.parse_args(['--cfg-options', *options]).cfg_options


@dataclass
class Run:
    """A row on this machine.

    Attributes:
        name: The row's.
        row: What to run and to expect.
        root: The folder of ``tools`` and ``configs``.
        work_dir: For the report; below it ``train`` and ``test``.
        checkpoint: Test this one, train nothing.
        gpus: 0 is the CPU; by default as many as the row's batch takes, or as
            torch finds here.
        cfg_options: The user's, over the row's.
    """
    name: str
    row: Row
    root: Path
    work_dir: Path
    checkpoint: Optional[str] = None
    gpus: Optional[int] = None
    cfg_options: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        released = self.row.released
        if released and self.checkpoint and (
                Path(self.checkpoint).stem == released):
            self.row = replace(self.row, tolerance=RELEASED_TOLERANCE)
        if self.gpus is None:
            recipe = self.base_batch // self.cfg.train_dataloader.batch_size
            self.gpus = min(max(1, recipe), torch.cuda.device_count())

    @property
    def options(self) -> Tuple[str, ...]:
        return (f'randomness.seed={self.row.seed}', *self.row.options,
                *self.cfg_options)

    @property
    def config(self) -> Path:
        return self.root / 'configs' / self.row.config

    @cached_property
    def cfg(self) -> Config:
        """The config with all options."""
        return load_config(str(self.config), parse_options(self.options))

    @property
    def batch(self) -> int:
        """Images per iteration."""
        return self.cfg.train_dataloader.batch_size * max(1, self.gpus)

    @property
    def base_batch(self) -> int:
        """Images per iteration of the row."""
        return self.cfg.auto_scale_lr.base_batch_size

    @property
    def train_dir(self) -> Path:
        return self.work_dir / 'train'

    @property
    def last(self) -> Path:
        """The last checkpoint of the training."""
        loop = self.cfg.train_cfg
        return self.train_dir / (
            f'epoch_{loop.max_epochs}.pth' if 'max_epochs' in loop
            else f'iter_{loop.max_iters}.pth')

    @property
    def tested(self) -> str:
        """The checkpoint to test; a pattern of its name as long as the best
        epoch is not known."""
        if self.checkpoint or not self.row.curve:
            return self.checkpoint or str(self.last)
        pattern = f'best_{METRIC.replace("/", "_")}_epoch_*.pth'
        reached = read_run(read_scalars(self.train_dir))

        def top1(path: Path) -> float:
            epoch = int(path.stem.split('_')[-1])
            return reached[epoch].top1 if epoch in reached else -math.inf

        # More than one, if a training was killed between two files.
        return str(max(self.train_dir.glob(pattern), key=top1,
                       default=self.train_dir / pattern))

    @cached_property
    def curve(self) -> Dict[int, Epoch]:
        """The authors' learning curve, empty where there is none or nothing is
        trained."""
        if self.checkpoint or not self.row.curve:
            return {}
        return read_curve(self.row.curve)

    def progress(self) -> List[Comparison]:
        """The training so far, beside the curve."""
        return compare(read_scalars(self.train_dir), self.curve)

    def describe(self, epoch: Comparison) -> str:
        """A line on an epoch of :meth:`progress`."""
        return epoch.describe(
            self.cfg.train_cfg.max_epochs, self.row.tolerance)

    @property
    def commands(self) -> List[List[str]]:
        """Training, unless it is finished, and testing."""
        start, name = launcher(self.gpus)
        common = ['--launcher', name, '--cfg-options', *self.options]
        test = [*start, str(self.root / 'tools/test.py'), str(self.config),
                self.tested, '--work-dir', str(self.work_dir / 'test'),
                *common]
        if self.checkpoint or self.last.is_file():
            return [test]
        if self.batch != self.base_batch:
            common.insert(0, '--auto-scale-lr')
        return [[*start, str(self.root / 'tools/train.py'), str(self.config),
                 '--work-dir', str(self.train_dir), '--resume',
                 *common], test]

    def warnings(self) -> List[str]:
        """What makes this another run than the row's."""
        warnings, scale = [], self.batch / self.base_batch
        if self.cfg_options:
            warnings.append('settings of your own: '
                            + ' '.join(self.cfg_options))
        if scale != 1 and not self.checkpoint:
            warnings.append(
                f'{self.batch} images per iteration instead of '
                f'{self.base_batch}: the learning rate is scaled by {scale:g}'
                + (f', and {scale:.0%} of the images are seen'
                   if 'max_iters' in self.cfg.train_cfg else ''))
        return warnings

    def keep_settings(self) -> str:
        """Writes what the training depends on into its work dir.

        Returns:
            The git revision at which the training began.

        Raises:
            ValueError: It was begun with other settings.
        """
        cfg = self.cfg.copy()
        cfg.pop('work_dir')  # not the training's, and it may be moved
        settings = f'# {self.name}, {self.gpus} GPUs\n{cfg.pretty_text}'
        folder = self.train_dir
        path, begun = folder / 'settings.py', folder / 'revision.txt'
        if not path.is_file() and not list(folder.glob('*.pth')):
            folder.mkdir(parents=True, exist_ok=True)
            begun.write_text(git_revision())
            path.write_text(settings)
        found = path.read_text() if path.is_file() else ''
        if found != settings:
            changed = [line.strip() for line in settings.splitlines()
                       if line not in found.splitlines()]
            raise ValueError(
                f'{folder} holds a run with other settings than '
                f'{changed[:3]}: choose another --work-dir, or remove it')
        return begun.read_text()


def reproduce(run: Run, command: str) -> dict:
    """Trains and tests, from where the work dir stands, and writes the report.

    Args:
        run: The row and the machine.
        command: The command line, for the report.

    Returns:
        The content of ``report.json``; its ``verdict`` is PASS or FAIL.

    Raises:
        ValueError: The work dir belongs to a run with other settings.
        subprocess.CalledProcessError: Training or testing failed.
        FileNotFoundError: The test has written no metrics.
    """
    training = ('none, a checkpoint was given' if run.checkpoint else
                f'begun at revision {run.keep_settings()}')
    run.work_dir.mkdir(parents=True, exist_ok=True)
    for name in REPORTS:  # an old verdict must not outlive a broken run
        (run.work_dir / name).unlink(missing_ok=True)
    commands, test_dir = run.commands, run.work_dir / 'test'
    before = find_metrics(test_dir)
    for arguments in commands[:-1]:
        call(arguments)
    commands[-1] = run.commands[-1]  # the best epoch is known by now
    call(commands[-1])
    if len(find_metrics(test_dir)) == len(before):
        raise FileNotFoundError(f'the test wrote no metrics in {test_dir}')
    logged = last_metrics(test_dir)
    metrics, weights = judge(run.row, logged), {'tested': run.tested}
    progress = run.progress()
    if not run.checkpoint:
        weights.update(find_pretrained(run.cfg))
        if run.cfg.get('load_from'):
            weights['load_from'] = run.cfg.load_from
        draw(run)
    failed = any(metric['verdict'] == 'FAIL' for metric in metrics)
    report = dict(
        row=run.name, verdict='FAIL' if failed else 'PASS', metrics=metrics,
        source=run.row.source, note=run.row.note, warnings=run.warnings(),
        curve=run.row.curve if run.curve else None,
        epochs=[epoch._asdict() for epoch in progress],
        progress=[run.describe(epoch) for epoch in progress
                  if epoch.epoch in MILESTONES or epoch is progress[-1]],
        logged={name: value if value == value else None  # JSON has no NaN
                for name, value in logged.items()},
        command=command, commands=[shlex.join(line) for line in commands],
        training=training, revision=git_revision(), gpus=run.gpus,
        images_per_iteration=run.batch, config_file=run.row.config,
        weights={f'{what}: {source}': sha256(source)
                 for what, source in weights.items()},
        environment={**collect_env(), **{
            name: import_module(name).__version__
            for name in ('mmcv', run.cfg.default_scope, 'mmiformer')}},
        config=run.cfg.pretty_text)
    (run.work_dir / 'report.md').write_text(to_markdown(report))
    (run.work_dir / 'report.json').write_text(
        json.dumps(report, indent=2, default=str) + '\n')
    return report


def draw(run: Run) -> None:
    """Draws the training: beside the authors' curve, if there is one."""
    path = run.work_dir / 'curve.png'
    if run.curve:
        draw_learning(path, run.name, {
            "the authors'": run.curve,
            'this training': read_run(read_scalars(run.train_dir))})
    else:
        draw_curves(path, {run.name: (
            run.train_dir,
            {name: name.split('/')[-1] for name in run.row.expected})})


def call(command: List[str]) -> None:
    """Runs a command; if this process is interrupted, the command gets SIGTERM
    and may save before it ends.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    process = subprocess.Popen(command)
    try:
        process.wait()
    finally:
        process.terminate()  # nothing, if it has ended
        process.wait()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
