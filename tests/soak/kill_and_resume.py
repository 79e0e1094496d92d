"""Kills training runs at random moments, lets them go on, and compares.

    tests/soak/kill_and_resume.py --runs 50

A reference of each kind, a segmentor (by iterations) and a detector (by
epochs), is trained untouched. Then each run is killed up to three times, by
SIGKILL, SIGTERM, Ctrl-C or a disk that is full while a checkpoint is written,
and goes on by --resume. In the end its weights, optimiser, schedules, random
numbers and metrics must equal the reference's, bit for bit.

The processes are real ones with real files. They are forked from this one,
which has imported what they need, since that takes longer than the training.
"""
import argparse
import importlib
import json
import os
import random
import resource
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Dict, List, Optional

import torch

from mmiformer.backbone.hub import read_checkpoint

ROOT = Path(__file__).parents[2]
TRAIN = ROOT / 'tools' / 'train.py'
KINDS = ('seg', 'det')
PATIENCE = 180  # seconds, for a run
MEMORY = 16 << 30  # bytes of addresses, for a run
HUNG = -1000
FAULTS = ('SIGKILL', 'SIGTERM', 'SIGINT', 'disk full')
LAST = dict(seg='iter_8.pth', det='epoch_3.pth')
METRICS = dict(seg='mIoU', det='coco/segm_mAP')
CONFIG = '''
_base_ = {base!r}
shapes = dict(root={data!r}, train=8, val=4, size=64)
model = dict(backbone=dict(
    _delete_=True, type='mmiformer.IFormer', pretrain_img_size=64,
    drop_path_rate=0.3,
    arch=dict(embed_dims=(16, 32, 32, 48), depths=(1, 1, 2, 1),
              num_heads=(2, 4, 4, 6), attention_heads=(1, 2, (2, 3), 5))),
    neck=dict(in_channels=[16, 32, 32, 48]))
data = dict(data_root={data!r} + '/')
train_dataloader = dict(num_workers=2, batch_size=2, dataset=dict(data))
val_dataloader = dict(num_workers=1, batch_size=2, dataset=dict(data))
test_dataloader = val_dataloader
'''
MORE = dict(seg='''
train_dataloader['dataset']['pipeline'] = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs')]
train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=3))
''', det='''
train_cfg = dict(max_epochs=3, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(
    interval=1, max_keep_ckpts=1))
val_evaluator = dict(
    ann_file={data!r} + '/annotations/instances_validation.json')
test_evaluator = val_evaluator
''')
BASES = dict(seg='fpn_ade20k', det='mask_rcnn')


def write_configs(folder: Path) -> Dict[str, Path]:
    paths = {}
    for kind in KINDS:
        base = ROOT / 'configs' / BASES[kind] / 'iformer_s_shapes.py'
        paths[kind] = folder / f'{kind}.py'
        paths[kind].write_text((CONFIG + MORE[kind]).format(
            base=str(base), data=str(folder / 'shapes')))
    return paths


