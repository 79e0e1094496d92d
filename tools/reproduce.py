"""Reproduces a row of the paper: trains, tests and compares.

    tools/reproduce.py coco/iformer_s [--dry-run]
    tools/reproduce.py coco/iformer_s --checkpoint epoch_12.pth

Exit status: 0 the row is reproduced, 1 it is not, 2 the run could not start or
broke. The same command again resumes.
"""
import argparse
import shlex
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

from mmiformer.paper.curves import MILESTONES
from mmiformer.paper.reproduce import Run, reproduce
from mmiformer.paper.rows import ROWS

ROOT = Path(__file__).resolve().parents[1]


def parse_args() -> argparse.Namespace:
    rows = '\n'.join(f'  {name:<23}' + ', '.join(
        f'{metric} {value}' for metric, value in row.expected.items())
        + f' ({row.source})' + (row.note and f'; {row.note}')
        for name, row in ROWS.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f'rows:\n{rows}',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('row', choices=ROWS, metavar='ROW', help='see below')
    parser.add_argument('--checkpoint', help='test this one, train nothing')
    parser.add_argument('--dry-run', action='store_true',
                        help='print the plan only')
    parser.add_argument(
        '--work-dir', type=Path, help='for report, logs and checkpoints; by '
        'default work_dirs/reproduce/ and the row')
    parser.add_argument('--gpus', type=int, help='by default as many as the '
                        'row was made on, or as there are; 0 is the CPU')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        metavar='KEY=VALUE', help='override settings')
    args = parser.parse_args()
    if args.gpus is not None and args.gpus < 0:
        parser.error(f'--gpus {args.gpus}: give 0 (the CPU) or more')
    return args


def show(run: Run) -> None:
    row = run.row
    print(f'{run.name}: {row.config} on '
          + (f'{run.gpus} GPU(s)' if run.gpus else 'the CPU')
          + f', into {run.work_dir}')
    if row.note:
        print(f'note: {row.note}')
    for metric, value in row.expected.items():
        print(f'expected ({row.source}): {metric} {value} points, less at '
              f'most {row.tolerance}')
    if run.curve:
        print(f"the authors' curve ({row.curve}): top-1 " + ', '.join(
            f'{reached.top1:.2f} after {epoch}'
            for epoch, reached in run.curve.items()
            if epoch in MILESTONES or epoch == len(run.curve)) + ' epochs')
    for epoch in run.progress()[-1:]:
        print(run.describe(epoch))
    for warning in run.warnings():
        print(f'warning: {warning}')
    for command in run.commands:
        print(f'$ {shlex.join(command)}', flush=True)


def main() -> int:
    warnings.filterwarnings('ignore')  # of the packages around us
    args = parse_args()
    try:
        run = Run(
            args.row, ROWS[args.row], ROOT,
            args.work_dir or Path('work_dirs', 'reproduce', args.row),
            args.checkpoint, args.gpus, tuple(args.cfg_options))
        show(run)
        if args.dry_run:
            return 0
        report = reproduce(run, shlex.join(sys.argv))
    except (ValueError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f'error: this failed, see above:\n  {shlex.join(error.cmd)}\n'
              'fix the cause, and run the same command again to resume',
              file=sys.stderr)
        return 2
    print('\n' + (run.work_dir / 'report.md').read_text())
    print(f'written: {run.work_dir}/report.md, report.json'
          + ('' if args.checkpoint else ', curve.png'))
    return int(report['verdict'] == 'FAIL')


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(2))
    try:
        status = main()
    except KeyboardInterrupt:
        status = 2
    except Exception:
        traceback.print_exc()
        status = 2  # 1 would be a verdict
    sys.exit(status)
