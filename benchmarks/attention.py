"""Times torch's attention kernels on the maps that iFormer-S attends to.

    benchmarks/attention.py --device cuda
    benchmarks/attention.py --sizes 224@8 --dtypes fp32 --threads 2

One kernel after the other in interleaved rounds, forward, and forward with
backward, in ms. `torch's own` is what scaled_dot_product_attention takes if
nobody chooses for it, and its name. A kernel that does not run with this
dtype on this device is left out.
"""
import argparse
import statistics
from typing import Dict, List, Tuple

import torch
import torch.nn.functional as F
from measure import (
    DTYPE_HELP,
    DTYPES,
    Step,
    describe_machine,
    parse_size,
    sample_rounds,
)
from tables import line
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import profile

from mmiformer.backbone.arch import resolve_arch

KERNELS = [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION,
           SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
DEFAULT = "torch's own"


def shapes(size: str) -> List[Tuple[int, int, int, int]]:
    """``(images, heads, positions, channels of a head)`` of the last block of
    each stage of iFormer-S."""
    height, width, batch = parse_size(size)
    arch = resolve_arch('small')
    found = []
    for i, stride in enumerate(arch['pool_strides']):
        step = 4 * 2 ** i * stride
        found.append((batch, arch['attention_heads'][i][-1],
                      -(-height // step) * -(-width // step),
                      arch['embed_dims'][i] // arch['num_heads'][i]))
    return found


def make_steps(qkv: torch.Tensor) -> Dict[str, Step]:
    """What to time, by the name of the kernel; only what runs.

    Args:
        qkv: ``(3, images, heads, positions, channels)``; with gradients each
            step has a backward pass.
    """
    def step(*kernels: SDPBackend) -> Step:
        def run() -> None:
            with sdpa_kernel([*kernels] or KERNELS):
                out = F.scaled_dot_product_attention(*qkv)
            if out.requires_grad:
                out.backward(out.detach())
                qkv.grad = None
        return run

    steps = {DEFAULT: step()}
    for kernel in KERNELS:
        try:
            step(kernel)()
        except RuntimeError:  # there is none for this device or dtype
            continue
        steps[kernel.name.lower().replace('_attention', '')] = step(kernel)
    return steps


def name_of(step: Step) -> str:
    """The operator that torch has taken."""
    with profile() as profiler:
        step()
    names = {event.name for event in profiler.events()}
    return ', '.join(sorted(
        name.replace('aten::_scaled_dot_product_', '') for name in names
        if name.startswith('aten::_scaled_dot_product_')
        and 'backward' not in name))


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', metavar='H[xW][@BATCH]',
                        default=['224@64', '512@8', '800x1280', '800x1280@8'])
    parser.add_argument('--dtypes', nargs='+', default=list(DTYPES),
                        choices=list(DTYPES), help=DTYPE_HELP)
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--threads', type=int,
                        default=torch.get_num_threads())
    parser.add_argument('--device', type=torch.device, default='cpu')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    print('\n'.join(f'- {key}: {value}' for key, value in
                    describe_machine(args.device).items()))
    print('\n' + line(('size', 'stage', 'heads, positions', 'dtype', 'step',
                       'kernel', 'ms')))
    print(line(['---'] * 6 + ['---:']))
    for size in args.sizes:
        for stage, shape in enumerate(shapes(size), 1):
            for dtype in args.dtypes:
                for train in (False, True):
                    qkv = torch.randn(3, *shape, device=args.device,
                                      dtype=DTYPES[dtype], requires_grad=train)
                    steps = make_steps(qkv)
                    own = f'{DEFAULT}: {name_of(steps[DEFAULT])}'
                    samples = sample_rounds(steps, args.rounds)
                    for name, seconds in samples.items():
                        print(line((
                            size, str(stage), f'{shape[1]}, {shape[2]}', dtype,
                            'train' if train else 'forward',
                            own if name == DEFAULT else name,
                            f'{1e3 * statistics.median(seconds):.3g}')))


if __name__ == '__main__':
    main()
