"""The tools end to end, as a person calls them, on a few small shapes."""
import json
import os
import pickle
import signal
import subprocess
import sys
import time

import cv2
import pytest
import torch
from conftest import ROOT, call, refusal

from mmiformer.backbone.hub import read_checkpoint

BASES = dict(seg='fpn_ade20k', det='mask_rcnn')
CONFIG = '''
_base_ = {base!r}
shapes = dict(root={data!r}, train=8, val=4, size=64)
model = dict(backbone=dict(
    _delete_=True, type='mmiformer.IFormer', pretrain_img_size=64,
    arch=dict(embed_dims=(16, 32, 32, 48), depths=(1, 1, 2, 1),
              num_heads=(2, 4, 4, 6), attention_heads=(1, 2, (2, 3), 5))),
    neck=dict(in_channels=[16, 32, 32, 48]))
data = dict(data_root={data!r} + '/')
train_dataloader = dict(num_workers=0, batch_size=2,
                        persistent_workers=False, dataset=data)
val_dataloader = dict(num_workers=0, batch_size=2,
                      persistent_workers=False, dataset=data)
test_dataloader = val_dataloader
train_cfg = dict(max_{unit}=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
'''
DET = '''
val_evaluator = dict(
    ann_file={data!r} + '/annotations/instances_validation.json')
test_evaluator = val_evaluator
'''


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """Small configs of both frameworks, each trained for two steps."""
    folder = tmp_path_factory.mktemp('tools')
    paths = {}
    for kind, name in BASES.items():
        text = CONFIG + (DET if kind == 'det' else '')
        paths[kind] = folder / f'{kind}.py'
        paths[kind].write_text(text.format(
            base=str(ROOT / 'configs' / name / 'iformer_s_shapes.py'),
            data=str(folder / 'shapes'),
            unit='epochs' if kind == 'det' else 'iters'))
        paths[f'{kind}_log'] = call(
            'train.py', paths[kind], '--work-dir', folder / kind)
    return paths


def last(folder, pattern):
    (path, ) = folder.glob(pattern)
    return path


@pytest.mark.parametrize('kind, checkpoint, metric', [
    ('seg', 'iter_2.pth', 'mIoU'),
    ('det', 'epoch_2.pth', 'coco/segm_mAP_50'),
])
def test_train_then_test(kind, checkpoint, metric, small, tmp_path):
    folder = small[kind].parent / kind
    assert 'eta:' in small[f'{kind}_log']
    out = tmp_path / ('out.pkl' if kind == 'det' else 'out')
    call('test.py', small[kind], folder / checkpoint, '--work-dir', tmp_path,
         '--out', out, '--show-dir', tmp_path / 'shown')
    metrics = json.loads(last(tmp_path, '2*/2*.json').read_text())
    assert metric in metrics
    if kind == 'det':
        results = pickle.loads(out.read_bytes())
        assert [r['img_id'] for r in results] == [0, 1, 2, 3]
    else:
        maps = sorted(out.glob('*.png'))
        assert len(maps) == 4
        values = cv2.imread(str(maps[0]), cv2.IMREAD_GRAYSCALE)
        assert values.shape == (64, 64)
        assert set(values.flat) <= {1, 2, 3, 4}
    drawn = [p for p in (tmp_path / 'shown').rglob('*') if p.suffix in
             ('.png', '.jpg')]
    assert len(drawn) == 4


@pytest.mark.parametrize('kind, checkpoint, metric', [
    ('seg', 'iter_2.pth', 'mIoU'), ('det', 'epoch_2.pth', 'coco/bbox_mAP')])
def test_tta(kind, checkpoint, metric, small, tmp_path):
    output = call('test.py', small[kind], small[kind].parent / kind /
                  checkpoint, '--work-dir', tmp_path, '--tta')
    metrics = json.loads(last(tmp_path, '2*/2*.json').read_text())
    assert metric in metrics and 'coco/segm_mAP' not in metrics
    assert ('merges boxes alone' in output) == (kind == 'det')


