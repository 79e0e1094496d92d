"""The process group, by each launcher's environment."""
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import get_dist_info

from mmiformer.kit import launch
from mmiformer.kit.launch import on_first_process, start_processes


def test_a_missing_environment_is_said(second):
    second('pytorch').delenv('RANK', raising=False)
    with pytest.raises(ValueError, match='RANK'):
        start_processes(Config(dict(
            launcher='pytorch',
            env_cfg=dict(dist_cfg=dict(backend='gloo')))))


@pytest.fixture
def second(monkeypatch):
    """The second of two processes of a launcher, on CPUs."""
    def start(launcher):
        monkeypatch.delenv('TORCHELASTIC_RESTART_COUNT', raising=False)
        monkeypatch.setattr(launch, 'get_device', lambda: 'cpu')
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: 0)
        return monkeypatch

    return start


@pytest.mark.parametrize('launcher, backend', [
    ('pytorch', 'nccl'), ('slurm', 'gloo')])
def test_what_needs_a_gpu_is_refused(launcher, backend, second):
    second(launcher)
    with pytest.raises(ValueError, match=f'{launcher}.*{backend}.*gloo'):
        start_processes(Config(dict(
            launcher=launcher,
            env_cfg=dict(dist_cfg=dict(backend=backend)))))


def test_gloo_takes_the_timeout_and_a_wrapper_without_gpu(second):
    started = {}
    second('pytorch').setattr(
        torch.distributed, 'init_process_group',
        lambda **options: started.update(options))
    cfg = Config(dict(launcher='pytorch', find_unused_parameters=True,
                      env_cfg=dict(dist_cfg=dict(
                          backend='gloo', timeout=90))))
    start_processes(cfg)
    assert started.pop('timeout').total_seconds() == 90
    assert started == dict(backend='gloo')
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=True, device_ids=None)


@pytest.mark.parametrize('count, nodes, fresh', [
    ('0', '1', False), ('2', '1', True), ('2', '2', False)])
def test_restarted_processes_meet_elsewhere(count, nodes, fresh, monkeypatch):
    """What dead ones have left in torchrun's store is stale."""
    store = torch.distributed.HashStore()
    store.set('address', 'old')
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', count)
    monkeypatch.setenv('GROUP_WORLD_SIZE', nodes)
    monkeypatch.setattr(torch.distributed, 'rendezvous',
                        lambda url: iter([(store, 1, 2)]))
    own = launch._new_store()
    assert bool(own) == fresh
    if fresh:
        assert (own['rank'], own['world_size']) == (1, 2)
        own['store'].set('address', 'new')
        assert store.get('address') == b'old'


def test_one_process_needs_no_group():
    start_processes(Config(dict(launcher='none')))
    assert get_dist_info() == (0, 1)


@pytest.mark.parametrize('divisor, first, second', [
    (2, (3, 1), (3, 1)), (0, ZeroDivisionError, SystemExit)])
def test_what_the_first_process_does(divisor, first, second, monkeypatch):
    """The second gets its result, or ends, and never waits in vain."""
    sent = []

    def end(rank):
        monkeypatch.setattr(launch, 'is_main_process', lambda: rank == 0)
        try:
            return on_first_process(divmod, 7, divisor)
        except (ZeroDivisionError, SystemExit) as error:
            return type(error)

    monkeypatch.setattr(launch, 'broadcast_object_list', sent.extend)
    assert end(0) == first
    monkeypatch.setattr(launch, 'broadcast_object_list',
                        lambda shared: shared.__setitem__(slice(2), sent))
    assert end(1) == second
