"""Times backbones side by side: inference, training steps, memory, error.

    benchmarks/backbones.py --sizes 224@8 512 --out work_dirs/backbones
    benchmarks/backbones.py --sizes 800x1280 --modes forward --dtypes bf16 \\
        --variants reference iFormer-S iFormer-S+deploy Swin-T

A variant is a network, perhaps with options: +window, +cp (recomputes
activations in backward), +cp1 (those of the first stage), +channels_last,
+deploy (folded for inference), +compile, +autotune (the same, by trying
kernels). A variant that fails costs its own row only. Results are written after
each case, so that an interrupted run keeps what it has measured.
"""
import argparse
import datetime
import gc
import itertools
import json
import os
import shlex
import sys
import traceback
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Dict, List, Sequence

import torch
from measure import (
    DTYPE_HELP,
    DTYPES,
    Step,
    describe_machine,
    parse_size,
    peak_memory,
    product_rate,
    quartiles,
    sample_rounds,
    worst_error,
)
from torch import Tensor, _dynamo, nn
from variants import (
    DEFAULT,
    MODES,
    NETWORKS,
    OPTIONS,
    REFERENCE,
    Forward,
    Variant,
)

from mmiformer.paper import count

SIZES = ('224', '224@8', '512', '1024', '800x1280')
OPTIMIZER = dict(lr=1e-4, weight_decay=0.05)  # as in the detection recipe
# Backward has two products, for the input and for the weights, where forward
# has one.
TRAIN_FACTOR = 3
TITLES = ('size', 'variant', 'ms', 'quartiles', 'speedup', 'memory MiB',
          'of peak', 'error')
NOTES = """\
- **ms**: median of the samples, wall clock, launches included. All variants of
  a size run in one process and are sampled in interleaved rounds.
- **speedup**: over the variant marked 1.00.
- **memory**: maximum that a step allocates above weights and optimizer states,
  in PyTorch's own allocator.
- **of peak**: multiply-adds per second, relative to the machine's rate of
  matrix products. One multiplication with its addition counts 1, attention is
  included, a training step counts as three forward passes.
- **error**: largest difference from the same network run eagerly in fp32,
  relative to the standard deviation of the map.
- `train` is forward, loss, backward and an AdamW step; `bf16` is autocast in
  forward and loss, compared with the peak of bf16 products. Weights are
  generated from their names, drop path is 0.
"""


@dataclass(frozen=True)
class Case:
    """What all variants are measured at."""
    height: int
    width: int
    batch: int
    mode: str
    dtype: str

    @property
    def size(self) -> str:
        """As :func:`parse_size` reads it."""
        side = (str(self.height) if self.height == self.width else
                f'{self.height}x{self.width}')
        return side if self.batch == 1 else f'{side}@{self.batch}'


def make_cases(sizes: Sequence[str], modes: Sequence[str],
               dtypes: Sequence[str]) -> List[Case]:
    """All combinations.

    Args:
        sizes: As :func:`parse_size` reads them.
        modes: Of ``forward`` and ``train``.
        dtypes: Of ``fp32`` and ``bf16``.

    Raises:
        ValueError: A size cannot be read.
    """
    parsed = [parse_size(size) for size in sizes]
    return [Case(*size, mode, dtype) for mode, dtype, size in
            itertools.product(modes, dtypes, parsed)]


def run_case(case: Case, variants: Sequence[Variant], device: torch.device,
             rounds: int = 10, max_seconds: float = 60) -> List[Dict]:
    """Prepares every variant that has the case's mode, then samples them in
    interleaved rounds.

    Returns:
        A row per variant: ``samples``, ``median`` and ``quartiles`` in
        seconds, ``memory`` in bytes, ``multiply_adds`` and ``error``; or why
        there are none, in ``failure``.
    """
    # Compiled graphs count towards a limit, beyond which torch falls back to
    # eager execution without an error.
    _dynamo.reset()
    images = torch.randn(
        case.batch, 3, case.height, case.width,
        generator=torch.Generator().manual_seed(0)).to(device)
    rows, steps = [], {}
    truths: Dict[Variant, List[Tensor]] = {}
    for variant in variants:
        if not variant.runs(case.mode):
            continue
        print(f'{case.size} {case.mode} {case.dtype} {variant.name}',
              file=sys.stderr, flush=True)
        row = dict(asdict(case), size=case.size, variant=variant.name,
                   failure=None)
        rows.append(row)
        try:
            if variant.truth not in truths:
                truths[variant.truth] = compute_truth(variant, case, images)
            steps[variant.name] = prepare(
                variant, case, images, truths[variant.truth], row)
        except Exception as error:  # becomes a row, not a crash
            traceback.print_exc()
            row['failure'] = describe_error(error)
        gc.collect()
        if device.type == 'cuda':
            torch.cuda.empty_cache()
    samples = sample_rounds(steps, rounds, max_seconds)
    for row in rows:
        if not row['failure']:
            add_statistics(row, samples[row['variant']])
    return rows


