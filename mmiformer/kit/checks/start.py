"""What is checked before a training or a test starts."""
import logging
from pathlib import Path
from typing import Iterator, List, Sequence

from mmengine.config import Config
from mmengine.logging import print_log

from ...checkpoint import FINDERS, find
from ...config import find_pretrained
from ..launch import on_first_process
from .data import check_data

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
    # Every process fetches weights: machines may not share a disk, and a slow
    # download must not outlast the timeout of a broadcast.
    stops = [*find_missing_weights(cfg, 'train' in splits)]
    on_first_process(_check, cfg, splits, stops)
    if stops:
        raise FileNotFoundError('\n  '.join(['cannot start:', *stops]))


def _check(cfg: Config, splits: Sequence[str], stops: List[str]) -> None:
    try:
        report = check_data(cfg, splits, SAMPLE)
    except Exception as error:  # a check that fails must not end a run
        print_log(f'the check itself failed: {error!r}', 'current',
                  logging.WARNING)
        return
    stops = [*stops, *dict.fromkeys(
        found.text for found in report.findings if found.level == 'stop')]
    if stops:
        missing = any(text.startswith('missing: ') for text in stops)
        raise (FileNotFoundError if missing else ValueError)(
            '\n  '.join(['cannot start:', *stops]))
    if report.findings:
        print_log(
            'the data, checked briefly (--no-check skips this; all of it: '
            f'mmiformer check {cfg.filename}):\n{report}',
            'current', logging.WARNING)


def find_missing_weights(cfg: Config, with_init: bool) -> Iterator[str]:
    """The checkpoints that a config names and that cannot be had; released
    ones are fetched.

    Args:
        cfg: Its ``load_from`` and the ``init_cfg`` of its model.
        with_init: Whether the model will be initialized by its ``init_cfg``.
    """
    sources = [('load_from', cfg.load_from)] if cfg.get('load_from') else []
    for key, source in sources + (find_pretrained(cfg) if with_init else []):
        if source.startswith(tuple(FINDERS)):
            try:
                find(source)
            except (OSError, ValueError) as error:
                yield f'missing: {error} ({key})'
        elif '://' not in source and not Path(source).expanduser().exists():
            yield f'missing: {source} ({key})'
