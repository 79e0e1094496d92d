"""What is checked before a training or a test starts."""
import logging
import sys
from pathlib import Path
from typing import Sequence

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import print_log

from ...checkpoint import FINDERS, find
from ...config import find_pretrained
from .data import check_data
from .report import Report

SAMPLE = 16  # these show a wrong root or size


def check_start(cfg: Config, splits: Sequence[str]) -> None:
    """Checks settings, weights and a handful of samples, and logs what is
    wrong.

    The first process does so; the others wait, and where it raises they end.

    Args:
        cfg: The config.
        splits: The data loaders that will be used: ``train``, ``val``,
            ``test``.

    Raises:
        FileNotFoundError: Files, folders or weights that the run opens first
            are missing; the message lists them all.
        ValueError: An annotation file is no JSON.
    """
    report = Report()
    # Every process fetches weights: machines may not share a disk, and a slow
    # download must not outlast the timeout of the broadcast.
    check_weights(cfg, 'train' in splits, report)
    if is_main_process():
        try:
            report.findings += check_data(cfg, splits, SAMPLE).findings
        except Exception as error:  # a check that fails must not end a run
            report.add('note', f'the check itself failed: {error!r}')
    stops = [bool(report.stops)]
    broadcast_object_list(stops)
    if stops[0] and not is_main_process():
        sys.exit(1)
    if report.stops:
        texts = dict.fromkeys(found.text for found in report.stops)
        error = (FileNotFoundError if any(text.startswith('missing: ')
                                          for text in texts) else ValueError)
        raise error('\n  '.join(['cannot start:', *texts]))
    if report.findings:
        print_log(
            'the data, checked briefly (--no-check skips this; all of it: '
            f'mmiformer check {cfg.filename}):\n{report}',
            'current', logging.WARNING)


def check_weights(cfg: Config, with_init: bool, report: Report) -> None:
    """Checks that the checkpoints that a config names exist, and fetches the
    released ones.

    Args:
        cfg: Its ``load_from`` and the ``init_cfg`` of its model.
        with_init: Whether the model will be initialized by its ``init_cfg``.
        report: Where the findings go.
    """
    sources = [('load_from', cfg.load_from)] if cfg.get('load_from') else []
    for key, source in sources + (find_pretrained(cfg) if with_init else []):
        if source.startswith(tuple(FINDERS)):
            try:
                find(source)
            except (OSError, ValueError) as error:
                report.add('stop', f'missing: {error} ({key})')
        elif '://' not in source and not Path(source).expanduser().exists():
            report.add(
                'stop', f'missing: {source} ({key}); if a run of your own '
                f'makes it, start that first, or --cfg-options {key}=...')
