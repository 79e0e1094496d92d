"""Two processes on a CPU, by gloo: the same gradient, metrics and weights."""
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, call
from mmengine.config import Config
from mmengine.dist import get_dist_info

from mmiformer.backbone.hub import read_checkpoint
from mmiformer.engine import distributed, position
from mmiformer.engine.launch import start_processes
from mmiformer.engine.resume import resume

LAST = 24  # iterations
FSDP = ROOT / 'configs/_base_/fsdp.py'
CONFIG = '''
_base_ = {base!r}
shapes = dict(root={data!r}, train=12, val=5, size=64)
model = dict(
    backbone=dict(
        _delete_=True, type='mmiformer.IFormer', pretrain_img_size=64,
        norm_eval=True,
        arch=dict(embed_dims=(16, 32, 32, 48), depths=(1, 1, 2, 1),
                  num_heads=(2, 4, 4, 6), attention_heads=(1, 2, (2, 3), 5))),
    neck=dict(in_channels=[16, 32, 32, 48], out_channels=32),
    decode_head=dict(in_channels=[32] * 4, channels=32, norm_cfg=None,
                     dropout_ratio=0.))
# After its first step the momentum is the gradient.
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = []
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs')]
data = dict(data_root={data!r})
train_dataloader = dict(
    num_workers=0, batch_size=2, persistent_workers=False,
    dataset=dict(pipeline=train_pipeline, **data))
val_dataloader = dict(
    num_workers=0, batch_size=1, persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice'])
test_evaluator = [val_evaluator, dict(
    type='DumpResults', out_file_path={data!r} + '.pkl')]
train_cfg = dict(max_iters={last}, val_interval={last})
default_hooks = dict(
    logger=dict(interval=1),
    checkpoint=dict(interval=1, max_keep_ckpts={last}))
'''


class Job:
    """Two processes of a tool, under torchrun."""

    def __init__(self, output, options, tool, *arguments):
        self.output = output
        with open(output, 'w') as file:
            self.process = subprocess.Popen(
                [sys.executable,
                 str(Path(__file__).with_name('forked_torchrun.py')),
                 '--nproc_per_node=2', *options, str(ROOT / 'tools' / tool),
                 *map(str, arguments), '--launcher', 'pytorch'],
                stdout=file, stderr=subprocess.STDOUT, cwd=output.parent,
                env=dict(os.environ, OMP_NUM_THREADS='1'))

    def workers(self):
        pid = self.process.pid
        return list(map(int, Path(
            f'/proc/{pid}/task/{pid}/children').read_text().split()))

    def wait(self):
        """The exit status and the output."""
        try:
            status = self.process.wait(timeout=180)
        finally:
            if self.process.poll() is None:
                for pid in (*self.workers(), self.process.pid):
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()
        return status, self.output.read_text()


def newest(work_dir):
    marker = work_dir / 'last_checkpoint'
    text = marker.read_text() if marker.exists() else ''
    return int(text.split('iter_')[1].split('.')[0]) if text else 0


def strike(job, work_dir, iteration, number):
    """Sends a signal to the second process once there is a checkpoint of an
    iteration; returns its id."""
    deadline = time.time() + 120
    while newest(work_dir) < iteration and time.time() < deadline:
        assert job.process.poll() is None, job.output.read_text()[-3000:]
        time.sleep(.01)
    _, pid = job.workers()
    os.kill(pid, number)
    return pid


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('distributed')
    path = folder / 'seg.py'
    path.write_text(CONFIG.format(
        base=str(ROOT / 'configs/fpn_ade20k/iformer_s_shapes.py'),
        data=str(folder / 'shapes'), last=LAST))
    return path


@pytest.fixture(scope='module')
def untouched(config):
    """The work dir of two processes that nobody interrupts."""
    work_dir = config.parent / 'untouched'
    status, output = Job(config.parent / 'untouched.txt', [], 'train.py',
                         config, '--work-dir', work_dir).wait()
    assert status == 0, output[-3000:]
    return work_dir


@pytest.fixture(scope='module')
def alone(config):
    """The work dir of one process with the batch of two, for one step."""
    work_dir = config.parent / 'alone'
    call('train.py', config, '--work-dir', work_dir, '--cfg-options',
         'train_dataloader.batch_size=4', 'train_cfg.max_iters=1')
    return work_dir


def test_the_gradient_is_that_of_the_joint_batch(untouched, alone):
    """Norms are frozen (``norm_eval``): SyncBN is for GPUs alone."""
    one, two = (read_checkpoint(str(folder / 'iter_1.pth'))
                for folder in (alone, untouched))
    buffers = ('running_mean', 'running_var', 'num_batches_tracked')
    parameters = [name for name in one['state_dict']
                  if not name.endswith(buffers)]
    states = [checkpoint['optimizer']['state'] for checkpoint in (one, two)]
    # DistributedDataParallel was told that there are no unused parameters:
    # every one has a gradient, in both.
    for state in states:
        assert sorted(state) == list(range(len(parameters)))
    for index, name in enumerate(parameters):
        joint, reduced = (state[index]['momentum_buffer'] for state in states)
        assert joint.abs().max() > 0, name
        error = (joint - reduced).abs().max() / joint.abs().max()
        assert error < 1e-4, name


