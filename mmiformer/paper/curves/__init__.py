"""The authors' learning curves on ImageNet-1K, and a training beside them.

``imagenet_224.csv`` and ``imagenet_384.csv`` have the top-1 and top-5 accuracy
and the training loss of S, B and L after every epoch. Source: the
``summary.csv`` of timm that the authors published with each released model.
Its epochs count from 0; here they count from 1, as mmengine's do.
"""
import csv
from pathlib import Path
from typing import Dict, Mapping, Sequence

METRIC = 'accuracy/top1'


def read_curve(name: str) -> Dict[int, float]:
    """The authors' top-1 in percent, by epochs from 1.

    Args:
        name: A file and a size in it: ``imagenet_224/S``.
    """
    path = Path(__file__).parent / name
    with open(f'{path.parent}.csv', newline='') as file:
        return {int(row['epoch']) + 1: float(row[f'{path.name}_top1'])
                for row in csv.DictReader(file)}


def describe_progress(records: Sequence[Mapping[str, float]],
                      curve: Mapping[int, float], tolerance: float) -> str:
    """A line on the last validated epoch of a training beside a curve; empty
    where there is none.

    A training is on the curve if it is at most an epoch behind, less a
    tolerance: early an epoch is worth several points, late nothing.

    Args:
        records: From :func:`~mmiformer.paper.logs.read_scalars`.
        curve: From :func:`read_curve`.
        tolerance: In points.
    """
    run = {record['step']: record[METRIC] for record in records
           if METRIC in record}
    epoch = max(run.keys() & curve.keys(), default=None)
    if epoch is None:
        return ''
    slowest = min(curve[near] for near in (epoch - 1, epoch, epoch + 1)
                  if near in curve)
    behind = round(run[epoch] - slowest + tolerance, 6) < 0  # of binary digits
    return (f'epoch {epoch} of {len(curve)}: top-1 {run[epoch]:.2f}, the '
            f"authors' {curve[epoch]:.2f}: " + (
                f'off the curve, more than an epoch and {tolerance:g} behind'
                if behind else 'on the curve'))
