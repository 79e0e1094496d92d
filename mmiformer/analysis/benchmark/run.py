"""Every variant in every case: the loop of the benchmark."""
import itertools
import re
from dataclasses import dataclass
from typing import Callable, Dict, List, Optional, Sequence

import torch
from torch import Tensor, nn

from ..complexity import count
from .machine import DTYPES, synchroniser
from .measure import (
    WARM_UPS,
    Timing,
    Traffic,
    describe_error,
    measure,
    peak_memory,
    release,
    worst_error,
)
from .models import MODES, REFERENCE, Network, Unavailable, Variant
from .tasks import BackboneTask

SHAPES = ('224', '224@8', '512', '1024', '800x1280')
# Multiply-adds of a training step by those of its forward pass: backward has
# two products, for the input and for the weights, where forward has one.
TRAIN_FACTOR = 3
OPTIMISER = dict(lr=1e-4, weight_decay=0.05)  # as in the detection recipe

Row = Dict[str, object]
Advance = Callable[[str, int], None]


@dataclass(frozen=True)
class Case:
    """What all variants are put through."""
    height: int
    width: int
    batch: int
    mode: str
    dtype: str

    @property
    def shape(self) -> str:
        """As :func:`parse_shape` reads it."""
        side = (str(self.height) if self.height == self.width else
                f'{self.height}x{self.width}')
        return side if self.batch == 1 else f'{side}@{self.batch}'


def make_cases(shapes: Sequence[str], modes: Sequence[str],
               dtypes: Sequence[str]) -> List[Case]:
    """All combinations.

    Args:
        shapes: Each ``H[xW][@BATCH]``: ``224``, ``224@8``, ``800x1280``.
        modes: Of ``forward`` and ``train``.
        dtypes: Of ``fp32`` and ``bf16``.

    Raises:
        ValueError: One of them is unknown.
    """
    for what, given, known in (('mode', modes, MODES),
                               ('dtype', dtypes, tuple(DTYPES))):
        for value in given:
            if value not in known:
                raise ValueError(f'unknown {what} {value!r}: choose from '
                                 f'{list(known)}')
    sizes = []
    for shape in shapes:
        match = re.fullmatch(r'(\d+)(?:x(\d+))?(?:@(\d+))?', shape)
        size = match and (int(match[1]), int(match[2] or match[1]),
                          int(match[3] or 1))
        if not size or not all(size):
            raise ValueError(f'unknown shape {shape!r}: give H[xW][@BATCH] '
                             'in pixels, as in 224, 224@8 or 800x1280')
        sizes.append(size)
    return [Case(*size, mode, dtype) for mode, dtype, size in
            itertools.product(modes, dtypes, sizes)]


