"""Reads, overrides and walks configs; nothing else here does."""
import argparse
import inspect
import os
import sys
import traceback
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from .zoo import config_path

# What runners and tools read at the top of a config. The rest there are
# variables of the file.
SETTINGS = {*inspect.signature(Runner).parameters} | {
    'compile', 'custom_imports', 'find_unused_parameters', 'fp16',
    'model_wrapper_cfg', 'runner_type', 'strategy', 'sync_bn', 'tta_model',
    'tta_pipeline'}
# The default hooks that mmengine removes by itself if they are None; of
# another one it would fail.
MMENGINE_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger',
                  'param_scheduler', 'checkpoint')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of training and testing, by OpenMMLab's names."""
    parser.add_argument('--work-dir', help='for logs, checkpoints, metrics')
    add_cfg_options(parser)
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none')
    # Set by torch.distributed.launch; torchrun sets the environment instead.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)


def add_cfg_options(parser: argparse.ArgumentParser) -> None:
    """Adds ``--cfg-options KEY=VALUE ...``."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=_Options, metavar='KEY=VALUE',
        help='override settings, e.g. model.backbone.with_cp=True')


class _Options(DictAction):

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        try:
            super().__call__(parser, namespace, values, option_string)
        except (AssertionError, RecursionError, ValueError):  # no =, or a dict
            parser.error(f'{option_string} {" ".join(values)}: expected '
                         'KEY=VALUE; for a dict write KEY.KEY=VALUE')


def output_file(text: str) -> Path:
    """An argparse type: a file to write. Creates the parent folder, so that
    an unwritable path fails before the work."""
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

    Modules beside the file can be imported from then on, as ``custom_imports``
    of configs in a project of one's own need it.

    Args:
        path: The config file, or one of ours by its path below ``configs/``,
            with or without that.
        cfg_options: Overrides, as ``--cfg-options`` gives them. A hook of
            ``default_hooks`` can be removed by None.
        work_dir: Where logs and checkpoints go; by default the config's
            ``work_dir``, or else ``work_dirs/`` and the config's path below
            its ``configs`` folder.
        launcher: ``none``, ``pytorch``, ``slurm`` or ``mpi``.

    Raises:
        ValueError: There is no such file, its lines fail, an override cannot
            be applied, or nothing reads it.
    """
    if not Path(path).is_file():
        path = config_path(str(path))
    cfg, options = _run_file(path), cfg_options or {}
    check_options(cfg, options)
    cfg.launcher = launcher
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError) as error:
        raise ValueError(f'--cfg-options: {error}') from error
    hooks = cfg.get('default_hooks') or {}
    for name in {*hooks} - {*MMENGINE_HOOKS}:
        if hooks[name] is None:
            del hooks[name]
    if work_dir or not cfg.get('work_dir'):
        cfg.work_dir = work_dir or str(Path('work_dirs', _run_name(path)))
    return cfg


def _run_file(path: str) -> Config:
    """Reads a config, which is a program and may raise anything."""
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return Config.fromfile(path)
    except Exception as error:
        cause: BaseException = error
        # mmengine puts an ImportError around what fails in custom_imports.
        while isinstance(cause, ImportError) and cause.__context__:
            cause = cause.__context__
        lines = [f'{frame.f_code.co_filename}, line {number}'
                 for frame, number in traceback.walk_tb(cause.__traceback__)
                 if frame.f_code.co_name == '<module>']
        text = str(cause).replace('<unknown>', 'in it or in a base')
        raise ValueError(f'{lines[-1] if lines else path}: '
                         f'{type(cause).__name__}: {text}') from error


def check_options(cfg: Config, options: Dict[str, Any]) -> None:
    """Refuses overrides that would change nothing.

    Overrides are merged when a config's lines have run. Those that use a
    variable of the file, such as ``data_root``, have taken its value by then.

    Raises:
        ValueError: The first name of a key is unknown, or a variable.
    """
    for option in options:
        name = option.split('.')[0]
        # Runners take this one only for a model without one of its own.
        unread = name == 'data_preprocessor' and name in (
            cfg.get('model') or {})
        if name in SETTINGS and not unread:
            continue
        text = f'--cfg-options {option}: nothing reads {name}'
        if name in cfg:
            text += (f', which the lines of {cfg.filename} have used already; '
                     'set the keys that have its value, or edit the lines')
        meant = [key for top in cfg if top in SETTINGS
                 for key, _ in walk(cfg[top], top) if key.endswith(f'.{name}')]
        if not meant and name not in cfg:
            meant = get_close_matches(name, {*SETTINGS, *cfg}, 1)
        raise ValueError(text + (
            f'; do you mean {", ".join(meant[:6])}?' if meant else ''))


def _run_name(path: str) -> Path:
    """mask_rcnn/iformer_s_1x for configs/mask_rcnn/iformer_s_1x.py: the file
    name alone is the same for several heads."""
    file = Path(path).resolve().with_suffix('')
    parts = file.parts
    if 'configs' in parts:
        last = len(parts) - 1 - parts[::-1].index('configs')
        return Path(*parts[last + 1:])
    return Path(file.name)


def as_list(value: Any) -> list:
    """A list of what a config has once or several times; none: empty."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def type_name(node: Any) -> str:
    """The class name that a typed dict asks for, without its scope. In a
    config of pure Python ``type`` is a class, not a string."""
    kind = node.get('type') if isinstance(node, dict) else None
    return str(getattr(kind, '__name__', kind)).split('.')[-1]


def walk(node: Any, key: str = '') -> Iterator[Tuple[str, Any]]:
    """Every value of a config with its dotted key, outer ones first."""
    yield key, node
    items: Any = ()
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    for name, child in items:
        yield from walk(child, f'{key}.{name}' if key else str(name))


def find_datasets(cfg: dict) -> Iterator[dict]:
    """The data sets below wrappers such as RepeatDataset."""
    if 'dataset' in cfg:
        yield from find_datasets(cfg['dataset'])
    elif 'datasets' in cfg:
        for part in cfg['datasets']:
            yield from find_datasets(part)
    else:
        yield cfg


def find_pretrained(cfg: Config) -> List[Tuple[str, str]]:
    """``(key, checkpoint)`` of each ``init_cfg`` of the model that loads
    one."""
    return [(f'{key}.checkpoint', node['checkpoint'])
            for key, node in walk(cfg.get('model') or {}, 'model')
            if isinstance(node, dict) and node.get('checkpoint')
            and type_name(node) in ('Pretrained', 'PretrainedInit')]
