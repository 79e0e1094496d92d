"""The machine: what it is, and what it can do at most."""
import os
import platform
import re
import resource
import time
from pathlib import Path
from typing import Callable, Dict, Optional, Sequence

import torch

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


def describe(device: torch.device) -> Dict[str, object]:
    """Names and numbers for the head of a report."""
    found = dict(
        cpu=_cpu_name(), cores=len(os.sched_getaffinity(0)),
        threads=torch.get_num_threads(), load=round(os.getloadavg()[0], 2),
        torch=torch.__version__, python=platform.python_version(),
        device='cpu')
    if device.type == 'cuda':
        found.update(
            device=torch.cuda.get_device_name(device),
            cuda=torch.version.cuda,
            fp32=f'matrix products {torch.get_float32_matmul_precision()}, '
                 'convolutions '
                 f'{"TF32" if torch.backends.cudnn.allow_tf32 else "exact"}')
    return found


def _cpu_name() -> str:
    info = Path('/proc/cpuinfo')
    match = info.is_file() and re.search(
        r'model name\s*: (.+)', info.read_text())
    return match[1] if match else platform.processor() or 'unknown'


def synchroniser(device: torch.device) -> Callable[[], None]:
    """What waits for the device."""
    if device.type == 'cuda':
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def best_time(step: Callable[[], object], device: torch.device,
              repeats: int = 3) -> float:
    """Seconds of the fastest of some runs, after one that does not count: a
    ceiling is what the machine reaches when nothing disturbs it."""
    synchronise, times = synchroniser(device), []
    for _ in range(repeats + 1):
        synchronise()
        start = time.perf_counter()
        step()
        synchronise()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def ceilings(device: torch.device, dtypes: Sequence[str] = tuple(DTYPES),
             sides: Optional[Sequence[int]] = None,
             copied: Optional[int] = None) -> Dict[str, float]:
    """Measures what no network can pass.

    Args:
        device: CPU or GPU.
        dtypes: Keys of :data:`DTYPES`.
        sides: Of the square matrices to multiply; the best rate counts.
        copied: Bytes of the tensor to copy; far more than the caches hold.

    Returns:
        For each dtype the rate of matrix products in multiply-adds per
        second (one multiplication with its addition counts 1, as
        :func:`mmiformer.analysis.count` has it; a data sheet counts 2), and
        ``copy``: bytes read and written per second.
    """
    gpu = device.type == 'cuda'
    sides = sides or ((4096, 8192) if gpu else (1024, 2048, 3072))
    found = {}
    for name in dtypes:
        rates = []
        for side in sides:
            a, b = (torch.randn(side, side, device=device).to(DTYPES[name])
                    for _ in range(2))
            out = torch.empty_like(a)
            seconds = best_time(lambda: torch.mm(a, b, out=out), device)  # noqa: B023
            rates.append(side ** 3 / seconds)
        found[name] = max(rates)
    source = torch.zeros((copied or (2 ** 30 if gpu else 2 ** 28)),
                         dtype=torch.uint8, device=device)
    target = torch.ones_like(source)
    found['copy'] = 2 * source.numel() / best_time(
        lambda: target.copy_(source), device)
    return found


def limit_memory(spare: Optional[int] = None) -> None:
    """Makes an allocation that the machine cannot serve fail.

    By default Linux grants it, and ends the process once it is used; so
    refused, a variant that is too large costs its own row only.

    Args:
        spare: Bytes that this process may still take; by default nine tenths
            of what is available to it.
    """
    held = _kibibytes('/proc/self/status', 'VmData')
    free = _kibibytes('/proc/meminfo', 'MemAvailable')
    if held is None or free is None:
        return  # not Linux
    limit = Path('/sys/fs/cgroup/memory.max')
    if limit.is_file() and limit.read_text().strip().isdigit():
        used = Path('/sys/fs/cgroup/memory.current')
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    spare = int(0.9 * free) if spare is None else spare
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (held + spare, hard))


def _kibibytes(file: str, key: str) -> Optional[int]:
    """A line of a file of the kernel, in bytes."""
    path = Path(file)
    match = path.is_file() and re.search(
        rf'^{key}:\s*(\d+) kB', path.read_text(), re.MULTILINE)
    return int(match[1]) * 1024 if match else None