def compute_truth(variant: Variant, case: Case, images: Tensor
                  ) -> List[Tensor]:
    """The eager fp32 maps that a variant should return."""
    network = build(variant.truth, case, images.device)
    return feature_maps(network, replace(case, dtype='fp32'), images)


def build(variant: Variant, case: Case, device: torch.device) -> nn.Module:
    network = variant.build().to(device)
    network.train(case.mode == 'train')  # not chained: mmdet returns None
    return network


def feature_maps(forward: Forward, case: Case, images: Tensor
                 ) -> List[Tensor]:
    # As the step does it, so that compiled networks are compiled once.
    with torch.set_grad_enabled(case.mode == 'train'), autocast(case, images):
        return [x.detach() for x in forward(images)]


def autocast(case: Case, images: Tensor) -> torch.autocast:
    return torch.autocast(images.device.type, torch.bfloat16,
                          enabled=case.dtype == 'bf16')


def prepare(variant: Variant, case: Case, images: Tensor,
            truth: Sequence[Tensor], row: Dict) -> Step:
    """Builds a variant, adds error, memory and work to its row, and returns
    its step."""
    network = build(variant, case, images.device)
    forward = variant.convert(network)
    row['error'] = worst_error(feature_maps(forward, case, images), truth)
    step = make_step(forward, network, case, images)
    step()  # creates the optimizer's states, which the memory excludes
    row['memory'] = peak_memory(step, images.device)
    row['multiply_adds'] = case.batch * (
        TRAIN_FACTOR if case.mode == 'train' else 1) * multiply_adds(
            variant.truth, case.height, case.width)
    return step


def make_step(forward: Forward, network: nn.Module, case: Case,
              images: Tensor) -> Step:
    """Inference, or forward, loss, backward and AdamW."""
    def infer() -> None:
        with torch.no_grad(), autocast(case, images):
            forward(images)

    if case.mode == 'forward':
        return infer
    optimizer = torch.optim.AdamW(network.parameters(), **OPTIMIZER)

    def train() -> None:
        with autocast(case, images):
            loss = sum(x.float().square().mean() for x in forward(images))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return train


@lru_cache(maxsize=None)
def multiply_adds(variant: Variant, height: int, width: int) -> int:
    """Of a forward pass on one image, attention included."""
    return count(variant.build(), (height, width)).flops_with_attention


def describe_error(error: Exception) -> str:
    """One line for a cell of a table."""
    lines = str(error).strip().splitlines() or ['']
    return f'{type(error).__name__}: {lines[0]}'[:160].replace('|', '/')


def add_statistics(row: Dict, samples: List[float]) -> None:
    low, median, high = quartiles(samples)
    row.update(samples=samples, median=median, quartiles=[low, high])


def compare(rows: Sequence[Dict], rates: Dict[str, float]) -> None:
    """Adds ``speedup`` over the ``baseline`` of the case and the fraction
    ``of_peak``, in place. The baseline is the plain reference, or the first
    variant where that was not measured.

    Args:
        rows: Of one case.
        rates: Of matrix products, by dtype.
    """
    rows = [row for row in rows if not row['failure']]
    for row in rows:
        baseline = next((x for x in rows if x['variant'] == REFERENCE),
                        rows[0])
        row['baseline'] = baseline['variant']
        row['speedup'] = baseline['median'] / row['median']
        row['of_peak'] = (row['multiply_adds'] / row['median'] /
                          rates[row['dtype']])


