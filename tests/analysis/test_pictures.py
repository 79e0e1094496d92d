"""The pictures show what they are given."""
import json
from functools import partial

import cv2
import numpy as np

from mmiformer.analysis import pictures

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]


def coloured(path, colour):
    """The share of a picture's pixels that lean to a colour of the palette."""
    image = cv2.imread(str(path))[:, :, ::-1].astype(int)
    others = [channel for channel in range(3) if not colour[channel]]
    return (image[..., colour.index(255)] -
            image[..., others].max(-1) > 80).mean()


def test_overlay_tints_the_mask_alone():
    image = np.full((2, 2, 3), 100, np.uint8)
    mask = np.array([[True, False], [False, False]])
    tinted = pictures.overlay(image, mask, (200, 0, 100), opacity=0.5)
    assert tinted[0, 0].tolist() == [150, 50, 100]
    assert (tinted[~mask] == 100).all() and (image == 100).all()


def test_segments_beside_the_truth(tmp_path):
    image = np.full((20, 20, 3), 128, np.uint8)
    empty, full = np.zeros((20, 20), int), np.full((20, 20), 1)
    shares = []
    for prediction in (empty, full):
        pictures.draw_pairs(
            tmp_path / 'a.png', 'title', [[image, empty, prediction]] * 3,
            partial(pictures.draw_segments, palette=PALETTE),
            ['red', 'blue'], PALETTE[1:])
        shares.append(coloured(tmp_path / 'a.png', (255, 0, 0)))
    assert shares[1] > shares[0] + 0.03


def test_instances_have_mask_box_and_score(tmp_path):
    image = np.full((20, 20, 3), 128, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    found = [dict(mask=mask, box=(5, 5, 15, 15), label=2, score=.9)]
    pictures.draw_pairs(
        tmp_path / 'a.png', 'title', [[image, [], found]] * 2,
        partial(pictures.draw_instances, palette=PALETTE), ['x'], [(0, 0, 0)])
    assert coloured(tmp_path / 'a.png', (0, 0, 255)) > 0.01
    assert coloured(tmp_path / 'a.png', (255, 0, 0)) == 0


def test_activations_are_red_where_they_are_high(tmp_path):
    image = np.full((20, 20, 3), 128, np.uint8)
    low, high = np.full((20, 20), .1), np.full((20, 20), .9)
    half = np.hstack([low[:, :10], high[:, :10]])
    reds, blues = [], []
    for heat in (None, low, half, high):
        pictures.draw_activations(
            tmp_path / 'a.png', ['a', 'b'], [image] * 2,
            [[(image, heat, 'x'), (image, heat, 'y')]] * 2)
        reds.append(coloured(tmp_path / 'a.png', (255, 0, 0)))
        blues.append(coloured(tmp_path / 'a.png', (0, 0, 255)))
    assert reds[:2] == [0, 0] and blues[0] == blues[3] == 0
    assert reds[3] > 0.1 and abs(reds[2] / reds[3] - 0.5) < 0.05
    assert abs(blues[2] / blues[1] - 0.5) < 0.05


def write(folder, name, records):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))


def test_scalars_of_a_resumed_run_are_one_history(tmp_path):
    write(tmp_path, '20260101_000000', [
        dict(loss=3., iter=10, step=10), dict(loss=2., iter=20, step=20),
        dict(mIoU=50., step=20)])
    write(tmp_path, '20260101_000100', [
        dict(loss=1.9, iter=20, step=20), dict(loss=1., iter=30, step=30)])
    records = pictures.read_scalars(tmp_path)
    assert [(r['step'], r.get('loss'), r.get('mIoU')) for r in records] == [
        (10, 3., None), (20, None, 50.), (20, 1.9, None), (30, 1., None)]
    pictures.draw_curves(tmp_path / 'c.png', {
        'run': (tmp_path, {'mIoU': 'mIoU'})})
    assert cv2.imread(str(tmp_path / 'c.png')).std() > 10


def test_epochs_are_placed_at_their_last_iteration():
    train = [dict(epoch=1, iter=10), dict(epoch=1, iter=20),
             dict(epoch=2, iter=30)]
    assert pictures._iterations([1, 2], train) == [20, 30]
    assert pictures._iterations([100], [dict(iter=90)]) == [100]
