"""Data of which the frameworks use nothing, or little."""
import json

import cv2
import damages as d
import numpy as np
import pytest
from mmengine.registry import DATASETS

from mmiformer.kit.checks import BRIEF, CheckContext, check_data, kinds

# (field of an annotation, its value, the filter that is named)
FILTERS = [('iscrowd', 1, 'iscrowd'), ('area', 0, 'area'),
           ('ignore', 1, 'ignore'), ('image_id', 99, 'image_id'),
           ('bbox', [.1, .1, .5, .5], 'side'),
           ('bbox', [900, 5, 9, 9], 'overlap'),
           ('category_id', 99, 'category_id')]


def edit(path, change):
    """Changes the annotations of a file, and returns them."""
    content = json.loads(path.read_text())
    for entry in content['annotations']:
        change(entry)
    path.write_text(json.dumps(content))
    return content['annotations']


@pytest.mark.parametrize('brief', [{}, BRIEF], ids=['all', 'brief'])
@pytest.mark.parametrize('field, value, reason', FILTERS)
def test_objects_that_mmdet_drops(field, value, reason, brief, bases, root):
    """All of them; then those of a class."""
    path = root / 'annotations/instances_training.json'
    text = path.read_text()
    entries = edit(path, lambda entry: entry.update({field: value}))
    report = d.examine(bases('coco'), root, **brief)
    (line, ) = report.faults[kinds.UNUSED]
    assert line.startswith(f'{path}: 0 of {len(entries)} annotations: '
                           f'{len(entries)} lost to {reason} (')

    cfg = d.configure(bases('coco'), root)
    cfg.train_dataloader.dataset.filter_cfg = None
    dataset = DATASETS.build(dict(cfg.train_dataloader.dataset, pipeline=[],
                                  _scope_='mmdet'))
    assert not any(not instance['ignore_flag'] for item in dataset
                   for instance in item['instances'])

    path.write_text(text)
    entries = edit(path, lambda entry: entry['category_id'] == 1 and
                   entry.update({field: value}))
    own = sum(entry.get(field) == value for entry in entries)
    report = d.examine(bases('coco'), root, **brief)
    if field == 'category_id':  # then nothing says that it was that class
        assert report.faults[kinds.EMPTY_CLASS] == [f'{path}: circle']
    else:
        (line, ) = report.faults[kinds.UNUSED]
        assert line.startswith(f'{path}: circle, 0 of {own} annotations: '
                               f'{own} lost to {reason} (')


def test_most_is_lost(bases, root):
    """Boxes of fractions of the image, but for one of each class."""
    path, seen = root / 'annotations/instances_training.json', set()

    def change(entry):
        if entry['category_id'] in seen:
            entry['bbox'] = [.1, .1, .5, .5]
        seen.add(entry['category_id'])

    count = len(edit(path, change))
    report = d.examine(bases('coco'), root)
    assert report.errors == 0
    (line, ) = report.faults[kinds.MOSTLY_LOST]
    assert f'3 of {count} annotations: {count - 3} lost to side' in line
    assert 'COCO counts pixels' in line


def test_testing_uses_what_coco_uses(bases, root):
    """It reads objects of no area, which mmdet's data set skips."""
    path = root / 'annotations/instances_validation.json'
    text = path.read_text()
    edit(path, lambda entry: entry.update(area=0))
    assert kinds.UNUSED not in d.examine(bases('coco'), root).faults
    path.write_text(text)
    edit(path, lambda entry: entry.update(iscrowd=1))
    assert 'iscrowd' in d.examine(bases('coco'), root).faults[
        kinds.UNUSED][0]


@pytest.mark.parametrize('brief', [{}, BRIEF], ids=['all', 'brief'])
@pytest.mark.parametrize('reduce', [False, True])
def test_maps_of_0_and_255(reduce, brief, bases, root):
    for path in root.glob('annotations/training/*.png'):
        labels = np.zeros((64, 64), np.uint8)
        labels[:, :16] = 255
        cv2.imwrite(str(path), labels)
    cfg = d.configure(bases('seg'), root)
    cfg.train_dataloader.dataset.reduce_zero_label = reduce
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = reduce
    report = check_data(cfg, ('train', ), CheckContext(**brief))
    (line, ) = report.faults[kinds.UNUSED]
    lost, top = (100, 0) if reduce else (25, 255)
    assert line.startswith(f'train: {lost}% of the pixels are ignore_index '
                           f'255, most of value {top} in the maps; ')
    assert ('write its index' in line) != reduce


def test_maps_mostly_ignored(bases, root):
    for path in root.glob('annotations/training/*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels[:48] = 255
        cv2.imwrite(str(path), labels)
    report = d.examine(bases('seg'), root)
    assert kinds.UNUSED not in report.faults
    assert 'most of value 255' in report.faults[kinds.MOSTLY_LOST][0]


def test_folders_of_another_suffix(bases, root):
    folder = root / 'crops/training/circle'
    paths = list(folder.iterdir())
    for path in paths:
        path.rename(path.with_suffix('.jfif'))
    report = d.examine(bases('cls'), root)
    (line, ) = report.faults[kinds.UNUSED]
    assert line.startswith(f'train: {folder}: none of {len(paths)} files')
    assert '.jpeg' in line