def start(config: Path, work_dir: Path, limit: Optional[int] = None) -> int:
    """The process of `tools/train.py CONFIG --resume`.

    Args:
        config: The config.
        work_dir: Of the run; its output goes to ``output.txt`` there.
        limit: No file may grow beyond so many bytes.
    """
    work_dir.mkdir(exist_ok=True)
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        os.setsid()
        output = os.open(work_dir / 'output.txt',
                         os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        sys.argv = [str(TRAIN), str(config), '--work-dir', str(work_dir),
                    '--resume']
        runpy.run_path(str(TRAIN), run_name='__main__')
        status = 0
    except SystemExit as error:
        print(error, flush=True)
        status = error.code if isinstance(error.code, int) else bool(
            error.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # workers see it, and end


def wait(process: int) -> int:
    """The exit status; what hangs is killed."""
    for _ in range(20 * PATIENCE):
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return HUNG


def interrupt(process: int, fault: str, after: float) -> None:
    """SIGTERM goes to the workers too, as a scheduler sends it."""
    time.sleep(after)
    number = getattr(signal, fault)
    try:
        if fault == 'SIGTERM':
            os.killpg(process, number)
        else:
            os.kill(process, number)
    except ProcessLookupError:
        pass  # it has ended


def read_result(work_dir: Path, kind: str) -> dict:
    """What must be equal in the end: the checkpoint, and metrics by step."""
    checkpoint = read_checkpoint(str(work_dir / LAST[kind]))
    metrics = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # killed while it wrote the line
            if METRICS[kind] in record:
                metrics[record['step']] = {
                    name: value for name, value in record.items()
                    if 'time' not in name}
    return dict(
        weights=checkpoint['state_dict'], optimizer=checkpoint['optimizer'],
        schedules=checkpoint['param_schedulers'],
        random=checkpoint['meta']['rng'], metrics=metrics)


def differences(a, b, name: str = '') -> List[str]:
    """Where two nested results differ, in any bit."""
    if isinstance(a, dict) and isinstance(b, dict) and list(a) == list(b):
        pairs = [(key, a[key], b[key]) for key in a]
    elif (isinstance(a, (list, tuple)) and isinstance(b, (list, tuple))
          and len(a) == len(b)):
        pairs = [(key, *pair) for key, pair in enumerate(zip(a, b))]
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return [] if torch.equal(a, b) else [name]
    else:
        return [] if a == b else [name]
    return [line for key, left, right in pairs
            for line in differences(left, right, f'{name}.{key}')]


def say(text: str) -> None:
    print(text, flush=True)


def train_references(configs: Dict[str, Path], folder: Path) -> Dict[str, dict]:
    """By kind: the result, the seconds it took, a checkpoint's size."""
    references = {}
    for kind, config in configs.items():
        work_dir, begin = folder / f'{kind}_reference', time.time()
        if status := wait(start(config, work_dir)):
            sys.exit(f'the reference ended with {status}:\n' + (
                work_dir / 'output.txt').read_text()[-3000:])
        references[kind] = dict(
            result=read_result(work_dir, kind), seconds=time.time() - begin,
            bytes=(work_dir / LAST[kind]).stat().st_size)
        say(f'{kind}: trained untouched in {references[kind]["seconds"]:.0f} s')
    return references


def run_one(kind: str, config: Path, work_dir: Path, reference: dict,
            rng: random.Random) -> List[str]:
    """Kills and resumes one run; returns where it differs."""
    story = []
    for _ in range(rng.randint(1, 3)):
        fault = rng.choice(FAULTS)
        if fault == 'disk full':
            # Logs fit, of a checkpoint only a part.
            process = start(config, work_dir, rng.randrange(
                reference['bytes'] // 4, reference['bytes']))
        else:
            process = start(config, work_dir)
            after = rng.uniform(0, reference['seconds'])
            interrupt(process, fault, after)
            fault += f' after {after:.1f} s'
        story.append(f'{fault}: {wait(process)}')
    status = wait(start(config, work_dir))
    found = [f'ended with {status}'] if status else differences(
        reference['result'], read_result(work_dir, kind))
    say(f'{work_dir.name}: {", ".join(story)} -> ' + (
        'identical' if not found else f'{len(found)} differ: {found[:3]}'))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--runs', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=KINDS)
    args = parser.parse_args()
    torch.set_num_threads(1)  # what has threads of OpenMP cannot be forked
    for package in ('mmdet', 'mmseg'):  # once, for all runs
        importlib.import_module(f'{package}.utils').register_all_modules()
    rng, begin, identical = random.Random(args.seed), time.time(), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        os.chdir(folder)
        configs = {kind: path for kind, path in write_configs(folder).items()
                   if kind in args.kinds}
        references = train_references(configs, folder)
        for number in range(args.runs):
            kind = args.kinds[number % len(args.kinds)]
            identical += not run_one(
                kind, configs[kind], folder / f'{kind}_{number}',
                references[kind], rng)
    say(f'{identical} of {args.runs} identical, '
        f'{(time.time() - begin) / 60:.0f} min')
    sys.exit(identical < args.runs)


if __name__ == '__main__':
    main()
