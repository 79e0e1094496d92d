"""Kills training runs after a checkpoint, resumes them, and compares.

    benchmarks/kill_and_resume.py --runs 50

A segmentor with averaged weights in bf16 autocast (by iterations), the same in
two processes, and a detector with accumulated gradients (by epochs) are trained
once without interruption. Then each run
is killed up to three times, by SIGKILL, SIGTERM, Ctrl-C or a disk that is full
while a checkpoint is written, and resumed. It must have resumed each time, and
its final weights, averaged weights, optimizer, schedules, random states and
metrics must equal those of the uninterrupted run, bit for bit.

The processes are real ones with real files. They are forked from this one,
which has imported what they need, since that takes longer than the training.
"""
import argparse
import contextlib
import importlib
import json
import os
import random
import re
import resource
import runpy
import signal
import socket
import sys
import tempfile
import time
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import List, Optional

# Set before torch is imported: a process with OpenMP threads cannot be forked.
os.environ['OMP_NUM_THREADS'] = '1'
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn

from mmiformer.checkpoint import read_checkpoint
from mmiformer.config import walk

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / 'tools' / 'train.py'
TIMEOUT = 180  # seconds, for a run
MAX_ADDRESS_SPACE = 16 << 30  # bytes, for a run
TIMED_OUT = -1000  # in place of an exit status
GRACE = 20  # seconds for the other processes of a run
FAULTS = ('SIGKILL', 'SIGTERM', 'SIGINT', 'disk full')
RESUMED = re.compile(r'resumed epoch: \d+, iter: (\d+)')
# By kind: how many processes, the last checkpoint, a metric.
KINDS = dict(
    seg=(1, 'iter_8.pth', 'mIoU'), det=(1, 'epoch_3.pth', 'coco/segm_mAP'),
    two=(2, 'iter_8.pth', 'mIoU'))
CONFIG = '''
data = dict(data_root='{data}/')
model = dict(backbone=dict(
    _delete_=True, type='mmiformer.IFormer', pretrain_img_size=64,
    drop_path_rate=0.3,
    arch=dict(embed_dims=(16, 32, 32, 48), depths=(1, 1, 2, 1),
              num_heads=(2, 4, 4, 6), attention_heads=(1, 2, (2, 3), 5))),
    neck=dict(in_channels=[16, 32, 32, 48], out_channels=32))
train_dataloader = dict(num_workers=2, batch_size=2, dataset=dict(data))
val_dataloader = dict(num_workers=1, batch_size=1, dataset=dict(data))
test_dataloader = val_dataloader
'''
# The file has the running averages of the first process alone.
NO_BATCH_NORM = '''
model['backbone']['norm_eval'] = True
model['decode_head']['norm_cfg'] = None
'''
CONFIGS = dict(seg=CONFIG + '''
_base_ = '{root}/configs/fpn_ade20k/iformer_s_shapes.py'
model['decode_head'] = dict(in_channels=[32] * 4, channels=32)
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]
train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
custom_hooks = [dict(type='EMAHook', momentum=.1)]
optim_wrapper = dict(type='Bf16OptimWrapper')
''', det=CONFIG + '''
_base_ = '{root}/configs/mask_rcnn/iformer_s_shapes.py'
model.update(
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        mask_roi_extractor=dict(out_channels=32),
        bbox_head=dict(in_channels=32, fc_out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=32)))
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(
    interval=1, max_keep_ckpts=2))  # with 1 there is none in between
optim_wrapper = dict(accumulative_counts=2)
val_evaluator = dict(
    ann_file='{data}/annotations/instances_validation.json')
test_evaluator = val_evaluator
''')


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """bf16 autocast on a CPU, where mmengine's own wants a GPU."""

    @contextlib.contextmanager
    def optim_context(self, model: nn.Module):
        with super().optim_context(model), torch.autocast(
                'cpu', torch.bfloat16):
            yield


def train(config: Path, work_dir: Path, max_bytes: Optional[int],
          environment: dict) -> None:
    """Runs ``tools/train.py CONFIG --resume`` in the process that this is."""
    os.setsid()
    os.environ.update(environment)
    output = os.open(work_dir / 'output.txt',
                     os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_SPACE, ) * 2)
    if max_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, ) * 2)
    sys.argv = [str(TRAIN), str(config), '--work-dir', str(work_dir),
                '--resume', *['--launcher', 'pytorch'] * bool(environment)]
    runpy.run_path(str(TRAIN), run_name='__main__')


def start(kind: str, config: Path, work_dir: Path,
          max_bytes: Optional[int] = None) -> List[ForkProcess]:
    """Starts a run, or resumes it where it was interrupted.

    Args:
        kind: A key of :data:`KINDS`.
        config: The config.
        work_dir: Of the run; its output goes to ``output.txt`` there.
        max_bytes: Maximum size of any file that it writes.
    """
    work_dir.mkdir(exist_ok=True)
    world_size, processes = KINDS[kind][0], []
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        port = server.getsockname()[1]
    for rank in range(world_size):
        environment = {} if world_size == 1 else dict(
            RANK=str(rank), LOCAL_RANK=str(rank), MASTER_ADDR='127.0.0.1',
            WORLD_SIZE=str(world_size), MASTER_PORT=str(port))
        processes.append(ForkProcess(
            target=train, args=(config, work_dir, max_bytes, environment)))
        processes[-1].start()
    return processes


