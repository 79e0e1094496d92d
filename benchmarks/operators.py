"""Where the time of inference goes, by operator of torch.

    benchmarks/operators.py --size 224 --variant iFormer-S+deploy
    benchmarks/operators.py --size 224@8 --dtype bf16

**ms** is the operator's own time in one forward pass, without the operators
that it calls; `and the rest` adds up those below --least of the whole.
"""
import argparse
import os
from typing import Dict, List, Tuple

import torch
from measure import DTYPE_HELP, DTYPES, describe_machine, parse_size
from tables import line
from torch.profiler import profile
from variants import Variant


def own_times(variant: Variant, size: Tuple[int, int, int],
              dtype: str, passes: int = 10) -> Dict[str, Tuple[float, float]]:
    """Milliseconds and calls of each operator in a forward pass.

    Args:
        variant: The network and its options.
        size: Height, width and batch.
        dtype: Key of :data:`DTYPES`; bf16 by autocast.
        passes: To average over.
    """
    height, width, batch = size
    forward = variant.convert(variant.build().eval())
    images = torch.randn(batch, 3, height, width,
                         generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16,
                                         enabled=dtype == 'bf16'):
        for _ in range(3):
            forward(images)
        with profile() as profiler:
            for _ in range(passes):
                forward(images)
    return {event.key: (event.self_cpu_time_total / 1e3 / passes,
                        event.count / passes)
            for event in profiler.key_averages()}


def markdown(times: Dict[str, Tuple[float, float]], least: float) -> str:
    """The table, the slowest operator first."""
    total = sum(ms for ms, _ in times.values())
    lines: List[str] = [line(('operator', 'calls', 'ms', 'share')),
                        line(('---', '---:', '---:', '---:'))]
    rest_ms = rest_calls = 0.
    for name, (ms, calls) in sorted(times.items(), key=lambda x: -x[1][0]):
        if ms < least * total:
            rest_ms, rest_calls = rest_ms + ms, rest_calls + calls
            continue
        lines.append(_row(f'`{name}`', calls, ms, total))
    lines += [_row('and the rest', rest_calls, rest_ms, total),
              _row('all', sum(calls for _, calls in times.values()), total,
                   total)]
    return '\n'.join(lines)


def _row(name: str, calls: float, ms: float, total: float) -> str:
    return line((name, f'{calls:.0f}', f'{ms:.1f}',
                 f'{100 * ms / total:.0f} %'))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--size', type=parse_size, default='224',
                        metavar='H[xW][@BATCH]')
    parser.add_argument('--variant', type=Variant.parse,
                        default='iFormer-S+deploy',
                        metavar='NETWORK[+OPTION]...')
    parser.add_argument('--dtype', default='fp32', choices=list(DTYPES),
                        help=DTYPE_HELP)
    parser.add_argument('--least', type=float, default=0.01,
                        help='share of an operator that has a row of its own; '
                        'default: 0.01')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # the profiler's chatter
    for key, value in describe_machine(torch.device('cpu')).items():
        print(f'- {key}: {value}')
    print()
    print(markdown(own_times(args.variant, args.size, args.dtype), args.least))


if __name__ == '__main__':
    main()
