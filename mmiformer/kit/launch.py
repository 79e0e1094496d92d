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

# What each launcher sets; the first is the rank on this machine.
VARIABLES = dict(
    pytorch=('LOCAL_RANK', 'RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
    slurm=('SLURM_LOCALID', 'SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
    mpi=('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK',
         'OMPI_COMM_WORLD_SIZE', 'MASTER_ADDR'))
STARTERS = dict(pytorch='torchrun, as tools/dist_train.sh does', slurm='srun',
                mpi='mpirun, with MASTER_ADDR')


def start_processes(cfg: Config) -> None:
    """Starts the process group for ``cfg.launcher``, if there is one.

    The Runner would do so itself, but not on CPUs: mmengine's ``init_dist``
    selects a GPU whatever the backend.

    Args:
        cfg: ``env_cfg`` is used; on CPUs ``model_wrapper_cfg`` is set, as the
            Runner's default names a GPU.

    Raises:
        ValueError: The environment is not the launcher's, or the backend or
            the number of processes does not fit the machine.
    """
    if cfg.launcher == 'none' or is_distributed():
        return
    names = VARIABLES[cfg.launcher]
    if missing := [name for name in names if name not in os.environ]:
        raise ValueError(
            f'--launcher {cfg.launcher}: the environment has no '
            f'{", ".join(missing)}: start it by {STARTERS[cfg.launcher]}')
    gpus, local_rank = torch.cuda.device_count(), int(os.environ[names[0]])
    if gpus and local_rank >= gpus:
        raise ValueError(
            f'process {local_rank} of this machine finds {gpus} GPU(s), each '
            'needs one of its own: start fewer, or let every process see all '
            'GPUs (Slurm: --gpus-per-node, not --gpus-per-task)')
    env_cfg = cfg.get('env_cfg') or {}
    dist_cfg = dict(env_cfg.get('dist_cfg') or {})
    # As the Runner does first; otherwise init_dist chooses a start method.
    set_multi_processing(**(env_cfg.get('mp_cfg') or {}), distributed=True)
    if get_device() != 'cpu':
        store = _new_store() if get_device() == 'cuda' else {}
        init_dist(cfg.launcher, **dist_cfg, **store)
        return
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
        OSError, ValueError: As ``function``, in the first process; the others
            exit with status 1.
    """
    result, fault = None, None
    if is_main_process():
        try:
            result = function(*args)
        except (OSError, ValueError) as error:
            fault = error
    shared = [result, fault is not None]
    broadcast_object_list(shared)
    if fault:
        raise fault
    if shared[1]:
        sys.exit(1)
    return shared[0]
