"""Time, memory and numerical error of a step; what the machine can do."""
import json
import os
import platform
import re
import statistics
import tempfile
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Timer
from torch.utils.benchmark import timer as synchronized_clock

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}
DTYPE_HELP = ('bf16 is autocast; on a CPU without instructions for it about '
              'eight times slower than fp32')

Step = Callable[[], object]


def parse_size(text: str) -> Tuple[int, int, int]:
    """Height, width and batch of ``H[xW][@BATCH]``: ``224``, ``800x1280@8``.

    Raises:
        ValueError: It cannot be read.
    """
    match = re.fullmatch(r'([1-9]\d*)(?:x([1-9]\d*))?(?:@([1-9]\d*))?', text)
    if not match:
        raise ValueError(f'size {text!r}: give H[xW][@BATCH] in pixels, as in '
                         '224, 224@8 or 800x1280')
    height, width, batch = match.groups()
    return int(height), int(width or height), int(batch or 1)


def sample_rounds(steps: Dict[str, Step], rounds: int,
                  max_seconds: float = float('inf'), min_rounds: int = 3,
                  clock: Callable[[], float] = synchronized_clock
                  ) -> Dict[str, List[float]]:
    """Times steps in interleaved rounds, A B C A B C: whatever else changes
    on the machine meanwhile affects all of them alike.

    Args:
        steps: What to time, by name; each is run once before, untimed.
        rounds: Samples of each.
        max_seconds: Start no further round after this time ...
        min_rounds: ... but run at least this many.
        clock: In seconds; torch's waits for the GPU first.

    Returns:
        Wall-clock seconds by name.
    """
    for step in steps.values():
        step()
    samples: Dict[str, List[float]] = {name: [] for name in steps}
    begin = clock()
    for done in range(rounds):
        if done >= min_rounds and clock() - begin > max_seconds:
            break
        for name, step in steps.items():
            start = clock()
            step()
            samples[name].append(clock() - start)
    return samples


def quartiles(samples: Sequence[float]) -> List[float]:
    """The first quartile, the median and the third; of one sample, itself."""
    return statistics.quantiles(
        [*samples] * 2 if len(samples) == 1 else samples, n=4,
        method='inclusive')


def peak_memory(step: Step, device: torch.device) -> int:
    """The maximum number of bytes that a step allocates above what was
    allocated before: activations, gradients and workspaces, neither weights
    nor optimizer states.

    Counted in PyTorch's own allocator, on a CPU from the profiler's trace.
    Scratch memory that libraries allocate themselves is not in it.
    """
    if device.type == 'cuda':
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU],
                 profile_memory=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, 'trace.json')
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())['traceEvents']
    allocated = peak = 0
    for event in sorted((event for event in events
                         if event.get('name') == '[memory]'),
                        key=lambda event: event['args']['Ev Idx']):
        allocated += event['args']['Bytes']  # negative where freed
        peak = max(peak, allocated)
    return peak


def worst_error(outs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any value, relative to the standard deviation
    of its map, over all maps.

    Raises:
        ValueError: The maps differ in number or shape.
    """
    shapes = [[tuple(x.shape) for x in maps] for maps in (outs, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError(f'maps of {shapes[0]} instead of {shapes[1]}')
    # torch's maximum, unlike Python's, passes a NaN on.
    return float(torch.stack([
        (out.double() - other.double()).abs().max() /
        other.double().std(unbiased=False)
        for out, other in zip(outs, expected)]).max())


def product_rate(device: torch.device, dtype: str,
                 sides: Optional[Sequence[int]] = None) -> float:
    """The machine's rate of matrix products, which bounds any network.

    Args:
        device: CPU or GPU.
        dtype: Key of :data:`DTYPES`.
        sides: Of the square matrices; the fastest product counts.

    Returns:
        Multiply-adds per second. One multiplication with its addition counts
        1, as in :func:`mmiformer.paper.count`; a data sheet counts 2.
    """
    if sides is None:
        sides = (1024, 2048, 3072) if device.type == 'cpu' else (4096, 8192)
    rates = []
    for side in sides:
        a = torch.randn(side, side, device=device).to(DTYPES[dtype])
        timer = Timer('torch.mm(a, a, out=out)',
                      globals=dict(a=a, out=torch.empty_like(a)),
                      num_threads=torch.get_num_threads())
        times = timer.blocked_autorange(min_run_time=0.5).times
        rates.append(side ** 3 / min(times))
    return max(rates)


def describe_machine(device: torch.device) -> Dict[str, object]:
    """Names and numbers for the head of a report."""
    cpuinfo = Path('/proc/cpuinfo')
    match = cpuinfo.is_file() and re.search(r'model name\s*: (.+)',
                                            cpuinfo.read_text())
    machine = dict(
        cpu=match[1] if match else platform.processor(),
        instructions=torch.backends.cpu.get_cpu_capability()
        if hasattr(torch.backends, 'cpu') else 'unknown',
        cores=os.cpu_count(), threads=torch.get_num_threads(),
        torch=torch.__version__, device='cpu')
    if device.type == 'cuda':
        machine.update(
            device=torch.cuda.get_device_name(device),
            cuda=torch.version.cuda,
            fp32='matrix products '
            f'{torch.get_float32_matmul_precision()}, convolutions '
            f'{"TF32" if torch.backends.cudnn.allow_tf32 else "exact"}')
    return machine
