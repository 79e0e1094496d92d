"""The authors' learning curves, and trainings above and below them."""
import pytest

from mmiformer.paper.curves import METRIC, describe_progress, read_curve


def describe(*validated, curve='imagenet_224/S'):
    """Of (epoch, top-1), among the records of a training's losses."""
    return describe_progress(
        [dict(loss=4., epoch=1, iter=9, step=9), *(
            {METRIC: top1, 'step': epoch} for epoch, top1 in validated)],
        read_curve(curve), 0.3)


@pytest.mark.parametrize('name, epochs, best', [  # facts, 4.2
    ('imagenet_224/S', 310, 83.382), ('imagenet_224/B', 310, 84.598),
    ('imagenet_224/L', 310, 84.752), ('imagenet_384/S', 30, 84.62),
    ('imagenet_384/B', 30, 85.706), ('imagenet_384/L', 30, 85.844)])
def test_shipped_curves(name, epochs, best):
    curve = read_curve(name)
    assert [*curve] == [*range(1, epochs + 1)]
    assert max(curve.values()) == best


def test_epochs_count_from_one():
    """The authors' epoch 4 is the fifth; facts, 4.2."""
    curve = read_curve('imagenet_224/S')
    assert [round(curve[epoch], 2) for epoch in (5, 10, 50, 100, 200)] == [
        35.92, 58.91, 74.36, 76.87, 80.94]


@pytest.mark.parametrize('epoch, top1, on_curve', [
    # 27.648, 35.924, 43.096: early an epoch is worth eight points,
    (5, 27.348, True), (5, 27.347, False),
    # 80.810, 80.936, 80.924: late only the tolerance counts.
    (200, 80.51, True), (200, 80.509, False), (200, 90., True),
    (1, 0.1, True), (1, 0.08, False),  # 0.386, 6.860
    (310, 83.054, True), (310, 83.053, False)])  # 83.372, 83.354
def test_on_the_curve(epoch, top1, on_curve):
    assert describe((epoch, top1)).endswith('on the curve') == on_curve


def test_the_last_epoch_is_described():
    assert describe() == describe((311, 80.)) == ''
    line = describe((1, 0.4), (5, 36.1), (4, 28.))
    assert '5 of 310' in line and '36.10' in line and '35.92' in line
