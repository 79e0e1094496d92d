"""Reproduces a row of the paper: checks, trains, tests and judges.

    tools/reproduce.py coco/iformer_s [--dry-run]
    tools/reproduce.py coco/iformer_s --checkpoint epoch_12.pth

Exit status: 0 the row is reproduced, 1 it is not, 2 the run could not start or
broke. Run again, it goes on where it stopped.
"""
import argparse
import shlex
import signal
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

try:
    from mmiformer.reproduce import (
        RECIPES,
        Plan,
        RunError,
        find_recipe,
        reproduce,
    )
    from mmiformer.reproduce.checks import (
        find_faults,
        find_package_faults,
        find_warnings,
    )
    from mmiformer.reproduce.estimate import estimate
    from mmiformer.reproduce.plan import find_gpus, parse_options
except ImportError as error:
    print(f'error: {error}; `make setup`, or `pip install .` in an '
          'environment of your own')
    sys.exit(2)

TRAINING = dict(start='from the start', none='none, a checkpoint is given',
                done='found finished', **{'continue': 'goes on'})
TOOLS = Path(__file__).resolve().parent


def positive(number: str) -> int:
    if int(number) < 1:
        raise ValueError
    return int(number)


def parse_args() -> argparse.Namespace:
    rows = '\n'.join(f'  {name:<23}' + ', '.join(
        f'{metric} {value}' for metric, value in recipe.expected.items())
        + f' ({recipe.source})' + (recipe.note and f'; {recipe.note}')
        for name, recipe in RECIPES.items())
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=f'rows:\n{rows}',
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('row', help='see below')
    parser.add_argument('--checkpoint', help='test this one, train nothing')
    parser.add_argument('--dry-run', action='store_true',
                        help='print the plan and what is missing')
    parser.add_argument(
        '--work-dir', type=Path, help='for report, logs and checkpoints; by '
        'default work_dirs/reproduce/ and the row')
    parser.add_argument('--gpus', type=positive, help='by default as many as '
                        'the recipe has, or as there are')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--tflops', type=float, help='sustained rate of a '
                        'device to estimate the hours with')
    parser.add_argument('--cfg-options', nargs='+', default=[],
                        metavar='KEY=VALUE', help='override settings')
    args = parser.parse_args()
    try:
        args.recipe = find_recipe(args.row)
        parse_options(args.cfg_options)
    except ValueError as error:
        parser.error(str(error))
    return args


def say(title: str, lines) -> None:
    print(f'{title}:', *lines, sep='\n  ', flush=True)


def show(plan: Plan, cost, caveats) -> None:
    recipe = plan.recipe
    where = f'{plan.gpus} GPU(s)' if plan.gpus else 'the CPU'
    say(f'{plan.name}', [
        f'{recipe.config} on {where}, into {plan.work_dir}',
        f'training: {TRAINING[plan.training()]}',
        *([recipe.note] if recipe.note else [])])
    say(f'expected ({recipe.source})',
        [f'{metric} {value:.1f} points, less at most {recipe.tolerance}'
         for metric, value in recipe.expected.items()])
    if cost:
        say('estimate', cost.lines())
    say('commands', map(shlex.join, plan.commands()))
    if caveats:
        say('warnings', caveats)


def main() -> int:
    warnings.filterwarnings('ignore')  # of the packages around us
    args = parse_args()
    faults = find_package_faults(args.recipe.framework)
    if not faults:  # the config needs them
        plan = Plan(
            args.row, args.recipe, TOOLS,
            args.work_dir or Path('work_dirs', 'reproduce', args.row),
            args.checkpoint, args.gpus, args.seed, tuple(args.cfg_options),
            find_gpus())
        cost = ('train' in plan.splits or None) and estimate(
            plan, args.tflops)
        caveats = find_warnings(plan, cost)
        faults = find_faults(plan, cost)
        show(plan, cost, caveats)
    if faults:
        say('cannot start, this is missing or wrong', faults)
    if args.dry_run or faults:
        return 0 if args.dry_run else 2
    try:
        report = reproduce(plan, shlex.join(sys.argv),
                           partial(print, end='', flush=True), caveats)
    except RunError as error:
        print(f'error: {error}')
        return 2
    print('\n' + (plan.work_dir / 'report.md').read_text())
    print(f'written: {plan.work_dir}/report.md, report.json'
          + ('' if args.checkpoint else ', curve.png'))
    return 0 if report.passed else 1


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