def wait(processes: List[ForkProcess]) -> int:
    """The exit status of the first process that ends. The others are killed
    if they do not follow it, as a launcher does, and so is a run that hangs."""
    end, first = time.time() + TIMEOUT, None
    while first is None and time.time() < end:
        time.sleep(.02)
        first = next((process for process in processes
                      if not process.is_alive()), None)
    for process in processes:
        process.join(GRACE if first else 0)
        with contextlib.suppress(ProcessLookupError):  # workers may be left
            os.killpg(process.pid, signal.SIGKILL)
        process.join()
    return first.exitcode if first else TIMED_OUT


def find_iterations(work_dir: Path) -> int:
    """How many iterations the latest checkpoint of a run has."""
    marker = work_dir / 'last_checkpoint'
    if not marker.is_file():
        return 0
    try:
        return read_checkpoint(marker.read_text())['meta']['iter']
    except (OSError, ValueError):  # it is being replaced
        return 0


def interrupt(processes: List[ForkProcess], work_dir: Path, fault: str,
              done: int, after: float) -> None:
    """Strikes some time after a checkpoint beyond ``done`` iterations.
    SIGTERM goes to every process and worker, as a scheduler sends it."""
    end = time.time() + TIMEOUT
    while (find_iterations(work_dir) <= done and time.time() < end
           and all(process.is_alive() for process in processes)):
        time.sleep(.02)
    time.sleep(after)
    send = os.killpg if fault == 'SIGTERM' else os.kill
    for process in processes if fault == 'SIGTERM' else processes[-1:]:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            send(process.pid, getattr(signal, fault))


def read_result(work_dir: Path, kind: str) -> dict:
    """What must be equal in the end: the checkpoint, and metrics by step."""
    checkpoint = read_checkpoint(str(work_dir / KINDS[kind][1]))
    metrics = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # killed while it wrote the line
            if KINDS[kind][2] in record:
                metrics[record['step']] = {
                    name: value for name, value in record.items()
                    if 'time' not in name}
    return dict(
        weights=checkpoint['state_dict'], optimizer=checkpoint['optimizer'],
        averaged=checkpoint.get('ema_state_dict'),
        schedules=checkpoint['param_schedulers'],
        random=checkpoint['meta']['rng'], metrics=metrics)


def differences(a: dict, b: dict) -> List[str]:
    """The dotted keys where two nested results differ, in any bit."""
    a, b = ({key: value for key, value in walk(result)
             if not isinstance(value, (dict, list, tuple))}
            for result in (a, b))
    return [key for key in dict.fromkeys([*a, *b])
            if key not in a or key not in b or not equal(a[key], b[key])]


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    return type(a) is type(b) and a == b


def train_reference(kind: str, config: Path, work_dir: Path) -> dict:
    """The result of an uninterrupted run, and the bytes of a checkpoint."""
    begin = time.time()
    if status := wait(start(kind, config, work_dir)):
        sys.exit(f'the uninterrupted run ended with {status}:\n' + (
            work_dir / 'output.txt').read_text()[-3000:])
    print(f'{kind}: trained without interruption in '
          f'{time.time() - begin:.0f} s', flush=True)
    return dict(result=read_result(work_dir, kind),
                bytes=(work_dir / KINDS[kind][1]).stat().st_size)


def kill_and_resume(kind: str, config: Path, work_dir: Path, reference: dict,
                    rng: random.Random) -> bool:
    """Whether a run that is killed and resumed equals the reference."""
    faults, done = [], []
    for number in range(rng.randint(1, 3)):
        # Before the first checkpoint there is nothing to resume from.
        fault = rng.choice(FAULTS if number else FAULTS[:3])
        if fault == 'disk full':
            # Logs fit, a checkpoint only in part.
            processes = start(kind, config, work_dir, rng.randrange(
                reference['bytes'] // 4, reference['bytes']))
        else:
            processes = start(kind, config, work_dir)
            interrupt(processes, work_dir, fault,
                      find_iterations(work_dir), rng.uniform(0, 1))
        faults.append(f'{fault}: {wait(processes)}')
        done.append(find_iterations(work_dir))
    status = wait(start(kind, config, work_dir))
    found = [f'ended with {status}'] if status else differences(
        reference['result'], read_result(work_dir, kind))
    resumed = {int(match) for match in RESUMED.findall(
        (work_dir / 'output.txt').read_text())}
    if not {*done} <= resumed or 0 in done:
        found.append(f'resumed at {sorted(resumed)}, not at {done}')
    print(f'{work_dir.name}: {", ".join(faults)}; resumed at {done} -> ' + (
        'identical' if not found else f'{len(found)} differ: {found[:3]}'),
        flush=True)
    return not found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--runs', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', choices=KINDS,
                        default=list(KINDS))
    args = parser.parse_args()
    for package in ('mmdet', 'mmseg'):  # once, for all runs
        importlib.import_module(f'{package}.utils').register_all_modules()
    rng, begin, identical = random.Random(args.seed), time.time(), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        runpy.run_path(str(ROOT / 'demo/shapes.py'))['make_shapes'](
            folder / 'shapes', train=8, val=4, size=64)
        configs = {kind: folder / f'{kind}.py' for kind in args.kinds}
        for kind, path in configs.items():
            text = CONFIGS['seg'] + NO_BATCH_NORM if kind == 'two' else (
                CONFIGS[kind])
            path.write_text(text.format(root=ROOT, data=folder / 'shapes'))
        references = {kind: train_reference(
            kind, configs[kind], folder / f'{kind}_reference')
            for kind in args.kinds}
        for number in range(args.runs):
            kind = args.kinds[number % len(args.kinds)]
            identical += kill_and_resume(
                kind, configs[kind], folder / f'{kind}_{number}',
                references[kind], rng)
    print(f'{identical} of {args.runs} resumed and identical, '
          f'{(time.time() - begin) / 60:.0f} min')
    sys.exit(identical < args.runs)


if __name__ == '__main__':
    main()
