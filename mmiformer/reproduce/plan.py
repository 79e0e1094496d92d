"""What a reproduction will run: settings, commands, and where it stands."""
import argparse
import math
import os
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import List, Mapping, Optional, Tuple

import torch
from mmengine.config import Config, DictAction

from ..config import load_config
from .recipes import Recipe

SETTINGS, REVISION = 'settings.py', '\n# revision '


def slurm_nodes(environ: Mapping[str, str]) -> int:
    """Nodes of the Slurm allocation that ``srun`` can start processes in.

    0 outside of one, in a container that has no ``srun``, and inside a job
    step (``srun --pty bash``), which has one node's GPUs for itself and where
    another ``srun`` would wait forever.
    """
    if ('SLURM_JOB_ID' not in environ or 'SLURM_STEP_NUM_TASKS' in environ
            or not shutil.which('srun')):
        return 0
    return int(environ.get('SLURM_JOB_NUM_NODES', 1))


def find_gpus(environ: Mapping[str, str] = os.environ) -> int:
    """GPUs that a run can use: this machine's, or the allocation's."""
    here = torch.cuda.device_count()
    nodes = slurm_nodes(environ)
    if not nodes:
        return here
    return nodes * max(here, int(environ.get('SLURM_GPUS_ON_NODE', 0)))


def launcher(gpus: int, available: int, environ: Mapping[str, str]
             = os.environ) -> Tuple[List[str], str]:
    """What starts one process per GPU, and its name in OpenMMLab's tools.

    Args:
        gpus: GPUs to use; 0 for a CPU.
        available: GPUs there are, as :func:`find_gpus` counts them.
        environ: Tells whether this is a Slurm allocation.
    """
    nodes = slurm_nodes(environ)
    if gpus and nodes:
        used = math.ceil(gpus / (max(gpus, available) // nodes))
        command = ['srun', f'--nodes={used}', f'--ntasks={gpus}',
                   f'--ntasks-per-node={math.ceil(gpus / used)}',
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
    parser.add_argument('options', nargs='*', action=DictAction)
    return parser.parse_args(list(options)).options or {}


@dataclass(frozen=True)
class Plan:
    """One reproduction.

    Attributes:
        name: The row.
        recipe: What it runs and expects.
        tools: The folder of ``train.py`` and ``test.py``, beside ``configs``.
        work_dir: For the report; below it ``train`` and ``test``.
        checkpoint: Test this one, train nothing.
        wanted_gpus: At most; by default as many as the recipe has.
        seed: For training.
        cfg_options: The user's, over the recipe's.
        available: GPUs there are.
    """
    name: str
    recipe: Recipe
    tools: Path
    work_dir: Path
    checkpoint: Optional[str] = None
    wanted_gpus: Optional[int] = None
    seed: int = 0
    cfg_options: Tuple[str, ...] = ()
    available: int = 0

    @property
    def config(self) -> Path:
        return self.tools.parent / 'configs' / self.recipe.config

    @property
    def options(self) -> Tuple[str, ...]:
        return (f'randomness.seed={self.seed}', *self.recipe.options,
                *self.cfg_options)

    @cached_property
    def cfg(self) -> Config:
        """The config with all options."""
        return load_config(str(self.config), parse_options(self.options))

    @property
    def batch(self) -> int:
        """Images per GPU."""
        return self.cfg.train_dataloader.batch_size

    @property
    def recipe_gpus(self) -> int:
        """GPUs that make the recipe's batch."""
        return max(1, self.cfg.auto_scale_lr.base_batch_size // self.batch)

    @property
    def gpus(self) -> int:
        """GPUs to use; 0 is the CPU, where the embedded data can be learned.
        Of the rest a machine without GPUs can only show the plan."""
        wanted = self.wanted_gpus or self.recipe_gpus
        if self.available or self.embedded:
            return min(wanted, self.available)
        return wanted

    @property
    def embedded(self) -> bool:
        """Whether the data is made on first use."""
        return 'shapes' in self.cfg

    @property
    def total_batch(self) -> int:
        """Images per iteration."""
        return self.batch * max(1, self.gpus)

    @property
    def scales_lr(self) -> bool:
        return self.total_batch != self.cfg.auto_scale_lr.base_batch_size

    @property
    def train_dir(self) -> Path:
        return self.work_dir / 'train'

    @property
    def test_dir(self) -> Path:
        return self.work_dir / 'test'

    @cached_property
    def settings(self) -> str:
        """What a training depends on; it cannot go on with another's."""
        cfg = self.cfg.copy()
        cfg.pop('work_dir')  # this run's is another, and may be moved
        return (f'# {self.name}, {self.gpus} GPUs\n{cfg.pretty_text}')

    def read_settings(self) -> Tuple[Optional[str], Optional[str]]:
        """The settings and the git revision that the work dir was started
        with, if it was."""
        path = self.train_dir / SETTINGS
        if not path.is_file():
            return None, None
        settings, _, revision = path.read_text().rpartition(REVISION)
        return settings, revision.strip()

    def write_settings(self, revision: str) -> None:
        self.train_dir.mkdir(parents=True, exist_ok=True)
        (self.train_dir / SETTINGS).write_text(
            f'{self.settings}{REVISION}{revision}\n')

    @property
    def splits(self) -> Tuple[str, ...]:
        """The data loaders that will be used."""
        return (('test', ) if self.training() in ('none', 'done')
                else ('train', 'val', 'test'))

    @property
    def final_checkpoint(self) -> Path:
        """What training ends with."""
        loop = self.cfg.train_cfg
        return self.train_dir / (
            f'epoch_{loop.max_epochs}.pth' if 'max_epochs' in loop
            else f'iter_{loop.max_iters}.pth')

    def training(self) -> str:
        """What is left to train: ``none`` (a checkpoint was given), ``done``,
        ``continue`` or ``start``."""
        if self.checkpoint:
            return 'none'
        marker = self.train_dir / 'last_checkpoint'  # written after the file
        if not marker.is_file():
            return 'start'
        last = self.train_dir / Path(marker.read_text().strip()).name
        if last == self.final_checkpoint and last.is_file():
            return 'done'
        return 'continue'

    def commands(self) -> List[List[str]]:
        """The command lines of training, unless it is done, and testing."""
        start, name = launcher(self.gpus, self.available)
        common = ['--cfg-options', *self.options]
        if name != 'none':
            common = ['--launcher', name, *common]
        test = [*start, str(self.tools / 'test.py'), str(self.config),
                self.checkpoint or str(self.final_checkpoint),
                '--work-dir', str(self.test_dir), *common]
        if self.training() in ('none', 'done'):
            return [test]
        train = [*start, str(self.tools / 'train.py'), str(self.config),
                 '--work-dir', str(self.train_dir)]
        if self.training() == 'continue':
            train.append('--resume')
        if self.scales_lr:
            train.append('--auto-scale-lr')
        return [[*train, *common], test]