@pytest.mark.slow
def test_a_killed_run_resumes(small, tmp_path):
    arguments = ['train.py', small['seg'], '--work-dir', tmp_path,
                 '--cfg-options', 'train_cfg.max_iters=6',
                 'train_cfg.val_interval=6']
    process = subprocess.Popen(
        [sys.executable, str(ROOT / 'tools/train.py'),
         *map(str, arguments[1:])], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    marker = tmp_path / 'last_checkpoint'
    deadline = time.time() + 120
    while not marker.exists() and time.time() < deadline:
        time.sleep(.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    stopped = int(marker.read_text().split('iter_')[1].split('.')[0])
    assert 1 <= stopped < 6
    output = call(*arguments, '--resume')
    assert f'resumed epoch: 0, iter: {stopped}' in output
    state = read_checkpoint(str(tmp_path / 'iter_6.pth'))
    assert state['meta']['iter'] == 6
    # The history goes on where it stopped: one loss per iteration.
    assert len(state['message_hub']['log_scalars']['train/loss'].data[0]) == 6
    named = call(*arguments, '--resume', tmp_path / 'iter_4.pth')
    assert 'resumed epoch: 0, iter: 4' in named


def test_one_framework_starts_the_other(small, tmp_path):
    output = call(
        'train.py', small['det'], '--work-dir', tmp_path, '--cfg-options',
        'train_cfg.max_epochs=1', 'train_cfg.val_interval=2',
        "model.backbone.init_cfg.type='Pretrained'",
        'model.backbone.init_cfg.checkpoint='
        f"{small['seg'].parent / 'seg' / 'iter_2.pth'}")
    own = len(read_checkpoint(
        str(small['seg'].parent / 'seg' / 'iter_2.pth'))['state_dict'])
    loaded = int(output.split('IFormer: loaded ')[1].split()[0])
    assert 0 < loaded < own


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_missing_data_is_said_without_a_trace(
        tool, configs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [configs / 'fpn_ade20k/iformer_s_80k.py']
    if tool == 'test.py':
        arguments.append('gone.pth')
    output = refusal(tool, *arguments, '--cfg-options',
                     'model.backbone.init_cfg=None')
    assert output.startswith('error: cannot start, this is missing or damaged')
    assert 'images/validation' in output
    assert ('gone.pth' in output) == (tool == 'test.py')
    assert not (tmp_path / 'work_dirs').exists()


def test_a_checkpoint_of_another_head_does_not_pass(small, tmp_path):
    output = call('test.py', small['seg'],
                  small['det'].parent / 'det' / 'epoch_2.pth', '--work-dir',
                  tmp_path, check=False)
    assert 'decode_head' in output and 'RuntimeError' in output


def test_auto_scale_lr(small, tmp_path):
    """Batch 2 of a base batch of 4: half the rate."""
    call('train.py', small['seg'], '--work-dir', tmp_path, '--auto-scale-lr',
         '--cfg-options', 'train_cfg.max_iters=1', 'param_scheduler=[]')
    log = json.loads(last(tmp_path, '2*/vis_data/scalars.json').read_text()
                     .splitlines()[0])
    assert log['lr'] == pytest.approx(1e-3 / 2)


@pytest.mark.skipif(torch.cuda.is_available(), reason='the machine has a GPU')
def test_amp_without_a_gpu_is_refused(small):
    assert refusal('train.py', small['seg'], '--amp') == (
        'error: --amp needs a GPU, and torch finds none')


@pytest.mark.parametrize('script, count', [
    ('dist_train.sh', 1), ('dist_test.sh', 2)])
def test_launch_scripts(script, count, tmp_path, monkeypatch):
    """They pass everything on to torchrun, which is played here."""
    (tmp_path / 'torchrun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'torchrun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('NNODES', '2')
    path = ROOT / 'tools' / script
    files = ['a b.py', 'c.pth'][:count]
    output = subprocess.check_output([path, *files, '8', '--resume'],
                                     text=True)
    assert '--nnodes=2' in output and '--nproc_per_node=8' in output
    tool = script.split('_')[1].replace('.sh', '.py')
    assert output.strip().endswith(
        f'{tool} {" ".join(files)} --launcher pytorch --resume')
    usage = subprocess.run([path], stderr=subprocess.PIPE, text=True)
    assert usage.returncode == 2 and 'CONFIG' in usage.stderr


def test_restarts_and_port(tmp_path, monkeypatch):
    """By OpenMMLab's name of the port, too."""
    (tmp_path / 'torchrun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'torchrun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.delenv('MASTER_PORT', raising=False)
    monkeypatch.setenv('PORT', '12345')
    monkeypatch.setenv('MAX_RESTARTS', '3')
    output = subprocess.check_output(
        [ROOT / 'tools/dist_train.sh', 'a.py', '8'], text=True)
    assert '--max_restarts=3' in output and '--master_port=12345' in output


def test_slurm_script(tmp_path, monkeypatch):
    """A process per task, each with its cores, from where sbatch was."""
    (tmp_path / 'srun').write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.setenv('SLURM_SUBMIT_DIR', str(tmp_path))
    monkeypatch.setenv('SLURM_CPUS_PER_TASK', '5')
    output = subprocess.check_output(
        [ROOT / 'tools/slurm_train.sh', 'a b.py', '--amp'], text=True)
    assert output.strip() == (
        f'{tmp_path} --kill-on-bad-exit=1 --cpus-per-task=5 python '
        'tools/train.py a b.py --amp --launcher slurm --resume')
