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
from . import kinds
from .context import CheckContext
from .data import BRIEF, check_data


def check_start(cfg: Config, splits: Sequence[str]) -> None:
    """Checks in seconds what a run will read, and logs what is wrong.

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
    context = CheckContext(**BRIEF)
    # Every process fetches weights: machines may not share a disk, and a slow
    # download must not outlast the timeout of the broadcast.
    check_weights(cfg, 'train' in splits, context)
    if is_main_process():
        try:
            check_data(cfg, splits, context)
        except Exception as error:  # a check that fails must not end a run
            context.add(kinds.UNCHECKED, f'the check itself failed: {error!r}')
    report = context.report
    stops = [any(kind.stops for kind in report.faults)]
    broadcast_object_list(stops)
    if stops[0] and not is_main_process():
        sys.exit(1)
    raise_stops(report)
    if report.faults:
        print_log(
            'the data, checked briefly (--no-check skips this; all of it: '
            f'tools/check_dataset.py {cfg.filename}):\n{report}',
            'current', logging.WARNING)


def check_weights(cfg: Config, with_init: bool, context: CheckContext) -> None:
    """Checks that the checkpoints that a config names exist, and fetches the
    released ones.

    Args:
        cfg: Its ``load_from`` and the ``init_cfg`` of its model.
        with_init: Whether the model will be initialized by its ``init_cfg``.
        context: Where the faults go.
    """
    sources = [('load_from', cfg.load_from)] if cfg.get('load_from') else []
    for key, source in sources + (find_pretrained(cfg) if with_init else []):
        if source.startswith(tuple(FINDERS)):
            try:
                find(source)
            except (OSError, ValueError) as error:
                context.add(kinds.WEIGHTS_MISSING, f'{error} ({key})')
        elif '://' not in source and not Path(source).expanduser().exists():
            context.add(
                kinds.FILE_MISSING, f'{source} ({key}); if a run of your own '
                f'makes it, start that first, or --cfg-options {key}=...')


def raise_stops(report: kinds.Report) -> None:
    """Raises an error for what stops a run for certain, if anything does.

    Raises:
        FileNotFoundError, ValueError: As :func:`check_start` says.
    """
    stops = {kind: dict.fromkeys(names)
             for kind, names in report.faults.items() if kind.stops}
    if stops:
        lines = '\n  '.join(f'{kind.title}: {name}'
                            for kind, names in stops.items() for name in names)
        error = (ValueError if set(stops) == {kinds.UNREADABLE} else
                 FileNotFoundError)
        raise error(f'cannot start:\n  {lines}')