def test_every_sample_is_tested_once(config, alone, tmp_path):
    """Five images over two processes; the sampler gives one of them twice."""
    status, output = Job(
        tmp_path / 'test.txt', [], 'test.py', config, alone / 'iter_1.pth',
        '--work-dir', tmp_path).wait()
    assert status == 0, output[-3000:]
    results = pickle.loads(Path(f'{config.parent}/shapes.pkl').read_bytes())
    assert sorted(Path(r['img_path']).stem for r in results) == [
        f'{i:05}' for i in range(5)]
    (file, ) = tmp_path.glob('2*/2*.json')
    (log, ) = alone.glob('2*/vis_data/scalars.json')
    tested = json.loads(file.read_text())
    validated = json.loads(log.read_text().splitlines()[-1])
    for metric in ('aAcc', 'mIoU', 'mDice'):
        assert tested[metric] == validated[metric] > 0


def test_killed_processes_end_the_job_and_it_goes_on(
        config, untouched, tmp_path):
    """SIGKILL, and torchrun starts anew; SIGKILL again, and it gives up;
    SIGTERM, and both save; the last one ends as if nothing had been."""
    work_dir = tmp_path / 'run'
    arguments = 'train.py', config, '--work-dir', work_dir, '--resume'
    job = Job(tmp_path / '1.txt', ['--max-restarts=1'], *arguments)
    first = strike(job, work_dir, 2, signal.SIGKILL)
    while first in job.workers() or len(job.workers()) < 2:
        time.sleep(.01)
    strike(job, work_dir, newest(work_dir) + 2, signal.SIGKILL)
    status, output = job.wait()
    assert status != 0
    # What torchrun names is what it sees first in a race: the killed process
    # or the other one, which cannot go on without it.
    assert 'process 0 of 2 cannot go on after iteration' in output
    assert 'Go on with --resume' in output
    assert 'resumed epoch: 0, iter: ' in output  # between the two

    job = Job(tmp_path / '2.txt', [], *arguments)
    strike(job, work_dir, newest(work_dir) + 2, signal.SIGTERM)
    status, output = job.wait()
    stopped = newest(work_dir)
    assert status != 0 and stopped in (11, 21)  # they agree every 10
    assert f'SIGTERM: saved {work_dir}/iter_{stopped}.pth' in output
    assert 'cannot go on' not in output

    status, output = Job(tmp_path / '3.txt', [], *arguments).wait()
    assert status == 0, output[-3000:]
    assert f'iter: {stopped}' in output
    ended, reference = (
        read_checkpoint(str(folder / f'iter_{LAST}.pth'))
        for folder in (work_dir, untouched))
    for name, value in reference['state_dict'].items():
        assert torch.equal(ended['state_dict'][name], value), name
    for index, state in reference['optimizer']['state'].items():
        assert torch.equal(ended['optimizer']['state'][index]
                           ['momentum_buffer'], state['momentum_buffer'])
    assert len(ended['meta']['rng']) == 2
    for mine, theirs in zip(ended['meta']['rng'], reference['meta']['rng']):
        assert torch.equal(mine['torch'], theirs['torch'])


@pytest.mark.slow
def test_fsdp_trains_and_goes_on(config, alone, tmp_path):
    """Sharded by blocks over two processes, by the FlexibleRunner: the same
    weights as one process has, in one file of the usual names."""
    sharded = tmp_path / 'fsdp.py'
    sharded.write_text(f'_base_ = {[str(config), str(FSDP)]!r}')
    plain = ['--work-dir', tmp_path / 'one', '--cfg-options',
             'train_dataloader.dataset.pipeline.2.prob=0.',
             'train_dataloader.dataset.indices=4',  # each batch is all of it
             f'load_from={alone / "iter_1.pth"}']
    call('train.py', config, *plain, 'train_dataloader.batch_size=4',
         'train_cfg.max_iters=2', 'train_cfg.val_interval=9')
    in_place = [f'strategy.state_dict_cfg.{part}_config.offload_to_cpu=False'
                for part in ('state_dict', 'optim_state_dict')]
    for last in (1, 2):  # the second goes on from the first
        status, output = Job(
            tmp_path / 'fsdp.txt', [], 'train.py', sharded, '--work-dir',
            tmp_path / 'two', '--resume', *plain[2:],
            'strategy.model_wrapper.device_id=cpu', *in_place,
            f'train_cfg.max_iters={last}', 'train_cfg.val_interval=9').wait()
        assert status == 0, output[-3000:]
    assert 'FullyShardedDataParallel' in output
    one, two = (read_checkpoint(str(tmp_path / name / 'iter_2.pth'))
                for name in ('one', 'two'))
    assert list(two['state_dict']) == list(one['state_dict'])
    for name, value in one['state_dict'].items():
        assert torch.allclose(two['state_dict'][name], value, rtol=1e-4,
                              atol=1e-6), name


