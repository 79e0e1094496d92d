"""What the tools share: from a config file to a checked config."""
import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Optional

from mmengine.config import Config, DictAction
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from ..datasets import make_shapes
from ..datasets.check import check_briefly
from .distributed import start_processes
from .guard import guard_files
from .preflight import check_files
from .torchvision import make_importable


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what training and testing both take, as OpenMMLab names it."""
    parser.add_argument('--work-dir', help='for logs, checkpoints, metrics')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE',
        help='override settings, e.g. model.backbone.with_cp=True')
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none')
    # Set by torch.distributed.launch; torchrun sets the environment instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)


def output_file(text: str) -> Path:
    """An argument that names a file to write, in a folder that is made now:
    not to be able to is known before the work is done."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f'{text}: {error}') from None
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f'{text} cannot be written')
    return path


def load_config(path: str, cfg_options: Optional[dict] = None,
                work_dir: Optional[str] = None,
                launcher: str = 'none') -> Config:
    """Reads a config and applies the command line to it.

    Args:
        path: The config file.
        cfg_options: Overrides, as ``--cfg-options`` gives them.
        work_dir: Where logs and checkpoints go; by default the config's
            ``work_dir``, or else ``work_dirs/`` and the config's path below
            its ``configs`` folder.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.
    """
    # mmengine and mmcv import it, and say so at every import.
    warnings.filterwarnings('ignore', message='pkg_resources is deprecated')
    make_importable()
    guard_files()
    cfg = Config.fromfile(path)
    cfg.launcher = launcher
    cfg.merge_from_dict(cfg_options or {})
    if work_dir or not cfg.get('work_dir'):
        cfg.work_dir = work_dir or str(Path('work_dirs', _run_name(path)))
    return cfg


def _run_name(path: str) -> Path:
    """mask_rcnn/iformer_s_1x for configs/mask_rcnn/iformer_s_1x.py: the file
    name alone is the same for several heads."""
    file = Path(path).resolve().with_suffix('')
    parts = file.parts
    if 'configs' in parts:
        last = len(parts) - 1 - parts[::-1].index('configs')
        return Path(*parts[last + 1:])
    return Path(file.name)


def prepare(cfg: Config, splits: tuple) -> None:
    """Starts the process group, where there is a launcher; makes the embedded
    data set if the config uses it, then checks that every file that the run
    will need is there, and before a training the data, in short.

    The first process does so for all; the others wait, and where it raises
    they end.

    Args:
        cfg: The config.
        splits: The data loaders that will be used: ``train``, ``val``,
            ``test``.

    Raises:
        FileNotFoundError: Something is missing; the message lists it all.
        ValueError: The data would stop or spoil the training, or the
            launcher does not fit, see :func:`start_processes`.
    """
    start_processes(cfg)
    fault = None
    if is_main_process():
        try:
            if 'shapes' in cfg:
                make_shapes(**cfg.shapes)
            check_files(cfg, splits)
            if 'train' in splits:
                _check_data(cfg, splits)
        except (FileNotFoundError, ValueError) as error:
            fault = error
    faults = [str(fault or '')]
    broadcast_object_list(faults)
    if fault:
        raise fault
    if faults[0]:
        sys.exit(1)


def _check_data(cfg: Config, splits: tuple) -> None:
    report = check_briefly(cfg, splits)
    advice = f'tools/check_dataset.py {cfg.filename} reads all of it'
    if report.errors:
        raise ValueError(
            f'cannot train on this data; {advice}:\n{report}')
    if report.faults:
        print_log(f'the data, in short; {advice}:\n{report}', 'current',
                  logging.WARNING)
