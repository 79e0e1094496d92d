"""The converters of data sets, by value."""
import json
import runpy
import sys

import numpy as np
import pytest
from conftest import ROOT, refusal
from mmcv import imread
from pycocotools import mask as coco_mask
from real_data import write, write_nucleus

TOOL = '../demo/nuclei.py'
BOX = np.s_[10:13, 20:25]  # 3 rows, 5 columns
LAST = np.s_[255:, 254:]  # in a corner


@pytest.fixture
def src(tmp_path):
    """Three images in another order than their ids', and one of another
    size."""
    folder = tmp_path / 'clone' / 'stage1_train'
    write_nucleus(folder, 'c', BOX)
    write_nucleus(folder, 'a', BOX, LAST)
    write_nucleus(folder, 'b', LAST, LAST, BOX)
    write_nucleus(folder, 'aa', BOX, size=(256, 320))
    return folder


def convert(monkeypatch, src, out, *more):
    monkeypatch.setattr(sys, 'argv', [TOOL, str(src), str(out), *more])
    runpy.run_path(str(ROOT / 'tools' / TOOL), run_name='__main__')
    return [json.loads((out / f'{split}.json').read_text())
            for split in ('train', 'val')]


def test_nuclei(src, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'converted' / 'coco'
    train, val = convert(monkeypatch, src, out, '--train', '2')
    assert [image['file_name'] for image in train['images']] == [
        f'../../clone/stage1_train/{name}/images/{name}.png' for name in 'ab']
    assert [image['file_name'] for image in val['images']] == [
        '../../clone/stage1_train/c/images/c.png']
    for content in (train, val):
        assert content['categories'] == [dict(id=1, name='nucleus')]
        for number, image in enumerate(content['images'], 1):
            assert (image['id'], image['height'], image['width']) == (
                number, 256, 256)
            pixels = imread(str(out / image['file_name']))
            assert pixels.shape == (256, 256, 3)
    entries = train['annotations']
    assert [entry['id'] for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry['image_id'] for entry in entries] == [1, 1, 2, 2, 2]
    assert [entry['area'] for entry in entries] == [15, 2, 2, 2, 15]
    box, last = [20, 10, 5, 3], [254, 255, 2, 1]
    assert [entry['bbox'] for entry in entries] == [box, last, last, last, box]
    assert {(entry['category_id'], entry['iscrowd']) for entry in entries} == {
        (1, 0)}
    for entry, where in zip(entries, (BOX, LAST)):
        mask = np.zeros((256, 256), np.uint8)
        mask[where] = 1
        assert np.array_equal(coco_mask.decode(entry['segmentation']), mask)
    assert capsys.readouterr().out.splitlines() == [
        f'{out}/train.json: 2 images, 5 nuclei',
        f'{out}/val.json: 1 images, 1 nuclei',
        '1 images of other sizes are left out']


@pytest.mark.parametrize('number', [0, 3])
def test_both_splits_of_nuclei_have_images(number, src, tmp_path):
    said = refusal(TOOL, src, tmp_path, '--train', number)
    assert f'--train {number}' in said and 'choose 1 to 2' in said


def test_a_folder_that_is_not_the_nuclei(src, tmp_path):
    assert 'nowhere is no folder' in refusal(TOOL, 'nowhere', tmp_path)
    # the clone in place of its stage1_train
    said = refusal(TOOL, src.parent, tmp_path)
    assert 'stage1_train/images/stage1_train.png' in said
    assert 'SRC is stage1_train' in said
    write_nucleus(tmp_path / 'other', 'x', BOX, size=(20, 30))
    assert 'no image of 256x256' in refusal(TOOL, tmp_path / 'other', tmp_path)


@pytest.mark.parametrize('mask, reason', [
    (np.zeros((256, 256), np.uint8), 'masks/0.png is empty'),
    (np.full((256, 255), 255, np.uint8),
     'masks/0.png is 256x255, the image 256x256')])
def test_a_mask_that_is_no_nucleus(mask, reason, src, tmp_path):
    write(src / 'c' / 'masks' / '0.png', mask)
    assert reason in refusal(TOOL, src, tmp_path, '--train', 2)
    assert not (tmp_path / 'train.json').exists()


def test_masks_that_are_missing_or_broken(src, tmp_path):
    path = src / 'b' / 'masks' / '1.png'
    path.write_bytes(path.read_bytes()[:30])
    assert 'b/masks/1.png cannot be read' in refusal(
        TOOL, src, tmp_path, '--train', 2)
    for path in (src / 'a' / 'masks').iterdir():
        path.unlink()
    assert 'a/masks has no mask' in refusal(TOOL, src, tmp_path, '--train', 2)
