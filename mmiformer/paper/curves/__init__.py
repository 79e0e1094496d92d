"""The authors' learning curves on ImageNet-1K, and a training beside them.

``imagenet_224.csv`` and ``imagenet_384.csv`` have the top-1 and top-5 accuracy
and the training loss of S, B and L after every epoch. Source: the
``summary.csv`` of timm that the authors published with each released model.
Its epochs count from 0; here they count from 1, as mmengine's do.
"""
import csv
from pathlib import Path
from statistics import mean
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

METRIC = 'accuracy/top1'
# After how many epochs a curve is worth a look.
MILESTONES = (5, 10, 50, 100, 200, 300)


class Epoch(NamedTuple):
    """What an epoch has reached: top-1 in percent, and the mean training loss
    (None where none was logged)."""
    top1: float
    loss: Optional[float]


class Comparison(NamedTuple):
    """An epoch of a training beside the authors'.

    Attributes:
        epoch: From 1.
        top1: Of the training, in percent.
        authors_top1: Theirs.
        slowest_top1: Their lowest from an epoch before to an epoch after.
        loss: Of the training, None where none was logged.
        authors_loss: Theirs.
    """
    epoch: int
    top1: float
    authors_top1: float
    slowest_top1: float
    loss: Optional[float]
    authors_loss: float

    def on_curve(self, tolerance: float) -> bool:
        """Whether the training is at most an epoch behind, less a tolerance in
        points: early an epoch is worth several points, late nothing."""
        return round(self.top1 - self.slowest_top1 + tolerance, 6) >= 0

    def describe(self, epochs: int, tolerance: float) -> str:
        """A line on how far the training is above or below."""
        above = self.top1 - self.authors_top1
        loss = '' if self.loss is None else (
            f'; loss {self.loss:.2f} beside {self.authors_loss:.2f}')
        return (
            f'epoch {self.epoch} of {epochs}: top-1 {self.top1:.2f}, '
            f'{abs(above):.2f} {"above" if above >= 0 else "below"} the '
            f"authors' {self.authors_top1:.2f}{loss}: "
            + ('on the curve' if self.on_curve(tolerance) else
               f'off the curve, more than an epoch and {tolerance:g} behind'))


def read_curve(name: str) -> Dict[int, Epoch]:
    """A curve by epochs from 1.

    Args:
        name: A file and a size in it: ``imagenet_224/S``. The file may have an
            absolute path; ``.csv`` is added.

    Raises:
        ValueError: There is none; the message lists those that there are.
    """
    path = Path(__file__).parent / name
    try:
        with open(f'{path.parent}.csv', newline='') as file:
            return {int(row['epoch']) + 1: Epoch(
                float(row[f'{path.name}_top1']),
                float(row[f'{path.name}_train_loss']))
                for row in csv.DictReader(file)}
    except (FileNotFoundError, KeyError):
        shipped = [f'{file.stem}/{size}' for file in
                   sorted(Path(__file__).parent.glob('*.csv'))
                   for size in 'SBL']
        raise ValueError(
            f'there is no curve {name!r}, but {", ".join(shipped)}') from None


def read_run(records: Sequence[Mapping[str, float]]) -> Dict[int, Epoch]:
    """The epochs of a training that were validated.

    Args:
        records: From :func:`~mmiformer.paper.logs.read_scalars`.
    """
    losses: Dict[int, List[float]] = {}
    for record in records:
        if 'loss' in record and 'epoch' in record:  # not of iterations
            losses.setdefault(record['epoch'], []).append(record['loss'])
    return {record['step']: Epoch(
        record[METRIC], mean(losses[record['step']])
        if record['step'] in losses else None)
        for record in records if METRIC in record}


def compare(records: Sequence[Mapping[str, float]],
            curve: Mapping[int, Epoch]) -> List[Comparison]:
    """The epochs of a training that a curve has, beside it, in order.

    Args:
        records: From :func:`~mmiformer.paper.logs.read_scalars`.
        curve: From :func:`read_curve`.
    """
    return [Comparison(
        epoch, run.top1, curve[epoch].top1,
        min(curve[near].top1 for near in (epoch - 1, epoch, epoch + 1)
            if near in curve), run.loss, curve[epoch].loss)
        for epoch, run in sorted(read_run(records).items()) if epoch in curve]
