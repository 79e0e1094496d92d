"""Times backbones, or whole models around them, side by side.

    tools/benchmark.py --out work_dirs/benchmark
    tools/benchmark.py --shapes 224@8 --modes forward --variants \\
        iFormer-S iFormer-S+compiled reference Swin-T
    tools/benchmark.py --config configs/mask_rcnn/iformer_s_1x.py --out DIR
    tools/benchmark.py --config configs/mask_rcnn/iformer_s_shapes.py --parts

A variant is a network, perhaps with +cp (recomputes activations in backward),
+deploy (folded for inference) and +compiled (by torch.compile). What
cannot be built here is left out and named. With --parts nothing is compared:
it says which part of the config's own model takes the time of an iteration.
"""
import argparse
import datetime
import logging
import os
import shlex
import sys
import warnings
from pathlib import Path

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from mmiformer.analysis import benchmark
from mmiformer.backbone.arch import PRESETS
from mmiformer.config import load_config, prepare

REFERENCE = Path(__file__).resolve().parents[1] / 'tests' / 'reference.py'
# For the estimate only: what networks reach of the machine's peak, and what
# compiling one takes; orders of magnitude.
ASSUMED_FRACTION = 0.25
COMPILE_SECONDS = 120


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shapes', nargs='+', metavar='H[xW][@BATCH]',
                        help=f'default: {" ".join(benchmark.SHAPES)}; with '
                        '--parts the images of the config')
    parser.add_argument('--modes', nargs='+', default=benchmark.MODES,
                        help='forward, train; default: both')
    parser.add_argument('--dtypes', nargs='+', default=['fp32', 'bf16'],
                        help='fp32, bf16; default: both')
    parser.add_argument('--variants', nargs='+',
                        metavar='NETWORK[+MODE]...',
                        help='default: ours in every mode, the plain '
                        'reference, and the peers')
    parser.add_argument('--arch', choices=sorted(PRESETS), default='small',
                        help='size of ours')
    parser.add_argument('--config', help='time the detector or segmentor of '
                        'this config around each backbone')
    parser.add_argument('--parts', action='store_true', help='with --config: '
                        'where the time of an iteration goes, from data to '
                        'post-processing')
    parser.add_argument('--checkpoint', help='with --parts: trained weights, '
                        'so that there is something to post-process')
    parser.add_argument('--repeats', type=int, default=10,
                        help='samples of each; default: 10')
    parser.add_argument('--seconds', type=float, default=60,
                        help='of a case, after which it is left with fewer '
                        'samples, 3 at least; default: 60')
    parser.add_argument('--device', default='cpu', help='cpu or cuda[:N]')
    parser.add_argument('--threads', type=int, help='of the CPU')
    parser.add_argument('--out', type=Path, help='folder for benchmark.md, '
                        'benchmark.json and benchmark.png')
    args = parser.parse_args()
    if args.repeats < 1:
        parser.error(f'--repeats {args.repeats}: give 1 or more')
    if args.parts and not args.config:
        parser.error('--parts needs --config')
    if args.checkpoint and not args.parts:
        parser.error('--checkpoint needs --parts')
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: there is no GPU that this '
                     'torch can use')
    try:
        args.device = torch.device(args.device)
        args.cases = benchmark.make_cases(
            args.shapes or benchmark.SHAPES, args.modes, args.dtypes)
        if args.parts:  # each shape once, or the config's own images
            args.cases = args.shapes and benchmark.make_cases(
                args.shapes, ['train'], ['fp32'])
        args.known = benchmark.networks(args.arch, REFERENCE)
        args.variants = [
            benchmark.parse_variant(name, args.known) for name in
            args.variants or benchmark.default_variants(args.known)]
    except (ValueError, RuntimeError) as error:
        parser.error(str(error).splitlines()[0])
    return args


def estimate(bench, cases, rates) -> float:
    """Minutes that a run takes, roughly: as if all variants were ours."""
    ours = next(iter(bench.known))
    seconds = 0
    for case in cases:
        variants = [v for v in bench.variants if v.runs(case.mode)]
        step = (bench.multiply_adds(ours, case) / rates[case.dtype] /
                ASSUMED_FRACTION)
        rounds = min(bench.repeats, max(3, bench.seconds / step /
                                        max(len(variants), 1)))
        seconds += step * len(variants) * (rounds + 4)
        seconds += COMPILE_SECONDS * sum(v.compiled for v in variants)
    return seconds / 60


def print_parts(args: argparse.Namespace) -> None:
    """The tables of --parts: of the config's own images, or of made-up ones
    of each shape."""
    cfg = load_config(args.config)
    if args.checkpoint:  # in place of what training would start from
        cfg.load_from, cfg.model.backbone.init_cfg = args.checkpoint, None
    try:
        if not args.cases:
            prepare(cfg, ('train', 'test'))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    page = [f'`{shlex.join(["tools/benchmark.py", *sys.argv[1:]])}`, '
            f'{datetime.date.today()}']
    for case in args.cases or [None]:
        shape = case.shape if case else 'the images of the config'
        print(f'{shape}: {args.repeats} iterations of each', flush=True)
        table = benchmark.parts_table(benchmark.time_iterations(
            cfg, args.device, args.repeats, case, args.checkpoint))
        page += [f'{Path(args.config).stem}, {shape}:', table]
        print(table)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / 'parts.md'
        path.write_text('\n\n'.join(page))
        print(f'written: {path}')


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore')
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # it would write in the bar
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device.type == 'cpu':
        benchmark.limit_memory()
    if args.parts:
        print_parts(args)
        return
    task = benchmark.BackboneTask()
    if args.config:
        task = benchmark.ModelTask(load_config(args.config),
                                   Path(args.config).stem)
    left_out = benchmark.left_out(args.variants, args.known)
    if benchmark.REFERENCE not in args.known:
        left_out[benchmark.REFERENCE] = 'only a checkout has tests/reference.py'
    for name, reason in left_out.items():
        print(f'{name}: left out, {reason}')
    variants = [v for v in args.variants if v.name not in left_out]
    bench = benchmark.Benchmark(args.known, variants, task, args.device,
                                args.repeats, args.seconds)
    machine = benchmark.describe(args.device)
    print('the machine: '
          + ', '.join(f'{key} {value}' for key, value in machine.items()))
    rates = benchmark.ceilings(args.device, args.dtypes)
    measurements = sum(v.runs(case.mode) for case in args.cases
                       for v in variants)
    print(f'the plan: {measurements} measurements, {len(variants)} variants '
          f'in {len(args.cases)} cases, {args.repeats} samples each; very '
          f'roughly {estimate(bench, args.cases, rates):.0f} minutes',
          flush=True)
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(),
               TimeRemainingColumn(), TextColumn('{task.description}'))
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task('', total=bench.total(args.cases))
        bench.advance = lambda text, steps: progress.update(
            bar, description=text, advance=steps)
        rows = bench.run(args.cases)
    benchmark.compare(rows, rates)
    report = dict(
        title=f'{task.name}, {next(iter(args.known))}',
        command=shlex.join(['tools/benchmark.py', *sys.argv[1:]]),
        date=str(datetime.date.today()), machine=machine, ceilings=rates,
        left_out=left_out, rows=rows)
    print(benchmark.markdown(report))
    if args.out:
        for path in benchmark.save(args.out, report):
            print(f'written: {path}')


if __name__ == '__main__':
    main()