def test_processes_augment_as_one_with_the_joint_batch(monkeypatch):
    """As many images in one process get the same random numbers, and no two
    of an iteration share them."""
    def seeds(rank, world_size, batch):
        monkeypatch.setattr(position, 'get_dist_info',
                            lambda: (rank, world_size))
        indices = list(range(8))[rank::world_size]
        batches = position.PositionedBatchSampler(
            torch.utils.data.BatchSampler(indices, batch, False), seed=7)
        return [{int(i): i.seed for i in batch} for batch in batches]

    joint = seeds(0, 1, 4)
    for number, batch in enumerate(joint):
        assert len(set(batch.values())) == 4
        parts = [seeds(rank, 2, 2)[number] for rank in (0, 1)]
        assert {**parts[0], **parts[1]} == batch


@pytest.mark.parametrize('launcher, names', [
    ('pytorch', 'RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT'),
    ('slurm', 'SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID, SLURM_NODELIST'),
    ('mpi', 'OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE, '
     'OMPI_COMM_WORLD_LOCAL_RANK, MASTER_ADDR')])
def test_a_missing_environment_is_said(launcher, names, monkeypatch):
    for name in names.split(', '):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=f'has no {names}: start it by '):
        start_processes(Config(dict(launcher=launcher)))


@pytest.fixture
def slurm(monkeypatch):
    """The environment of the second of two tasks."""
    for name, value in dict(
            PROCID='1', NTASKS='2', LOCALID='1',
            NODELIST='node[3-4]').items():
        monkeypatch.setenv(f'SLURM_{name}', value)
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR',
                 'MASTER_PORT', 'NODES'):  # set, so that they are restored
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)
    return monkeypatch


def test_nccl_without_a_gpu_is_refused(slurm):
    slurm.setattr(distributed, 'get_device', lambda: 'cpu')
    slurm.setattr(torch.cuda, 'device_count', lambda: 0)
    with pytest.raises(ValueError, match='nccl needs GPUs.*backend=gloo'):
        start_processes(Config(dict(launcher='slurm')))


def test_more_processes_than_gpus_are_refused(slurm):
    slurm.setattr(torch.cuda, 'device_count', lambda: 1)
    with pytest.raises(ValueError, match=r'process 1 .* finds 1 GPU\(s\)'):
        start_processes(Config(dict(launcher='slurm')))


def test_slurm_on_cpus(slurm):
    """Its variables become torchrun's, the first node the master."""
    started = []
    slurm.setattr(distributed, 'get_device', lambda: 'cpu')
    slurm.setattr(torch.cuda, 'device_count', lambda: 0)
    slurm.setattr(distributed.subprocess, 'check_output',
                  lambda command, text: f'{command[-1]}\n'.replace(
                      'node[3-4]', 'node3\nnode4'))
    slurm.setattr(torch.distributed, 'init_process_group', started.append)
    slurm.delenv('TORCHELASTIC_RESTART_COUNT', raising=False)
    cfg = Config(dict(launcher='slurm', find_unused_parameters=True,
                      env_cfg=dict(dist_cfg=dict(backend='gloo'))))
    start_processes(cfg)
    assert started == ['gloo']
    assert {name: os.environ[name] for name in (
        'RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    } == dict(RANK='1', WORLD_SIZE='2', LOCAL_RANK='1', MASTER_ADDR='node3',
              MASTER_PORT='29500')
    assert cfg.model_wrapper_cfg == dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        find_unused_parameters=True, device_ids=None)


@pytest.mark.parametrize('count, nodes, fresh', [
    ('0', '1', False), ('2', '1', True), ('2', '2', False)])
def test_processes_started_anew_meet_elsewhere(count, nodes, fresh,
                                               monkeypatch):
    """What ended ones have left in torchrun's store is not theirs."""
    store = torch.distributed.HashStore()
    store.set('address', 'old')
    monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', count)
    monkeypatch.setenv('GROUP_WORLD_SIZE', nodes)
    monkeypatch.setattr(torch.distributed, 'rendezvous',
                        lambda url: iter([(store, 1, 2)]))
    own = distributed._store()
    assert bool(own) == fresh
    if fresh:
        assert (own['rank'], own['world_size']) == (1, 2)
        assert not own['store'].check(['address'])


def test_the_beginning_may_be_other_weights(tmp_path):
    """Also of a run that is told to go on, and has not begun."""
    cfg = Config(dict(work_dir=str(tmp_path), load_from='start.pth'))
    resume(cfg)
    assert cfg.load_from == 'start.pth' and not cfg.resume


def test_one_process_needs_no_group():
    start_processes(Config(dict(launcher='none')))
    assert get_dist_info() == (0, 1)
