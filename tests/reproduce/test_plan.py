"""What a reproduction will run, on which machine, and where it stands."""
import sys
from dataclasses import replace

import pytest
import torch
from plans import ROOT, make_plan

from mmiformer.reproduce import plan as plans
from mmiformer.reproduce import (
    road,
)


@pytest.fixture
def srun(monkeypatch):
    """As if Slurm were installed."""
    monkeypatch.setattr(plans.shutil, 'which', lambda name: name)


def test_launchers(srun, monkeypatch):
    python, torchrun = sys.executable, [
        sys.executable, '-m', 'torch.distributed.run', '--standalone']
    slurm = {'SLURM_JOB_ID': '7'}
    assert plans.launcher(0, 0, {}) == ([python], 'none')
    assert plans.launcher(1, 8, {}) == ([python], 'none')
    assert plans.launcher(4, 8, {}) == (
        [*torchrun, '--nproc_per_node=4'], 'pytorch')
    assert plans.launcher(0, 0, slurm) == ([python], 'none')
    assert plans.launcher(8, 8, slurm) == (
        ['srun', '--nodes=1', '--ntasks=8', '--ntasks-per-node=8',
         '--kill-on-bad-exit=1', python], 'slurm')
    two = dict(slurm, SLURM_JOB_NUM_NODES='2', SLURM_CPUS_PER_TASK='5')
    assert plans.launcher(8, 8, two)[0][:6] == [
        'srun', '--nodes=2', '--ntasks=8', '--ntasks-per-node=4',
        '--kill-on-bad-exit=1', '--cpus-per-task=5']
    assert plans.launcher(8, 16, two)[0][1:4] == [
        '--nodes=1', '--ntasks=8', '--ntasks-per-node=8']
    # Inside a step another srun would wait for resources that it holds.
    step = dict(slurm, SLURM_STEP_NUM_TASKS='1')
    assert plans.launcher(4, 4, step)[1] == 'pytorch'
    monkeypatch.setattr(plans.shutil, 'which', lambda name: None)
    assert plans.launcher(4, 4, slurm)[1] == 'pytorch'  # in a container


def test_gpus_of_an_allocation(srun, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert plans.find_gpus({}) == 2
    assert plans.find_gpus({'SLURM_GPUS_ON_NODE': '4'}) == 2
    assert plans.find_gpus({
        'SLURM_JOB_ID': '7', 'SLURM_JOB_NUM_NODES': '2',
        'SLURM_GPUS_ON_NODE': '4'}) == 8


def test_the_commands_reach_their_launcher(tmp_path, monkeypatch):
    """torchrun starts one process per GPU with our arguments; so does srun,
    which is played here."""
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    script = tmp_path / 'tools' / 'train.py'
    script.parent.mkdir()
    script.write_text('import os, sys\nprint("rank", os.environ["RANK"], '
                      '*sys.argv[1:], flush=True)\n')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    plan = replace(make_plan(available=2), tools=script.parent)
    lines = []
    road.run(plan.commands()[0], tmp_path / 'log', lines.append)
    ranks = [line.split() for line in lines if line.startswith('rank')]
    assert sorted(line[1] for line in ranks) == ['0', '1']
    assert ranks[0][2:] == [
        str(plan.config), '--work-dir', 'work/train', '--auto-scale-lr',
        '--launcher', 'pytorch', '--cfg-options', 'randomness.seed=0']

    monkeypatch.setenv('SLURM_JOB_ID', '7')
    (tmp_path / 'srun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    road.run(plan.commands()[0], tmp_path / 'log', lines.append)
    assert lines[-1].startswith('--nodes=1 --ntasks=2 --ntasks-per-node=2')
    assert '--launcher slurm --cfg-options' in lines[-1]


def test_where_a_training_stands(tmp_path):
    plan = make_plan('shapes/fpn', tmp_path)
    assert plan.training() == 'start'
    assert [len(plan.commands()), '--resume' in plan.commands()[0]] == [
        2, False]
    plan.train_dir.mkdir()
    marker = plan.train_dir / 'last_checkpoint'
    marker.write_text(f'{plan.train_dir}/iter_300.pth')
    assert plan.training() == 'continue'
    assert '--resume' in plan.commands()[0]
    marker.write_text('/moved/since/iter_400.pth')
    assert plan.training() == 'continue'  # the file is not there
    (plan.train_dir / 'iter_400.pth').touch()
    assert plan.training() == 'done'
    (test, ) = plan.commands()
    assert str(plan.train_dir / 'iter_400.pth') in test
    given = replace(plan, checkpoint='mine.pth')
    assert given.training() == 'none'
    (test, ) = given.commands()
    assert 'mine.pth' in test and str(ROOT / 'tools/test.py') in test
