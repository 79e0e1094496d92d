"""What is checked before a training or a test starts."""
import logging
import sys

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from .preflight import check_files
from .run import check_briefly


def check_start(cfg: Config, splits: tuple) -> None:
    """Checks that every file that the run will need is there, and before a
    training the data, in short.

    The first process does so for all; the others wait, and where it raises
    they end.

    Args:
        cfg: The config.
        splits: The data loaders that will be used: ``train``, ``val``,
            ``test``.

    Raises:
        FileNotFoundError: Something is missing; the message lists it all.
        ValueError: The data would stop or spoil the training.
    """
    fault = None
    if is_main_process():
        try:
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
