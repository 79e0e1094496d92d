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
    dist_cfg = dict(env_cfg.get('dist_cfg') or {})
    # As the Runner does first; otherwise init_dist chooses a start method.
    set_multi_processing(**(env_cfg.get('mp_cfg') or {}), distributed=True)
    try:
        if get_device() == 'cpu':
            _start_on_cpus(cfg, dist_cfg)
        else:
            init_dist(cfg.launcher, **dist_cfg, **_new_store())
    except KeyError as error:
        raise ValueError(
            f'--launcher {cfg.launcher}: the environment has no {error}: start '
            'it by torchrun, srun or mpirun (docs/many_gpus.md)') from error


def _start_on_cpus(cfg: Config, dist_cfg: dict) -> None:
    backend = dist_cfg.get('backend', 'nccl')
    if backend == 'nccl' or cfg.launcher != 'pytorch':
        raise ValueError(
            f'--launcher {cfg.launcher} with the backend {backend} needs '
            'GPUs, and torch finds none; on CPUs: torchrun, --launcher '
            'pytorch, --cfg-options env_cfg.dist_cfg.backend=gloo')
    options = _new_store()
    if dist_cfg.get('timeout') is not None:
        options['timeout'] = timedelta(seconds=dist_cfg['timeout'])
    torch.distributed.init_process_group(backend, **options)
    wrapper = cfg.get('model_wrapper_cfg') or dict(  # the Runner's default
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _new_store() -> dict:
    """After a restart torchrun (2.13) reuses its store with stale addresses;
    this gives a prefix per restart.

    On several machines the counts of restarts may differ: empty there.
    """
    count = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if count == '0' or os.environ.get('GROUP_WORLD_SIZE') != '1':
        return {}
    store, rank, world_size = next(torch.distributed.rendezvous('env://'))
    return dict(store=torch.distributed.PrefixStore(count, store), rank=rank,
                world_size=world_size)


def on_first_process(function: Callable, *args: Any) -> Any:
    """Calls a function in the first process and returns its result in all.

    Args:
        function: What it returns is pickled.

    Raises:
        Exception: As ``function``, in the first process; the others exit with
            status 1.
    """
    result, fault = None, None
    if is_main_process():
        try:
            result = function(*args)
        except Exception as error:  # the others must not wait for it
            fault = error
    shared = [result, fault is not None]
    broadcast_object_list(shared)
    if fault:
        raise fault
    if shared[1]:
        sys.exit(1)
    return shared[0]
