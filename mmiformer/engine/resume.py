"""Which checkpoint a run goes on from."""
from pathlib import Path
from typing import Optional

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..backbone.hub import read_checkpoint
from .runner import ResumableRunner

NAMES = ('epoch_*.pth', 'iter_*.pth')  # of mmengine


def build_runner(cfg: Config) -> Runner:
    """What ``runner_type`` names, by default :class:`ResumableRunner`."""
    if 'runner_type' in cfg:
        return RUNNERS.build(cfg)
    return ResumableRunner.from_cfg(cfg)


def resume(cfg: Config, checkpoint: Optional[str] = None) -> None:
    """Makes a config go on from a checkpoint, with the seed that it has.

    Args:
        cfg: Changed; its pre-training weights are no longer needed.
        checkpoint: By default the newest whole one in ``cfg.work_dir``;
            where there is none the run starts from the beginning.

    Raises:
        ValueError: No checkpoint in the folder is whole, or the named one
            is not of a run.
        FileNotFoundError: The named one is not there.
    """
    if cfg.get('strategy', {}).get('type') == 'DeepSpeedStrategy':
        cfg.resume, cfg.load_from = True, checkpoint  # folders, its own affair
        return
    checkpoint = checkpoint or find_newest(cfg)
    cfg.resume = checkpoint is not None
    if checkpoint is None:  # the beginning may be a load_from
        print_log(f'{cfg.work_dir} has no checkpoint: starting from the '
                  'beginning', logger='current')
        return
    cfg.load_from = checkpoint
    meta = read_checkpoint(checkpoint).get('meta')
    if not isinstance(meta, dict) or 'iter' not in meta:
        raise ValueError(
            f'{checkpoint} has weights, but no place in a run to go on from: '
            'name it by --cfg-options load_from=... instead of --resume')
    cfg.randomness = dict(cfg.get('randomness') or {}, seed=meta.get('seed'))
    _drop_pretrained(cfg.model)


def find_newest(cfg: Config) -> Optional[str]:
    """The newest checkpoint of a run that can be read; None: there is none
    at all. mmengine's ``last_checkpoint``, a text that may name any file, is
    not asked.

    Raises:
        ValueError: There are some, and all are damaged.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    folders = [Path(cfg.work_dir)]
    if hook.get('out_dir'):  # mmengine makes a folder of the run's name in it
        folders.append(Path(hook['out_dir'], folders[0].resolve().name))
    names = [*NAMES, (hook.get('filename_tmpl') or NAMES[0]).replace('{}', '*')]
    paths = sorted({path for folder in folders for name in names
                    for path in folder.glob(name)},
                   key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            read_checkpoint(str(path))
            return str(path)
        except (OSError, ValueError) as error:
            print_log(f'{error}: trying the one before it', logger='current')
    if paths:
        raise ValueError(
            f'all {len(paths)} checkpoints in {folders[-1]} are damaged: '
            'remove them to start from the beginning')
    return None


def _drop_pretrained(node) -> None:
    """A checkpoint of the run holds all weights."""
    if isinstance(node, dict):
        cfg = node.get('init_cfg')
        if isinstance(cfg, dict) and cfg.get('type') == 'Pretrained':
            node['init_cfg'] = None
        for child in node.values():
            _drop_pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _drop_pretrained(child)
