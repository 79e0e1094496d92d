"""A run in a second, whose weight depends on every sample and random number."""
import os
import signal

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmiformer.kit.resume import build_runner, prepare_resume
from mmiformer.kit.resume.choose import find_newest


@DATASETS.register_module()
class Ramp(Dataset):
    """Numbers."""

    metainfo = dict(classes=('a', ), weights=np.ones(1))

    def __init__(self, length=7):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return index + torch.rand(())


@MODELS.register_module()
class Restless(nn.Module):
    """Follows its data, at random; accumulated gradients add up."""

    def __init__(self, init_cfg=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = []

    def val_step(self, data):
        return [{}]

    def train_step(self, data, optim_wrapper):
        self.seen.append(data.mean().item())
        target = data.mean() + torch.rand(())
        loss = (self.weight - target) ** 2
        optim_wrapper.update_params(loss)
        return dict(loss=loss.detach())


def config(work_dir, max_epochs=2, batch=2, length=7, by_epoch=True,
           counts=1, lr=0.1, schedule=None, val_interval=1, **more):
    """Of a run of 4 iterations an epoch."""
    loop = (dict(by_epoch=True, max_epochs=max_epochs) if by_epoch else
            dict(by_epoch=False, max_iters=4 * max_epochs))
    loop = dict(val_interval=val_interval, **loop)
    return Config(dict(
        model=dict(type='Restless'), work_dir=str(work_dir),
        train_dataloader=dict(
            dataset=dict(type='Ramp', length=length), batch_size=batch,
            num_workers=0, sampler=dict(
                type='DefaultSampler' if by_epoch else 'InfiniteSampler'),
            collate_fn=dict(type='default_collate')),
        train_cfg=loop,
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr),
                           accumulative_counts=counts),
        default_hooks=dict(checkpoint=dict(
            type='CheckpointHook', interval=1 if by_epoch else 4,
            by_epoch=by_epoch)),
        param_scheduler=schedule, randomness=dict(seed=0),
        env_cfg={}, experiment_name=os.urandom(8).hex(), **more))


def run(work_dir, *args, resumed=False, hook=None, **kwargs):
    cfg = config(work_dir, *args, **kwargs)
    if resumed:
        prepare_resume(cfg)
    runner = build_runner(cfg)
    if hook:
        hook(runner)
    runner.train()
    return runner


def terminate_at(iteration):
    def hook(runner):
        step = runner.model.train_step

        def train_step(*args, **kwargs):
            if runner.iter == iteration:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(*args, **kwargs)

        runner.model.train_step = train_step
    return hook


def cut(work_dir, iteration, **kwargs):
    """A run that gets SIGTERM; returns the checkpoint that it ends with."""
    with pytest.raises(SystemExit) as error:
        run(work_dir, hook=terminate_at(iteration), **kwargs)
    assert error.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    return find_newest(config(work_dir))[0]


def read_logs(work_dir):
    """What mmengine has logged, without the configs."""
    return '\n'.join(
        line for path in work_dir.glob('*/*.log')
        for line in path.read_text().splitlines() if 'WARNING' in line)
