"""Where the time of an iteration goes, part by part."""
import statistics
import time
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Callable, Dict, Iterable, Iterator, List
from unittest.mock import patch

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

# In the order of an iteration; what is measured in none of them is `other`.
PARTS = ('data', 'preprocessing', 'backbone', 'neck', 'heads',
         'post-processing', 'optimizer', 'other')
# Methods of whole models and of their heads, by the part they belong to.
POST_PROCESSING = ('predict_by_feat', 'postprocess_result',
                   'add_pred_to_datasample')
HEADS = ('rpn_head', 'roi_head', 'bbox_head', 'mask_head', 'decode_head',
         'auxiliary_head')
HEAD_METHODS = ('forward', 'loss', 'predict', 'loss_and_predict')

Times = Dict[str, float]


class Stopwatch:
    """Exclusive times: a part that begins inside another pauses that one.

    Args:
        synchronise: Waits for the device; called at every change of part.
        clock: In seconds.
    """

    def __init__(self, synchronise: Callable[[], None] = lambda: None,
                 clock: Callable[[], float] = time.perf_counter) -> None:
        self.synchronise, self.clock = synchronise, clock
        self.stack, self.seconds = ['other'], dict.fromkeys(PARTS, 0.)
        self.since = clock()

    def switch(self, part: str) -> None:
        """From now on it is this part, at the present depth."""
        self.synchronise()
        now = self.clock()
        self.seconds[self.stack[-1]] += now - self.since
        self.since, self.stack[-1] = now, part

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside belongs to this part."""
        outer = self.stack[-1]
        self.switch(outer)
        self.stack.append(name)
        try:
            yield
        finally:
            self.switch(name)
            self.stack.pop()

    def take(self) -> Times:
        """The seconds by part since the last call; they add up to all."""
        self.switch(self.stack[-1])
        taken, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.)
        return taken

    def around(self, function: Callable, part: str) -> Callable:
        """The function, timed as this part."""
        @wraps(function)
        def timed(*args, **kwargs):
            with self.part(part):
                return function(*args, **kwargs)
        return timed


@contextmanager
def watched(model: nn.Module, stopwatch: Stopwatch) -> Iterator[None]:
    """Times the parts of a detector or segmentor while this lasts."""
    with ExitStack() as stack:
        def watch(owner, method: str, part: str, after=lambda out: out):
            function = stopwatch.around(getattr(owner, method), part)
            stack.enter_context(patch.object(
                owner, method, lambda *args, **kwargs: after(
                    function(*args, **kwargs))))

        def backward_is(part: str) -> Callable:
            # A hook of a map runs when all gradients of what used it are
            # known, just before those of what made it are computed.
            def mark(outs):
                for x in tree_leaves(outs):
                    if isinstance(x, Tensor) and x.requires_grad:
                        x.register_hook(lambda _: stopwatch.switch(part))
                return outs
            return mark

        watch(model.data_preprocessor, 'forward', 'preprocessing')
        for part in ('backbone', 'neck'):
            if getattr(model, part, None) is not None:
                watch(getattr(model, part), 'forward', part,
                      backward_is(part))
        for module in model.modules():
            for name in POST_PROCESSING:
                if hasattr(module, name):
                    watch(module, name, 'post-processing')
        for name in HEADS:
            head = getattr(model, name, None)
            for method in HEAD_METHODS if head is not None else ():
                if hasattr(head, method):
                    watch(head, method, 'heads')
        yield


def train_times(model: nn.Module, batches: Iterable,
                optim_wrapper: OptimWrapper, stopwatch: Stopwatch
                ) -> List[Times]:
    """Times of training steps, backward counted to the part whose it is.

    Args:
        model: In training mode, on its device.
        batches: As a data loader gives them; getting one is ``data``.
        optim_wrapper: Of mmengine; its ``backward`` is called once a step.
        stopwatch: Starts anew.
    """
    backward = stopwatch.around(optim_wrapper.backward, 'heads')
    update = stopwatch.around(optim_wrapper.update_params, 'optimizer')
    with patch.object(optim_wrapper, 'backward', backward), \
            patch.object(optim_wrapper, 'update_params', update):
        return _times(model, batches, stopwatch, lambda data:
                      model.train_step(data, optim_wrapper))


@torch.no_grad()
def test_times(model: nn.Module, batches: Iterable, stopwatch: Stopwatch
               ) -> List[Times]:
    """Times of inference on batches, results in full size."""
    return _times(model, batches, stopwatch, model.test_step)


def _times(model: nn.Module, batches: Iterable, stopwatch: Stopwatch,
           step: Callable) -> List[Times]:
    times, batches = [], iter(batches)
    with watched(model, stopwatch):
        stopwatch.take()
        while True:
            with stopwatch.part('data'):
                data = next(batches, None)
            if data is None:
                return times
            step(data)
            times.append(stopwatch.take())


def median_times(times: List[Times]) -> Times:
    """The median of each part."""
    return {part: statistics.median(x[part] for x in times) for part in PARTS}


def parts_table(columns: Dict[str, Times]) -> str:
    """Milliseconds and shares, a column for each kind of iteration.

    Args:
        columns: Seconds by part, by the column's title.
    """
    lines = ['| part | ' + ' | '.join(
        f'{title}, ms | share' for title in columns) + ' |',
        '|---|' + '---:|---:|' * len(columns)]
    for part in PARTS:
        cells = [part]
        for times in columns.values():
            cells += [f'{1e3 * times[part]:.1f}',
                      f'{times[part] / sum(times.values()):.1%}']
        lines.append('| ' + ' | '.join(cells) + ' |')
    totals = [f'{1e3 * sum(times.values()):.1f} | 100.0%'
              for times in columns.values()]
    return '\n'.join([*lines, '| all | ' + ' | '.join(totals) + ' |']) + '\n'
