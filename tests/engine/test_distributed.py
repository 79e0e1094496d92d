"""Two processes on a CPU, by gloo: the same gradient, metrics and weights."""
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, call
from small_configs import write_config

from mmiformer.checkpoint import read_checkpoint

LAST = 24  # iterations
# After its first step the momentum is the gradient.
MORE = '''
model['decode_head'] = dict(norm_cfg=None, dropout_ratio=0.)
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = []
val_dataloader['batch_size'] = 1
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU', 'mDice'])
test_evaluator = [val_evaluator, dict(
    type='DumpResults', out_file_path={data!r} + '.pkl')]
train_cfg = dict(max_iters=24, val_interval=24)
default_hooks['checkpoint']['max_keep_ckpts'] = 24
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
    return write_config(folder / 'seg.py', 'seg', MORE)


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_killed_processes_end_the_job_and_it_resumes(
        config, untouched, tmp_path):
    """SIGKILL, and torchrun restarts them; SIGKILL again, and it gives up;
    SIGTERM, and both save; the last run ends as an untouched one."""
    work_dir = tmp_path / 'run'
    arguments = 'train.py', config, '--work-dir', work_dir, '--resume'
    job = Job(tmp_path / '1.txt', ['--max-restarts=1'], *arguments)
    first = strike(job, work_dir, 2, signal.SIGKILL)
    while first in job.workers() or len(job.workers()) < 2:
        time.sleep(.01)
    strike(job, work_dir, newest(work_dir) + 2, signal.SIGKILL)
    status, output = job.wait()
    assert status != 0
    assert 'resumed epoch: 0, iter: ' in output  # between the two

    job = Job(tmp_path / '2.txt', [], *arguments)
    strike(job, work_dir, newest(work_dir) + 2, signal.SIGTERM)
    status, output = job.wait()
    stopped = newest(work_dir)
    assert status != 0 and stopped in (10, 20)  # they agree every 10
    assert f'SIGTERM: saved {work_dir}/iter_{stopped}.pth' in output

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


EPOCHS = '''
__import__('sys').path.append({folder!r})
custom_imports = dict(imports=['striking'])
custom_hooks = [dict(type='StrikingHook')]
model = dict(backbone=dict(out_indices=(0, 1, 2)),
             neck=dict(in_channels=[16, 32, 32]))
train_dataloader = dict(sampler=dict(type='DefaultSampler'))
val_dataloader = dict(dataset=dict(
    _delete_=True, type='RepeatDataset', times=8,
    dataset={{{{_base_.val_dataloader.dataset}}}}))
train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=4, val_interval=2)
log_processor = dict(by_epoch=True)
default_hooks = dict(logger=dict(interval=1),
                     checkpoint=dict(by_epoch=False, interval=4))
'''
STRIKING = '''
import os
import signal
import time
from pathlib import Path
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
@HOOKS.register_module()
class StrikingHook(Hook):
    def after_val_iter(self, runner, batch_idx, **_):
        if runner.rank == 1 and batch_idx == 3:
            os.kill(os.getpid(), signal.SIGTERM)
    def before_save_checkpoint(self, runner, checkpoint):
        if checkpoint['meta']['iter'] == 10:
            time.sleep(5)  # a slow disk, of the first process
            pid = os.getppid()
            processes = Path(f'/proc/{pid}/task/{pid}/children').read_text()
            print('while saving:', len(processes.split()), flush=True)
'''


@pytest.fixture(scope='module')
def epochs(config):
    """Arguments of a run of four epochs of three iterations, whose second
    process gets SIGTERM in the first validation, and what it prints."""
    folder = config.parent / 'epochs'
    folder.mkdir()
    (folder / 'striking.py').write_text(STRIKING)
    child = folder / 'child.py'
    child.write_text(f'_base_ = {str(config)!r}\n'
                     + EPOCHS.format(folder=str(folder)))
    arguments = 'train.py', child, '--work-dir', folder / 'run'
    status, output = Job(folder / 'two.txt', [], *arguments).wait()
    assert status != 0
    return arguments, output


def test_a_network_of_fewer_stages(epochs):
    """Nothing of it is unused, or DistributedDataParallel would stop in the
    second iteration."""
    assert 'Epoch(train) [2][3/3]' in epochs[1]


def test_sigterm_in_a_validation(epochs):
    """The validation is finished, and the next step at which the processes
    ask each other is the last."""
    arguments, output = epochs
    assert f'SIGTERM: saved {arguments[-1]}/iter_10.pth' in output
    assert 'while saving: 2' in output  # torchrun ends all if one leaves
    assert re.findall(r'Epoch\(val\) \[2\]\[ *(\d+)/20\]', output)[-1] == '20'


def test_fewer_processes(epochs):
    """The second epoch starts again, in 6 batches where it was 3."""
    arguments, _ = epochs
    path = arguments[-1] / 'iter_4.pth'
    assert read_checkpoint(str(path))['meta']['epoch'] == 1
    output = call(*arguments, '--resume', path, '--cfg-options',
                  'train_cfg.max_epochs=2')
    assert 'an epoch has 6 batches and not 3: resuming at the beginning of ' \
        'epoch 2' in output
    assert 'random states of 2 processes and not of 1' in output
    trained = re.findall(r'Epoch\(train\) +(\[.*?/6\])', output)
    assert trained == [f'[2][{i}/6]' for i in range(1, 7)]
    assert path.with_name('iter_12.pth').exists()
