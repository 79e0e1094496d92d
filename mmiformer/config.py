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

from .checkpoint import first_line
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
        except ValueError:  # no "="
            parser.error(f'{option_string} {" ".join(values)}: expected '
                         'KEY=VALUE ...')


def output_file(text: str) -> Path:
    """An argparse type: a file to write. Creates the parent folder, so that
    an unwritable path fails before the work."""
    path = Path(text)
    try:
        make_folder(path.parent)
    except OSError as error:
        raise argparse.ArgumentTypeError(f'{text}: {error}') from None
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text} is a folder')
    return path


def make_folder(path: Path) -> None:
    """Creates a folder to write to.

    Raises:
        OSError: It cannot be written.
    """
    path.mkdir(parents=True, exist_ok=True)
    if not os.access(path, os.W_OK):
        raise PermissionError(f'{path} cannot be written')


def require(cfg: Config, *names: str) -> None:
    """Raises ValueError if a config lacks settings that a tool needs."""
    if missing := [name for name in names if not cfg.get(name)]:
        raise ValueError(f'{cfg.filename} has no {", ".join(missing)}')


def load_config(path: str, cfg_options: Optional[dict] = None,
                work_dir: Optional[str] = None,
                launcher: str = 'none') -> Config:
    """Reads a config and applies the command line to it.

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
        ValueError: There is no such file, an override cannot be applied, or
            nothing reads it.
    """
    if not Path(path).is_file():
        path = config_path(str(path))
    cfg, options = read_config(path), cfg_options or {}
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


def read_config(path: str) -> Config:
    """mmengine's ``Config.fromfile``; modules of ``custom_imports`` may lie
    beside the file.

    Raises:
        ValueError: A line of it or of its bases fails.
    """
    folder = str(Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        return Config.fromfile(path)
    except Exception as error:  # a config is a program
        modules = {getattr(module, '__file__', None)
                   for module in {*sys.modules.values()}}
        place = [str(path), getattr(error, 'lineno', None)]
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename not in modules and Path(frame.filename).is_file():
                place = [frame.filename, frame.lineno]
        cause = error.__cause__ or error
        raise ValueError(', line '.join(str(x) for x in place if x) + (
            f': {type(cause).__name__}: {first_line(cause)}')) from error


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
