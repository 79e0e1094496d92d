"""Which checkpoint a run resumes from."""
import re
from pathlib import Path
from typing import Mapping, Optional, Tuple

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ...checkpoint import read_checkpoint
from ...config import type_name, walk
from ..launch import on_first_process
from .plain import PlainCheckpointHook
from .runner import ResumableRunner

NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')  # mmengine's


def build_runner(cfg: Config) -> Runner:
    """Builds ``cfg.runner_type``, by default :class:`ResumableRunner`, which
    the config that a run writes then names; its checkpoints are plain in any
    case."""
    cfg.setdefault('runner_type', 'mmiformer.ResumableRunner')
    runner = RUNNERS.build(cfg)
    if not isinstance(runner, ResumableRunner):
        runner.register_hook(PlainCheckpointHook())
    return runner


def prepare_resume(cfg: Config, checkpoint: Optional[str] = None) -> None:
    """Makes a config resume from a checkpoint, with that run's seed.

    Only the first process reads files.

    Args:
        cfg: Changed in place. Pre-trained weights are dropped from it, as the
            checkpoint holds all weights.
        checkpoint: By default the newest undamaged one in ``cfg.work_dir``;
            if there is none the run starts from the beginning.

    Raises:
        ValueError: No checkpoint can be opened, or the one named is not of a
            run.
        OSError: A checkpoint is missing or cannot be read.
    """
    cfg.resume = False
    path, seed = on_first_process(_choose, cfg, checkpoint)
    if path is None:  # the beginning may be a load_from
        print_log(f'no epoch_*.pth or iter_*.pth in {cfg.work_dir}: starting '
                  'from the beginning', logger='current')
        return
    cfg.resume, cfg.load_from = True, path
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=seed)
    for _, node in walk(cfg.get('model')):
        if isinstance(node, dict) and type_name(
                node.get('init_cfg')) in ('Pretrained', 'PretrainedInit'):
            node['init_cfg'] = None


def _choose(cfg: Config, checkpoint: Optional[str]
            ) -> Tuple[Optional[str], Optional[int]]:
    """The checkpoint's path and seed."""
    if checkpoint is None:
        checkpoint, content = find_newest(cfg)
        if checkpoint is None:
            return None, None
    else:
        content = read_checkpoint(checkpoint)
    meta = content.get('meta') or {}
    needed = ['optimizer', *['param_schedulers'] * bool(
        cfg.get('param_scheduler'))]
    if 'iter' not in meta or not {*needed} <= {*content}:
        raise ValueError(
            f'{checkpoint} holds weights but not all of a run (meta, '
            f'{", ".join(needed)}); to start from its weights, use '
            '--cfg-options load_from=... instead of --resume; to resume the '
            'run, name one of its epoch_*.pth or iter_*.pth')
    return checkpoint, meta.get('seed')


def find_newest(cfg: Config) -> Tuple[Optional[str], Optional[Mapping]]:
    """The checkpoint of a run that is the furthest and can be opened, and its
    content.

    Copying changes the times of files, and mmengine's text file
    ``last_checkpoint`` may name any file: neither is used.

    Raises:
        ValueError: There are some, and none can be opened.
        OSError: One cannot be read, which says nothing about its content.
    """
    folders = [Path(cfg.work_dir)]
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('out_dir'):  # mmengine adds a folder with the run's name
        folders.append(Path(hook['out_dir'], folders[0].resolve().name))
    found = [(NAME.fullmatch(path.name), path)
             for folder in folders for path in folder.glob('*.pth')]
    # The furthest that opens of each kind; an epoch's number says nothing
    # beside an iteration's, so the content decides between the two.
    newest, damaged = {}, 0
    for match, path in sorted(
            ((match, path) for match, path in found if match), reverse=True,
            key=lambda pair: int(pair[0][2])):
        if match[1] in newest:
            continue
        try:
            newest[match[1]] = str(path), read_checkpoint(str(path))
        except ValueError as error:
            print_log(f'skipping a checkpoint: {error}', logger='current')
            damaged += 1
    if damaged and not newest:
        raise ValueError(
            f'none of {damaged} checkpoints in {folders[-1]} can be opened '
            '(see above): remove them to start from the beginning')
    return max(newest.values(), key=_progress, default=(None, None))


def _progress(found: Tuple[str, Mapping]) -> Tuple[int, int]:
    meta = found[1].get('meta') or {}
    return meta.get('iter', 0), meta.get('epoch', 0)