def markdown(report: Dict) -> str:
    """The report as a page.

    Args:
        report: ``command``, ``date``, ``machine`` (names and numbers),
            ``product_rates`` (multiply-adds per second by dtype) and ``rows``.
    """
    lines = [
        '# Backbones', '', f'`{report["command"]}`, {report["date"]}', '',
        *(f'- {key}: {value}' for key, value in report['machine'].items()),
        *(f'- matrix products, {name}: {rate / 1e9:.4g} G multiply-adds/s'
          for name, rate in report['product_rates'].items()), '', NOTES]
    tables: Dict[tuple, List[Dict]] = {}
    for row in report['rows']:
        tables.setdefault((row['mode'], row['dtype']), []).append(row)
    for (mode, dtype), rows in tables.items():
        lines += [f'## {mode}, {dtype}', '', line(TITLES),
                  line(['---', '---', *['---:'] * (len(TITLES) - 2)]),
                  *(line(to_cells(row)) for row in rows), '']
    return '\n'.join(lines)


def line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def to_cells(row: Dict) -> List[str]:
    if row['failure']:
        return [row['size'], row['variant'], f'failed: {row["failure"]}',
                *[''] * (len(TITLES) - 3)]
    low, high = row['quartiles']
    return [row['size'], row['variant'], ms(row['median']),
            f'{ms(low)} to {ms(high)}', f'{row["speedup"]:.2f}',
            f'{row["memory"] / 2 ** 20:.0f}', f'{row["of_peak"]:.2f}',
            f'{row["error"]:.1e}']


def ms(seconds: float) -> str:
    """Four digits, never an exponent."""
    value = 1e3 * seconds
    return f'{value:.0f}' if value >= 1e3 else f'{value:.4g}'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f'networks: {", ".join(NETWORKS)}\n'
        f'options: {", ".join(OPTIONS)}')
    parser.add_argument('--sizes', nargs='+', default=SIZES,
                        metavar='H[xW][@BATCH]',
                        help=f'default: {" ".join(SIZES)}')
    parser.add_argument('--modes', nargs='+', default=MODES, choices=MODES)
    parser.add_argument('--dtypes', nargs='+', default=list(DTYPES),
                        choices=list(DTYPES), help=DTYPE_HELP)
    parser.add_argument('--variants', nargs='+', default=DEFAULT,
                        metavar='NETWORK[+OPTION]...',
                        help=f'default: {" ".join(DEFAULT)}')
    parser.add_argument('--rounds', type=int, default=10,
                        help='samples of each variant; default: 10')
    parser.add_argument('--seconds', type=float, default=60,
                        help='start no further round of a case after this '
                        'time, but run 3 at least; default: 60')
    parser.add_argument('--device', type=torch.device, default='cpu',
                        help='cpu or cuda[:N]; default: cpu')
    parser.add_argument('--out', type=Path, help='folder for backbones.md '
                        'and backbones.json')
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f'--rounds {args.rounds}: give 1 or more')
    if args.device.type == 'cuda' and not torch.cuda.is_available():
        parser.error(f'--device {args.device}: torch finds no GPU')
    try:
        args.cases = make_cases(args.sizes, args.modes, args.dtypes)
        args.variants = [Variant.parse(name) for name in args.variants]
    except ValueError as error:
        parser.error(str(error))
    return args


def main() -> None:
    args = parse_args()
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler's chatter
    report = dict(
        command=shlex.join(['benchmarks/backbones.py', *sys.argv[1:]]),
        date=str(datetime.date.today()),
        machine=describe_machine(args.device),
        product_rates={dtype: product_rate(args.device, dtype)
                       for dtype in args.dtypes}, rows=[])
    for case in args.cases:
        rows = run_case(case, args.variants, args.device, args.rounds,
                        args.seconds)
        compare(rows, report['product_rates'])
        report['rows'] += rows
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / 'backbones.md').write_text(markdown(report))
            (args.out / 'backbones.json').write_text(
                json.dumps(report, indent=1))
    print(markdown(report))


if __name__ == '__main__':
    main()
