"""The authors' learning curves, and trainings above and below them."""
import pytest

from mmiformer.paper.curves import (
    METRIC,
    Comparison,
    Epoch,
    compare,
    read_curve,
    read_run,
)


def validated(epoch, top1):
    return {METRIC: top1, 'step': epoch}


def trained(epoch, *losses):
    return [dict(loss=loss, epoch=epoch, iter=epoch * 10 + i,
                 step=epoch * 10 + i) for i, loss in enumerate(losses)]


@pytest.mark.parametrize('name, epochs, best, loss', [  # facts, 4.2
    ('imagenet_224/S', 310, 83.382, 5.51), ('imagenet_224/B', 310, 84.598,
                                            5.7409),
    ('imagenet_224/L', 310, 84.752, 5.6793), ('imagenet_384/S', 30, 84.62,
                                              2.3004),
    ('imagenet_384/B', 30, 85.706, 2.1634), ('imagenet_384/L', 30, 85.844,
                                             2.1174)])
def test_shipped_curves(name, epochs, best, loss):
    curve = read_curve(name)
    assert [*curve] == [*range(1, epochs + 1)]
    assert max(reached.top1 for reached in curve.values()) == best
    assert curve[5].loss == loss


def test_epochs_count_from_one():
    """The authors' epoch 4 is the fifth; facts, 4.2."""
    curve = read_curve('imagenet_224/S')
    assert [round(curve[epoch].top1, 2) for epoch in (5, 10, 50, 100, 200)
            ] == [35.92, 58.91, 74.36, 76.87, 80.94]


@pytest.mark.parametrize('name', [
    'imagenet_225/S', 'imagenet_224/X', 'imagenet_224'])
def test_a_curve_that_is_not_there(name):
    with pytest.raises(ValueError, match=f'{name}.*imagenet_224/L, imag'):
        read_curve(name)


def test_a_curve_of_a_file(tmp_path):
    (tmp_path / 'own.csv').write_text(
        'epoch,S_top1,S_train_loss\n0,12.5,3.5\n1,25.0,2.5\n')
    assert read_curve(f'{tmp_path}/own/S') == {
        1: Epoch(12.5, 3.5), 2: Epoch(25., 2.5)}


def test_epochs_of_a_run():
    """A validation is logged by its epoch, a loss by its iteration."""
    assert read_run([
        *trained(1, 4., 2.), validated(1, 30.), *trained(2, 1.),
        validated(3, 50.), *trained(4, 7.)]) == {
            1: Epoch(30., 3.), 3: Epoch(50., None)}


def test_comparison():
    curve = {1: Epoch(10., 5.), 2: Epoch(30., 4.), 3: Epoch(40., 3.)}
    first, last = compare([
        *trained(3, 3.5, 2.5), validated(3, 35.), validated(4, 60.),
        validated(1, 12.)], curve)
    assert first == Comparison(1, 12., 10., 10., None, 5.)
    assert last == Comparison(3, 35., 40., 30., 3., 3.)
    assert compare([], curve) == compare([validated(1, 2.)], {}) == []
    iterations = [dict(loss=1., iter=2, step=2), dict(mIoU=5., step=2)]
    assert compare(iterations, curve) == []


@pytest.mark.parametrize('epoch, top1, on_curve', [
    # 27.648, 35.924, 43.096: early an epoch is worth eight points,
    (5, 27.348, True), (5, 27.347, False),
    # 80.810, 80.936, 80.924: late only the tolerance counts.
    (200, 80.51, True), (200, 80.509, False), (200, 90., True),
    (1, 0.1, True), (1, 0.08, False),  # 0.386, 6.860
    (310, 83.054, True), (310, 83.053, False)])  # 83.372, 83.354
def test_on_the_curve(epoch, top1, on_curve):
    found, = compare([validated(epoch, top1)], read_curve('imagenet_224/S'))
    assert found.on_curve(0.3) == on_curve


@pytest.mark.parametrize('records, line', [
    ([validated(5, 36.1)], "epoch 5 of 310: top-1 36.10, 0.18 above the "
     "authors' 35.92: on the curve"),
    ([*trained(10, 5., 4.5), validated(10, 50.)],
     "epoch 10 of 310: top-1 50.00, 8.91 below the authors' 58.91; loss 4.75 "
     'beside 4.57: off the curve, more than an epoch and 0.3 behind')])
def test_description(records, line):
    found, = compare(records, read_curve('imagenet_224/S'))
    assert found.describe(310, 0.3) == line
