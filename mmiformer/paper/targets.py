"""The results that can be reproduced: what they run, and what to expect."""
from dataclasses import dataclass
from typing import Dict, Mapping

from ..backbone.hub import SCHEME
from .curves import METRIC
from .tables import TABLES

# The expected values of the authors' weights were measured on these very
# files, so that only versions differ: 0.05 % are 25 images of ImageNet's 50000.
RELEASED_TOLERANCE = 0.05


@dataclass(frozen=True)
class Target:
    """A result to reproduce. Batch, schedule and data are the config's.

    Attributes:
        config: The path below ``configs``.
        expected: Metrics by the names that the test logs, in points (percent).
        tolerance: By how many points each may be lower; ours, for differences
            between seeds, GPUs and versions of torch.
        source: Where the expected values are from.
        note: What a reader should know.
        seed: The seed of a training.
        curve: The authors' learning curve, as :func:`~.curves.read_curve`
            names it. Such a training is judged by its best epoch, as theirs.
        released: The name of the weights that the values were measured on.
    """
    config: str
    expected: Mapping[str, float]
    tolerance: float
    source: str
    note: str = ''
    seed: int = 0
    curve: str = ''
    released: str = ''


def _imagenet(arch: str, top1: float, top1_384: float) -> Dict[str, Target]:
    """The targets of a size: the best epochs of the authors' logs."""
    targets = {}
    for value, config, curve, suffix in (
            (top1, '300e', 'imagenet_224', ''),
            (top1_384, '384_ft', 'imagenet_384', '_384')):
        released = f'iformer_{arch}{suffix}'
        targets[f'imagenet/iformer_{arch[0]}{suffix}'] = Target(
            f'imagenet/iformer_{arch[0]}_{config}.py', {METRIC: value}, 0.3,
            'released', seed=42,  # released, too
            note='judged by the best epoch, as the authors do; '
            f'--checkpoint {SCHEME}{released} tests theirs, to '
            f'{RELEASED_TOLERANCE} points',
            curve=f'{curve}/{arch[0].upper()}', released=released)
    return targets


COCO, ADE20K = TABLES['coco'], TABLES['ade20k']
TARGETS: Dict[str, Target] = {
    'coco/iformer_s': Target('mask_rcnn/iformer_s_1x.py',
                             COCO['iFormer-S'].metrics, 0.3, 'paper'),
    'coco/iformer_b': Target('mask_rcnn/iformer_b_1x.py',
                             COCO['iFormer-B'].metrics, 0.3, 'paper'),
    'ade20k/iformer_s': Target('fpn_ade20k/iformer_s_80k.py',
                               ADE20K['iFormer-S'].metrics, 0.5, 'paper'),
    'upernet/iformer_s': Target(
        'upernet_ade20k/iformer_s_160k.py',
        TABLES['upernet']['iFormer-S'].metrics, 0.5, "authors' README"),
    **_imagenet('small', 83.38, 84.62),
    **_imagenet('base', 84.60, 85.71),
    **_imagenet('large', 84.75, 85.84),
    # Measured on 2 CPU cores on 2026-11-22 (the shapes) and 2026-11-28. Two
    # seeds gave CamVid 39.6 and 38.9, and 2.4 apart on its validation images;
    # the nuclei 55.4 and 56.0, 58.5 and 58.7.
    'camvid/iformer_s': Target(
        'fpn_camvid/iformer_s.py', {'mIoU': 39.6}, 3., 'ours, measured',
        note='street scenes; half an hour on 2 CPU cores'),
    'nuclei/iformer_s': Target(
        'mask_rcnn/iformer_s_nuclei.py',
        {'coco/bbox_mAP': 55.4, 'coco/segm_mAP': 58.5}, 2., 'ours, measured',
        note='cells under microscopes; half an hour on 2 CPU cores'),
    'shapes/fpn': Target(
        'fpn_ade20k/iformer_s_shapes.py', {'mIoU': 90.9}, 5., 'ours, measured',
        note='synthetic shapes, minutes on a CPU'),
}
