"""Reproduces a result of the paper: trains, tests and compares.

    tools/reproduce.py coco/iformer_s [--dry-run]
    tools/reproduce.py coco/iformer_s --checkpoint epoch_12.pth

Exit status: 0 the result is reproduced, 1 it is not, 2 the run could not start
or broke. The same command again resumes.
"""
import argparse
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import List

from mmiformer.config import add_cfg_options, load_config
from mmiformer.front import new_parser, run
from mmiformer.paper.curves import METRIC, describe_progress, read_curve
from mmiformer.paper.logs import find_metrics, last_metrics, read_scalars
from mmiformer.paper.targets import RELEASED_TOLERANCE, TARGETS
from mmiformer.paper.verdict import judge

TOOLS = Path(__file__).resolve().parent
STATUS = 2  # of what is no verdict


def parse_args() -> argparse.Namespace:
    rows = '\n'.join(f'  {name:<23}' + ', '.join(
        f'{metric} {value}' for metric, value in target.expected.items())
        + f' ({target.source})' + (target.note and f'; {target.note}')
        for name, target in TARGETS.items())
    parser = new_parser(__doc__)
    parser.epilog = f'rows:\n{rows}'
    parser.add_argument('row', choices=TARGETS, metavar='ROW',
                        help='see below')
    parser.add_argument('--checkpoint', help='test this one, train nothing')
    parser.add_argument('--dry-run', action='store_true',
                        help='print the commands only')
    parser.add_argument(
        '--work-dir', type=Path, default=Path('work_dirs', 'reproduce'),
        help='for logs and checkpoints, in a folder of the row (default: '
        '%(default)s)')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        metavar='KEY=VALUE', help='override settings')
    return parser.parse_args()


def call(command: List[str]) -> None:
    """Runs a command. If this process is interrupted, the command gets SIGTERM
    and may save before it ends.

    Raises:
        RuntimeError: It failed.
    """
    process = subprocess.Popen(command)
    try:
        process.wait()
    finally:
        process.terminate()  # does nothing if it has ended
        process.wait()
    if process.returncode:
        raise RuntimeError(
            f'this failed, see above:\n  {shlex.join(command)}\nfix the cause, '
            'and run the same command again to resume')


def choose_checkpoint(best: bool, train_dir: Path, last: Path) -> Path:
    """The last checkpoint, or that of the best epoch."""
    pattern = f'best_{METRIC.replace("/", "_")}_epoch_*.pth'
    # A training that was killed between two files leaves both.
    return max(train_dir.glob(pattern), default=train_dir / pattern,
               key=lambda path: path.stat().st_mtime) if best else last


def reproduce(args: argparse.Namespace) -> int:
    """Prints the plan, follows it, and returns the exit status."""
    target = TARGETS[args.row]
    if args.checkpoint and Path(args.checkpoint).stem == target.released:
        target = replace(target, tolerance=RELEASED_TOLERANCE)
    train_dir, test_dir = (args.work_dir / args.row / part
                           for part in ('train', 'test'))
    config = str(TOOLS.parent / 'configs' / target.config)
    options = ['--cfg-options', f'randomness.seed={target.seed}',
               *args.cfg_options]
    parser = argparse.ArgumentParser()  # as the two commands read them
    add_cfg_options(parser)
    cfg = load_config(config, parser.parse_args(options).cfg_options)
    loop, batch = cfg.train_cfg, cfg.train_dataloader.batch_size
    base = cfg.auto_scale_lr.base_batch_size
    last = train_dir / (f'epoch_{loop.max_epochs}.pth' if 'max_epochs' in loop
                        else f'iter_{loop.max_iters}.pth')
    trains = not args.checkpoint and not last.is_file()
    train = [sys.executable, str(TOOLS / 'train.py'), config, '--work-dir',
             str(train_dir), '--resume', *['--auto-scale-lr'] * (batch != base),
             *options]

    def test() -> List[str]:
        tested = args.checkpoint or choose_checkpoint(
            bool(target.curve), train_dir, last)
        return [sys.executable, str(TOOLS / 'test.py'), config, str(tested),
                '--work-dir', str(test_dir), *options]

    if target.note:
        print(f'note: {target.note}')
    for metric, value in target.expected.items():
        print(f'expected ({target.source}): {metric} {value} points, less at '
              f'most {target.tolerance:g}')
    if trains and batch != base:
        print(f'warning: {batch} images per iteration instead of {base}: the '
              f'learning rate is scaled by {batch / base:g}' + (
                  f', and {batch / base:.0%} of the images are seen'
                  if 'max_iters' in loop else ''))
    for command in [train, test()] if trains else [test()]:
        print(f'$ {shlex.join(command)}', flush=True)

    tests = len(find_metrics(test_dir))
    if not args.dry_run:
        if trains:
            call(train)
        call(test())
        if len(find_metrics(test_dir)) == tests:
            raise FileNotFoundError(f'the test wrote no metrics: {test_dir}')
    if target.curve and not args.checkpoint:
        print(describe_progress(read_scalars(train_dir), read_curve(
            target.curve), target.tolerance) or 'no epoch is validated yet')
    if args.dry_run:
        return 0
    verdicts = judge(target, last_metrics(test_dir))
    print(*verdicts, sep='\n')
    return int(not all(verdicts.values()))


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(STATUS))
    try:
        sys.exit(run(reproduce, parse_args(), status=STATUS))
    except KeyboardInterrupt:
        sys.exit(STATUS)
