"""The process group of a run: one process per GPU, or several on CPUs."""
import os
import subprocess

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist, is_distributed
from mmengine.utils.dl_utils import set_multi_processing

# What each launcher sets, by torchrun's names.
VARIABLES = {
    'pytorch': dict(
        RANK='RANK', WORLD_SIZE='WORLD_SIZE', LOCAL_RANK='LOCAL_RANK',
        MASTER_ADDR='MASTER_ADDR', MASTER_PORT='MASTER_PORT'),
    'slurm': dict(
        RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS',
        LOCAL_RANK='SLURM_LOCALID', NODES='SLURM_NODELIST'),
    'mpi': dict(
        RANK='OMPI_COMM_WORLD_RANK', WORLD_SIZE='OMPI_COMM_WORLD_SIZE',
        LOCAL_RANK='OMPI_COMM_WORLD_LOCAL_RANK', MASTER_ADDR='MASTER_ADDR'),
}
STARTERS = dict(pytorch='torchrun, as tools/dist_train.sh does', slurm='srun',
                mpi='mpirun, with MASTER_ADDR')
PORT = '29500'  # as in OpenMMLab and torch


def start_processes(cfg: Config) -> None:
    """Starts the process group that ``cfg.launcher`` is for, if any.

    The Runner finds it started. It would do so itself, but not on CPUs:
    mmengine's ``init_dist`` asks for a GPU whatever the backend.

    Args:
        cfg: ``env_cfg`` says how; on CPUs ``model_wrapper_cfg`` is set, as
            the Runner's default names a GPU.

    Raises:
        ValueError: The environment is not the launcher's, or the backend or
            the number of processes does not fit the GPUs that there are.
    """
    if cfg.launcher == 'none' or is_distributed():
        return
    names = VARIABLES[cfg.launcher]
    missing = [name for name in names.values() if name not in os.environ]
    if missing:
        raise ValueError(
            f'--launcher {cfg.launcher}: the environment has no '
            f'{", ".join(missing)}: start it by {STARTERS[cfg.launcher]}')
    gpus = torch.cuda.device_count()
    local_rank = int(os.environ[names['LOCAL_RANK']])
    if gpus and local_rank >= gpus:
        raise ValueError(
            f'process {local_rank} of this machine finds {gpus} GPU(s), each '
            'needs one of its own: start fewer, or let every process see all '
            'GPUs (Slurm: --gpus-per-node, not --gpus-per-task)')
    env_cfg = cfg.get('env_cfg') or {}
    dist_cfg = dict(env_cfg.get('dist_cfg') or {})
    # As the Runner does first: else init_dist would choose how to.
    set_multi_processing(**(env_cfg.get('mp_cfg') or {}), distributed=True)
    if get_device() != 'cpu':
        own = _store() if get_device() == 'cuda' else {}
        init_dist(cfg.launcher, **dist_cfg, **own)
        return
    if dist_cfg.setdefault('backend', 'nccl') == 'nccl':
        raise ValueError(
            'the backend nccl needs GPUs, and torch finds none; on CPUs: '
            '--cfg-options env_cfg.dist_cfg.backend=gloo')
    _name_as_torchrun(names)
    torch.distributed.init_process_group(dist_cfg['backend'], **_store())
    wrapper = cfg.get('model_wrapper_cfg') or dict(  # the Runner's own
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def _store() -> dict:
    """Where the processes find each other after torchrun has started them
    anew: in torch 2.13 it keeps its store, and the addresses of processes
    that have ended are still in it.

    On several machines the counts of their torchruns may differ: empty there.
    """
    count = os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')
    if count == '0' or os.environ.get('GROUP_WORLD_SIZE') != '1':
        return {}
    store, rank, world_size = next(torch.distributed.rendezvous('env://'))
    return dict(store=torch.distributed.PrefixStore(count, store), rank=rank,
                world_size=world_size)


def _name_as_torchrun(names: dict) -> None:
    for name, source in names.items():
        os.environ[name] = os.environ[source]
    os.environ.setdefault('MASTER_PORT', PORT)
    if 'MASTER_ADDR' not in os.environ:  # Slurm: the first of node[3-5,9]
        os.environ['MASTER_ADDR'] = subprocess.check_output(
            ['scontrol', 'show', 'hostnames', os.environ['NODES']],
            text=True).split()[0]
