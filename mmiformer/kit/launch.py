"""The process group of a run: one process per GPU, or several on CPUs."""
import os
import sys
from datetime import timedelta
from typing import Any, Callable

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import (
    broadcast_object_list,
    init_dist,
    is_distributed,
    is_main_process,
)
from mmengine.utils.dl_utils import set_multi_processing


def start_processes(cfg: Config) -> None:
    """Starts the process group for ``cfg.launcher``, if there is one.

    The Runner would do so itself, but later, and not on CPUs: mmengine's
    ``init_dist`` selects a GPU whatever the backend.

    Args:
        cfg: ``env_cfg`` is used; on CPUs ``model_wrapper_cfg`` is set, as the
            Runner's default names a GPU.

    Raises:
        ValueError: The environment is not the launcher's, or the backend
            needs a GPU.
    """
    if cfg.launcher == 'none' or is_distributed():
        return
    env_cfg = cfg.get('env_cfg') or {}
    options = dict(env_cfg.get('dist_cfg') or {})
    backend = options.get('backend', 'nccl')
    # As the Runner does first; otherwise init_dist chooses a start method.
    set_multi_processing(**(env_cfg.get('mp_cfg') or {}), distributed=True)
    if get_device() != 'cpu':
        try:
            init_dist(cfg.launcher, **options, **_new_store())
        except KeyError as error:
            raise ValueError(
                f'--launcher {cfg.launcher}: the environment has no {error}: '
                'start it by torchrun, srun or mpirun') from error
        return
    if backend == 'nccl' or cfg.launcher != 'pytorch':
        raise ValueError(
            f'--launcher {cfg.launcher} with the backend {backend} needs '
            'GPUs, and torch finds none; on CPUs: torchrun, --launcher '
            'pytorch, --cfg-options env_cfg.dist_cfg.backend=gloo')
    if options.get('timeout') is not None:
        options['timeout'] = timedelta(seconds=options['timeout'])
    torch.distributed.init_process_group(**options, **_new_store())
    wrapper = cfg.get('model_wrapper_cfg') or dict(  # the Runner's default
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _new_store() -> dict:
    """A prefix in torchrun's store for each restart, without which (2.13)
    processes find the addresses of dead ones.

    On several machines the counts of restarts may differ: empty there.
    """
    count = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if count == '0' or os.environ.get('GROUP_WORLD_SIZE') != '1':
        return {}
    store, rank, world_size = next(torch.distributed.rendezvous('env://'))
    return dict(store=torch.distributed.PrefixStore(count, store), rank=rank,
                world_size=world_size)


def on_first_process(function: Callable, *args: Any) -> Any:
    """Returns in all processes what a function returns in the first.

    If it raises there, the other processes exit with status 1. The result is
    pickled.
    """
    result, failed = None, True
    try:
        if is_main_process():
            result, failed = function(*args), False
    finally:  # the others wait for it, also if it has failed
        shared = [result, failed]
        broadcast_object_list(shared)
    result, failed = shared
    if failed:
        sys.exit(1)
    return result
