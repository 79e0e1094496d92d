"""Predictions beside the truth: how images are ranked, and what is drawn."""
import json
import pickle
import sys

import cv2
import numpy as np
import predictions
import pytest
import torch
from pycocotools import mask as coco_mask
from real_data import write, write_camvid

VOID = 11


def boxes(*slices):
    items = []
    for where in slices:
        mask = np.zeros((10, 10), bool)
        mask[where] = True
        items.append(dict(mask=mask))
    return items


def test_score_of_a_label_map():
    truth = np.array([[0, 0, 1, 1, VOID, VOID]])
    score = predictions.mean_iou
    assert score(truth, truth, VOID) == 1
    # 0: 1 of 2, 1: 2 of 3; what is predicted of void is not counted
    assert score(truth, np.array([[0, 1, 1, 1, 5, 0]]), VOID) == (
        pytest.approx((1 / 2 + 2 / 3) / 2))
    # 7 is nowhere in truth
    assert score(truth, np.array([[0, 0, 1, 7, 0, 0]]), VOID) == (
        pytest.approx((1 + 1 / 2 + 0) / 3))


def test_score_of_instances():
    left, right = boxes(np.s_[:, :4]), boxes(np.s_[:, 6:])
    score = predictions.mean_overlap
    assert score(left, left) == 1
    assert score(left, []) == score([], left) == 0
    assert score([], []) == 1
    assert score(left + right, left) == pytest.approx((1 + 0 + 1) / 3)
    assert score(left, boxes(np.s_[:, :2])) == pytest.approx(0.5)


def test_images_are_spread_from_best_to_worst():
    results = [predictions.Result(str(i), None, None, i / 10)
               for i in (3, 9, 1, 5, 7)]
    for number, paths in ((3, '951'), (2, '91'), (9, '97531')):
        assert ''.join(result.path for result in predictions.spread(
            results, number)) == paths


def run(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, 'argv', ['predictions.py', *map(str, words)])
    predictions.main()
    return capsys.readouterr().out.splitlines()[-2:]


def test_segments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / 'data/camvid'
    write_camvid(data)
    folder = tmp_path / 'predictions'
    folder.mkdir()
    labels = cv2.imread(str(data / 'testannot/test_0.png'), 0)
    cv2.imwrite(str(folder / 'test_0.png'), np.where(labels < 6, labels, 0))
    cv2.imwrite(str(folder / 'test_1.png'), labels % VOID)
    words = ('fpn_camvid/iformer_s', folder, '--out', tmp_path / 'a.png')
    # class 0 on 6 stripes of the 11, 1 to 5 are right, 6 to 10 missed
    assert run(monkeypatch, capsys, *words) == [
        'test_1.png: 100.0', f'test_0.png: {100 * (1 / 6 + 5) / 11:.1f}']
    assert cv2.imread(str(tmp_path / 'a.png')).std() > 10
    (folder / 'test_0.png').unlink()
    with pytest.raises(SystemExit, match=r'test_0\.png cannot be read'):
        run(monkeypatch, capsys, *words)


def test_instances(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = tmp_path / 'data/nuclei'
    square = np.zeros((256, 256), np.uint8, order='F')
    square[:8, :8] = 1
    code = coco_mask.encode(square)
    content = dict(
        images=[dict(id=number, file_name=f'{number}.png', height=256,
                     width=256) for number in (1, 2)],
        categories=[dict(id=1, name='nucleus')],
        annotations=[dict(
            id=number, image_id=number, category_id=1, iscrowd=0, area=64,
            bbox=[0, 0, 8, 8], segmentation=dict(
                size=code['size'], counts=code['counts'].decode()))
            for number in (1, 2)])
    data.mkdir(parents=True)
    (data / 'val.json').write_text(json.dumps(content))
    results = []
    for number, score in ((1, 0.4), (2, 0.9)):
        path = data / f'{number}.png'
        write(path, np.full((256, 256, 3), 128, np.uint8))
        results.append(dict(
            img_id=number, img_path=str(path), pred_instances=dict(
                masks=[code], labels=torch.tensor([0]),
                bboxes=torch.tensor([[0., 0, 8, 8]]),
                scores=torch.tensor([score]))))
    file = tmp_path / 'results.pkl'
    file.write_bytes(pickle.dumps(results))
    # below the minimum score nothing is predicted
    assert run(monkeypatch, capsys, 'mask_rcnn/iformer_s_nuclei', file,
               '--out', tmp_path / 'a.png') == ['2.png: 100.0', '1.png: 0.0']
    assert cv2.imread(str(tmp_path / 'a.png')).std() > 10