class Benchmark:
    """Times variants side by side.

    Args:
        known: Networks by name.
        variants: Variants of them.
        task: What a step is.
        device: CPU or GPU.
        repeats, seconds: See :func:`~.measure.measure`; per case.
        advance: Told what runs, and how many of :meth:`total` steps are done.
    """

    def __init__(self, known: Dict[str, Network],
                 variants: Sequence[Variant], task: BackboneTask,
                 device: torch.device, repeats: int = 10,
                 seconds: float = 60,
                 advance: Advance = lambda text, steps: None) -> None:
        self.known, self.variants = known, list(variants)
        self.task, self.device = task, device
        self.repeats, self.seconds = repeats, seconds
        self.advance = advance
        self.counts: Dict[tuple, int] = {}

    def total(self, cases: Sequence[Case]) -> int:
        """Steps of the progress: one to prepare a variant, the rest runs."""
        return (1 + WARM_UPS + self.repeats) * sum(
            variant.runs(case.mode) for case in cases
            for variant in self.variants)

    def run(self, cases: Sequence[Case]) -> List[Row]:
        """A row for each case and variant that runs in it, in that order."""
        return [row for case in cases for row in self.run_case(case)]

    def run_case(self, case: Case) -> List[Row]:
        """One case: every variant is prepared, then all are timed in turns."""
        # What was compiled for other cases counts towards a limit, past which
        # torch silently stops compiling.
        torch._dynamo.reset()
        variants = [v for v in self.variants if v.runs(case.mode)]
        images = torch.randn(
            case.batch, 3, case.height, case.width,
            generator=torch.Generator().manual_seed(0)).to(self.device)
        rows, steps, truths = [], {}, {}
        for variant in variants:
            name = f'{case.shape} {case.mode} {case.dtype} {variant.name}'
            self.advance(name, 0)
            row = dict(variant=variant.name, network=variant.network,
                       shape=case.shape, **vars(case), error=None)
            try:
                base = self.known[variant.network].base or variant.network
                if base not in truths:
                    truths[base] = self.truth(base, case, images)
                steps[variant.name] = self.prepare(
                    variant, case, images, truths[base], row)
                row['multiply_adds'] = self.multiply_adds(base, case)
            except Exception as error:  # a row that says so, not a crash
                steps.pop(variant.name, None)
                row['error'] = describe_error(error)
                self.advance(name, WARM_UPS + self.repeats)
            release()
            self.advance(name, 1)
            rows.append(row)
        timings = measure(
            steps, self.repeats, self.seconds,
            synchronise=synchroniser(self.device),
            advance=lambda name, done: self.advance(
                f'{case.shape} {case.mode} {case.dtype} {name}', done))
        for row in rows:
            if row['variant'] in timings:
                record(row, timings[row['variant']])
        steps.clear()
        release()
        return rows

    def build(self, variant: Variant, case: Case) -> nn.Module:
        """The model of a variant, on the device and in its mode."""
        network = self.known[variant.network]
        model = self.task.build(network.with_cp() if variant.cp else network)
        model.to(self.device)
        model.train(case.mode == 'train')  # not chained: mmdet returns None
        backbone = self.task.backbone(model)
        if variant.deploy:
            if not hasattr(backbone, 'switch_to_deploy'):
                raise Unavailable('the network has no switch_to_deploy()')
            backbone.switch_to_deploy()
        if variant.compiled:
            backbone.compile(dynamic=False)
        return model

    def prepare(self, variant: Variant, case: Case, images: Tensor,
                truth: Optional[Sequence[Tensor]], row: Row):
        """Builds a variant, notes error, traffic and memory in its row, and
        returns its step."""
        model = self.build(variant, case)
        forward = case.mode == 'forward'
        if variant.compiled or not forward:
            outs = self.maps(model, case, images)
        else:
            with Traffic() as traffic:
                outs = self.maps(model, case, images)
            row['traffic'] = traffic.total
        if truth is not None:
            row['accuracy'] = worst_error(outs, truth)
        step = self.step(model, case, images)
        if not forward:
            step()  # makes the optimiser's states, which are not the step's
        row['memory'] = peak_memory(step, self.device)
        return step

    def truth(self, base: str, case: Case, images: Tensor
              ) -> Optional[Sequence[Tensor]]:
        """The eager fp32 maps of a network in the mode of the case; None
        where they do not fit into memory."""
        case = Case(**{**vars(case), 'dtype': 'fp32'})
        try:
            return self.maps(self.build(Variant(base, base), case), case,
                             images)
        except (RuntimeError, MemoryError) as error:
            if describe_error(error) == 'out of memory':
                return None
            raise

    def maps(self, model: nn.Module, case: Case, images: Tensor
             ) -> List[Tensor]:
        with torch.set_grad_enabled(case.mode == 'train'), \
                self.autocast(case):
            return [x.detach() for x in self.task.maps(model, images)]

    def autocast(self, case: Case):
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=case.dtype == 'bf16')

    def step(self, model: nn.Module, case: Case, images: Tensor
             ) -> Callable[[], None]:
        """Inference, or forward, loss, backward and AdamW."""
        def forward() -> None:
            with torch.no_grad(), self.autocast(case):
                self.task.forward(model, images)

        if case.mode == 'forward':
            return forward
        optimiser = torch.optim.AdamW(model.parameters(), **OPTIMISER)

        def train() -> None:
            with self.autocast(case):
                loss = self.task.loss(model, images)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        return train

    def multiply_adds(self, base: str, case: Case) -> int:
        """Of one step, the products inside attention counted."""
        key = base, case.height, case.width
        if key not in self.counts:
            model = self.task.build(self.known[base]).to(self.device)
            self.counts[key] = count(
                model, (case.height, case.width)).flops_with_attention
        factor = TRAIN_FACTOR if case.mode == 'train' else 1
        return self.counts[key] * case.batch * factor


def record(row: Row, timing: Timing) -> None:
    """Puts samples, and what follows from them, into a row."""
    row['error'] = timing.error
    if timing.error is None:
        row.update(samples=timing.samples, median=timing.median,
                   quartiles=timing.quartiles,
                   images_per_second=row['batch'] / timing.median)


def compare(rows: Sequence[Row], ceilings: Dict[str, float]) -> None:
    """Adds to every row that has a time, in place: ``ratio``, how many times
    as fast as the ``baseline`` of its case (the reference, or where that has
    no time the first that has one), ``fraction`` of the rate of matrix
    products, and ``copy_fraction`` of the copy bandwidth, where the traffic
    is known."""
    groups: Dict[tuple, List[Row]] = {}
    for row in rows:
        if row['error'] is None:
            key = tuple(row[k] for k in ('shape', 'mode', 'dtype'))
            groups.setdefault(key, []).append(row)
    for group in groups.values():
        baseline = next((row for row in group
                         if row['variant'] == REFERENCE), group[0])
        for row in group:
            row['baseline'] = baseline['variant']
            row['ratio'] = baseline['median'] / row['median']
            row['fraction'] = (row['multiply_adds'] / row['median'] /
                               ceilings[row['dtype']])
            if 'traffic' in row:
                row['copy_fraction'] = (row['traffic'] / row['median'] /
                                        ceilings['copy'])
