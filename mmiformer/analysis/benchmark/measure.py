"""Time, memory, traffic and error of one step of a network."""
import gc
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = Callable[[], Any]
WARM_UPS = 1  # beside the runs for error and memory, which come before


@dataclass
class Timing:
    """The samples of one variant, in seconds, or why there are none."""
    samples: List[float] = field(default_factory=list)
    error: Optional[str] = None

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def quartiles(self) -> List[float]:
        """The first and the third: half of the samples lie between."""
        if len(self.samples) < 2:
            return self.samples * 2
        first, _, third = statistics.quantiles(
            self.samples, n=4, method='inclusive')
        return [first, third]


def measure(steps: Dict[str, Step], repeats: int,
            seconds: float = float('inf'), least: int = 3,
            synchronise: Callable[[], None] = lambda: None,
            clock: Callable[[], float] = time.perf_counter,
            advance: Callable[[str, int], None] = lambda name, steps: None
            ) -> Dict[str, Timing]:
    """Times steps in turns: A B C A B C, so that whatever else changes on the
    machine meanwhile meets all of them alike.

    Args:
        steps: What to time, by name. One that raises is timed no further.
        repeats: Samples of each.
        seconds: No further round begins after that time ...
        least: ... unless there are fewer rounds than this.
        synchronise: Waits for the device; called around every sample.
        clock: In seconds.
        advance: Told the name after every run, and how many runs it stands
            for, ``WARM_UPS + repeats`` for each name in total.

    Returns:
        The samples by name; wall-clock time, launches included.
    """
    timings = {name: Timing() for name in steps}

    def run(name: str) -> Optional[float]:
        timing = timings[name]
        if timing.error is None:
            try:
                synchronise()
                start = clock()
                steps[name]()
                synchronise()
                return clock() - start
            except Exception as error:  # a row that says so, not a crash
                timings[name] = Timing(error=describe_error(error))
                release()
        return None

    for name in list(steps) * WARM_UPS:
        run(name)
        advance(name, 1)
    begin = clock()
    for done in range(repeats):
        if done >= least and clock() - begin > seconds:
            for name in steps:
                advance(name, repeats - done)
            break
        for name in steps:
            sample = run(name)
            if sample is not None:
                timings[name].samples.append(sample)
            advance(name, 1)
    return timings


def describe_error(error: BaseException) -> str:
    """One line for a table's cell."""
    text = str(error)
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
            hint in text for hint in ("can't allocate memory",
                                      'not enough memory')):
        return 'out of memory'
    line = (text.strip().splitlines() or [''])[0]
    return f'{type(error).__name__}: {line}'[:160].replace('|', '/')


def release() -> None:
    """Gives memory of what is no longer used back to the machine."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def peak_memory(step: Step, device: torch.device) -> int:
    """The most bytes that a step holds at a time, above what was held before:
    activations, gradients and workspaces, neither weights nor the states of
    the optimiser.

    It is what PyTorch's own allocator hands out, on a GPU and on a CPU alike
    (there from the profiler's record of every allocation). Scratch memory
    that libraries take past the allocator is not in it.
    """
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU],
                 profile_memory=True) as record:
        step()
    held = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()  # negative where memory is given back
            peak = max(peak, held)
    return peak


class Traffic(TorchDispatchMode):
    """Adds up the bytes that the operators read and write, in ``total``: what
    an eager run moves if nothing stays in a cache between two operators."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        read = [x for x in tree_leaves((args, kwargs))
                if isinstance(x, Tensor)]
        wrote = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        storages = {x.untyped_storage().data_ptr() for x in read}
        view = not func._schema.is_mutable and any(
            x.untyped_storage().data_ptr() in storages for x in wrote)
        if not view and not func._schema.name.startswith('aten::empty'):
            self.total += sum(
                min(x.numel() * x.element_size(),
                    x.untyped_storage().nbytes())  # less where broadcast
                for x in (*read, *wrote))
        return out


def worst_error(outs: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of any value, as a part of the deviation of its
    map, over all maps.

    Raises:
        ValueError: The maps are not of the same number and shape.
    """
    shapes = [[tuple(x.shape) for x in maps] for maps in (outs, expected)]
    if shapes[0] != shapes[1]:
        raise ValueError(f'maps of {shapes[0]} instead of {shapes[1]}')
    # torch's maximum, unlike Python's, passes a NaN on.
    return float(torch.stack([
        (out.double() - other.double()).abs().max() /
        other.double().std(unbiased=False)
        for out, other in zip(outs, expected)]).max())
