"""What a data set's own loading raises is reported, and what it loses."""
import json
import os
import shutil

import cv2
import damages as d
import numpy as np
import pytest
from conftest import call, refusal
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from mmiformer.config import load_config
from mmiformer.kit.checks import Report, check_data
from mmiformer.kit.checks.settings import find_heads


def only(report):
    """The single finding of a report."""
    (found, ) = report.findings
    return found


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('family', d.FAMILIES)
def test_good_data_passes(family, workers, bases, shapes):
    report = d.examine(bases(family), shapes, num_workers=workers)
    assert report.findings == [] and report.errors == 0
    total = sum(len(json.loads(path.read_text())['annotations']) for path in
                [shapes / 'annotations/instances_training.json'])
    assert len(report.read) == 2
    expected = dict(coco=f'train: 6 samples, {total} of {total} annotations '
                    'are used: ', seg='train: 6 samples: background ',
                    cls=f'train: {total} samples: ')[family]
    assert report.read[0].startswith(expected)
    assert str(report).endswith('0 errors, 0 notes')
    assert d.examine(bases(family), shapes, sample=2).findings == []


# (family, file, damage, words of the fault)
FILES = [
    ('coco', d.IMAGE, os.remove, 'FileNotFoundError'),
    ('coco', d.IMAGE, d.truncate, ''),
    ('coco', d.IMAGE, d.resize, 'another size'),
    ('seg', d.IMAGE, d.truncate, ''),
    ('seg', d.LABELS, os.remove, 'FileNotFoundError'),
    ('seg', d.LABELS, d.truncate, ''),
    ('seg', d.LABELS, d.resize, 'another size'),
    ('seg', d.LABELS, lambda path: d.repaint(
        path, lambda labels: cv2.merge([labels] * 3)), 'several channels'),
    ('cls', d.CROP, d.truncate, ''),
]


@pytest.mark.parametrize('family, name, damage, words', FILES)
def test_a_damaged_file_is_named(family, name, damage, words, bases, root):
    """By the image, also where its label map is damaged; the file in an
    exception does not tell one fault from another."""
    path = root / name
    paths = sorted((path.parent if path.suffix else path).iterdir())[:2]
    for path in paths:
        damage(path)
    level, text, files = only(d.examine(bases(family), root))
    assert level == 'error' and words in text
    assert text.startswith('train: 2 of ')
    assert [os.path.splitext(os.path.basename(file))[0]
            for file in files] == [path.stem for path in paths]


def test_reduce_zero_label_of_the_pipeline(bases, shapes):
    """What mmseg asserts in a worker of the training."""
    cfg = d.configure(bases('seg'), shapes)
    cfg.train_dataloader.dataset.pipeline[1].reduce_zero_label = False
    level, text, files = only(check_data(cfg, ('train', )))
    assert level == 'error' and 'AssertionError' in text and len(files) == 6


@pytest.mark.parametrize('family, label', [('seg', 7), ('cls', 5)])
def test_labels_beyond_the_classes(family, label, bases, root, tmp_path):
    """After reduce_zero_label, and but for ignore_index."""
    cfg = d.configure(bases(family), root)
    if family == 'seg':
        d.repaint(root / d.LABELS, lambda labels: np.where(
            np.eye(64) > 0, label + 1, labels).astype(np.uint8))
        name = d.IMAGE
    else:
        name = next((root / 'crops/training').glob('*/*'))
        (tmp_path / 'list.txt').write_text(
            f'{name.relative_to(root / "crops/training")} {label}\n')
        cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'list.txt')
    found = [found for found in check_data(cfg, ('train', )).findings
             if found.level == 'error']
    assert f'[{label}]' in found[0].text
    assert found[0].files == (str(root / name), )


# What mmdet drops, as fields of every annotation.
DROPPED = [dict(iscrowd=1), dict(area=0), dict(ignore=1),
           dict(bbox=[.1, .1, .5, .5]), dict(bbox=[900, 5, 9, 9])]


@pytest.mark.parametrize('fields', DROPPED, ids=str)
def test_objects_that_mmdet_drops(fields, bases, root):
    path = d.annotate(root, **fields)
    total = len(json.loads(path.read_text())['annotations'])
    report = d.examine(bases('coco'), root)
    assert report.read[0] == (
        f'train: 6 samples, 0 of {total} annotations are used')
    assert [found.level for found in report.findings] == ['error', 'note']
    assert len(report.findings[0].files) == 6


def test_a_sample_and_a_class_without_an_object(bases, root):
    def change(content):
        first = content['images'][0]['id']
        content['annotations'] = [
            dict(entry, category_id=3) for entry in content['annotations']
            if entry['image_id'] != first]

    d.edit(root, change, 'validation')
    first, second = d.examine(bases('coco'), root).findings
    assert first.level == second.level == 'note'
    assert [os.path.basename(file) for file in first.files] == ['00000.jpg']
    assert second.text.endswith(': circle, square')


def test_maps_of_ignored_pixels_alone(bases, root):
    for path in root.glob('annotations/training/*.png'):
        d.repaint(path, np.zeros_like)
    level, text, files = only(d.examine(bases('seg'), root))
    assert level == 'error' and text.startswith('train: 6 of 6 samples')


# (change of the file, split, level, words)
def swap(content):
    content['categories'].reverse()


def rename(content):
    content['categories'][0]['name'] = 'wheel'


def lose(content):
    content['annotations'] = [entry for entry in content['annotations']
                              if entry['category_id'] != 3]
    content['categories'].pop()


def number_from_zero(content):
    content['annotations'][0]['id'] = 0


def cut(content):
    content['annotations'][0]['segmentation'] = [
        [1, 1, 9, 9], [1, 1, 9, 1, 9, 9]]


COCO = [
    (swap, 'training', 'error', "['triangle', 'square', 'circle']"),
    (rename, 'training', 'error', "['wheel', 'square', 'triangle']"),
    (lose, 'training', 'note', "['triangle']"),
    (lose, 'validation', 'error', "['triangle']"),
    (number_from_zero, 'training', None, ''),
    (number_from_zero, 'validation', 'error', 'id 0'),
    (cut, 'training', 'error', '1 annotations have polygons'),
    (lambda content: content['annotations'][0].pop('iscrowd'), 'validation',
     'error', '1 annotations have no iscrowd'),
    (lambda content: content['categories'].append(dict(id=9, name='wheel')),
     'training', 'note', "['wheel']")]


@pytest.mark.parametrize('change, split, level, words', COCO)
def test_what_coco_files_lose_silently(
        change, split, level, words, bases, root):
    path = d.edit(root, change, split)
    found = [found for found in d.examine(bases('coco'), root).findings
             if found.text.startswith(str(path))]
    assert [one.level for one in found[:1]] == [level] * bool(level)
    assert all(words in one.text for one in found[:1])


@pytest.mark.parametrize('encoding', ['utf-8-sig', 'utf-16'])
def test_what_json_reads_and_the_framework_does_not(encoding, bases, root):
    """Python finds the encoding of bytes by itself; pycocotools opens text."""
    path = root / 'annotations/instances_training.json'
    path.write_text(path.read_text(), encoding=encoding)
    found = d.examine(bases('coco'), root).findings
    assert [one.level for one in found] == ['error']
    assert 'cannot be' in found[0].text and 'Decode' in found[0].text


def test_what_is_left_without_a_class(bases, root):
    """mmengine itself fails with words of NumPy."""
    d.edit(root, lambda content: [category.update(name='wheel') for category
                                  in content['categories']])
    levels = [found.level for found in
              d.examine(bases('coco'), root).findings]
    assert levels == ['error']
    assert 'has no sample' in d.examine(bases('coco'), root).findings[0].text


def test_files_of_training_in_val(bases, shapes):
    cfg = d.configure(bases('seg'), shapes)
    cfg.val_dataloader.dataset.data_prefix = (
        cfg.train_dataloader.dataset.data_prefix)
    level, text, files = only(check_data(cfg, ('train', 'val')))
    assert level == 'note' and text.startswith('6 files of training')
    assert files[0] == str(shapes / d.IMAGE)


def test_classes_in_another_order(bases, root):
    cfg = d.configure(bases('cls'), root)
    cfg.val_dataloader.dataset.metainfo.classes = (
        'square', 'circle', 'triangle')
    folders, unlike = check_data(cfg, ('train', 'val')).findings
    assert "('circle', 'square', 'triangle')" in folders.text
    assert folders.level == unlike.level == 'error'
    assert 'train has the classes' in unlike.text
    for path in root.glob('crops/*/circle'):  # names of their own
        path.rename(path.with_name('a'))
        path.with_name('square').rename(path.with_name('b'))
        path.with_name('triangle').rename(path.with_name('c'))
    assert d.examine(bases('cls'), root).findings == []


@DATASETS.register_module(force=True)
class Picky(BaseDataset):
    """Refuses what it is given."""

    def __init__(self, pipeline, **kwargs):
        raise ValueError('no pipeline')


@DATASETS.register_module(force=True)
class Plain(Dataset):
    """No data set of mmengine's; the second sample fails."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        if i:
            raise KeyError('odd')
        return dict(gt_label=1)


@DATASETS.register_module(force=True)
class Deadly(Plain):
    """Ends its process, as pycocotools may."""

    def __getitem__(self, i):
        os._exit(3)


def test_wrappers_indices_and_other_data_sets(bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    own = cfg.train_dataloader.dataset
    own.indices = 2
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[
            dict(type='RepeatDataset', times=2, dataset=own),
            dict(type='Plain'), dict(own, type='Picky')])
    report = check_data(cfg, ('train', ))
    assert [line.split(',')[0] for line in report.read] == [
        'train: 2 samples', 'train: 2 samples: 1 1']
    first, second = [found for found in report.findings
                     if found.level == 'error']
    assert first.text.startswith(
        'train_dataloader.dataset (Picky) cannot be built: ')
    assert second.text == "train: 1 of 2 samples: KeyError: 'odd'"
    assert second.files == ('sample 1', )


@pytest.mark.parametrize('wrapper, noted', [
    (dict(type='RepeatDataset', times=2), True),  # 12 samples an epoch
    (dict(type='ClassBalancedDataset', oversample_thr=.9), False)])
def test_the_length_of_an_epoch(wrapper, noted, bases, shapes):
    """Wrappers that draw samples leave it open."""
    cfg = d.configure(bases('coco'), shapes)
    cfg.train_dataloader.dataset = dict(
        wrapper, dataset=cfg.train_dataloader.dataset)
    cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs = 4, 1
    cfg.param_scheduler = [dict(type='LinearLR', by_epoch=False, end=500)]
    notes = [found.text for found in check_data(cfg, ('train', )).findings]
    assert ['the 3 iterations' in note for note in notes] == (
        [True] if noted else [])


def test_a_loader_that_ends_its_process(bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    cfg.train_dataloader.dataset = dict(type='Deadly')
    (level, text, _), *_ = check_data(
        cfg, ('train', ), num_workers=1).findings
    assert level == 'error' and '0 of 2 samples' in text


@pytest.mark.parametrize('key, value, named', [
    ('metainfo', dict(classes='circle'), "classes='circle' is a string"),
    ('no_such_argument', 1, 'no_such_argument'),
    ('type', 'NoSuchDataset', 'NoSuchDataset')])
def test_data_sets_that_cannot_be_built(key, value, named, bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    cfg.train_dataloader.dataset.update({'metainfo': None, key: value})
    level, text, _ = only(check_data(cfg, ('train', )))
    assert level == 'error' and named in text


NEW_STYLE = '''
from mmengine.config import read_base
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import LoadAnnotations
from mmcv.transforms import LoadImageFromFile
with read_base():
    from .base import *

train_dataloader = dict(dataset=dict(
    type=CocoDataset, data_root={root!r}, data_prefix=dict(
        img='images/training/'), ann_file='annotations/instances_training.json',
    metainfo=dict(classes=('circle', 'square', 'triangle')), pipeline=[
        dict(type=LoadImageFromFile),
        dict(type=LoadAnnotations, with_bbox=True, with_mask=True)]))
'''


def test_configs_of_pure_python(root, tmp_path):
    """Their types are classes, not names."""
    (tmp_path / 'base.py').write_text("default_scope = 'mmdet'")
    (tmp_path / 'own.py').write_text(NEW_STYLE.format(root=str(root)))
    cfg = load_config(str(tmp_path / 'own.py'))
    assert isinstance(cfg.train_dataloader.dataset.type, type)
    report = check_data(cfg, ('train', ))
    assert report.findings == [] and '6 samples' in report.read[0]
    os.remove(root / d.IMAGE)
    assert only(check_data(cfg, ('train', ))).files == (str(root / d.IMAGE), )


def test_heads_are_found_in_cascades():
    model = dict(
        backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=[dict(num_classes=2), dict(num_classes=3)],
                      semantic_head=dict(num_classes=183)),
        auxiliary_head=dict(num_classes=4))
    assert {key: head['num_classes'] for key, head in find_heads(
        dict(model=model)).items()} == {
            'model.roi_head.bbox_head.0': 2, 'model.roi_head.bbox_head.1': 3,
            'model.auxiliary_head': 4}


@pytest.mark.parametrize('family, key, number, level', [
    ('coco', 'model.roi_head.mask_head.num_classes', 2, 'error'),
    ('coco', 'model.roi_head.mask_head.num_classes', 1, 'note'),
    ('seg', 'model.decode_head.num_classes', 150, 'note'),
    ('cls', 'model.head.num_classes', 2, 'error')])
def test_heads_of_other_sizes(family, key, number, level, bases, shapes):
    cfg = d.configure(bases(family), shapes)
    cfg.merge_from_dict({key: number})
    findings = check_data(cfg, ('train', 'val')).findings
    classes = 4 if family == 'seg' else 3
    for split, found in zip(('train', 'val'), findings):
        assert found.level == level
        assert f'{key}={number}, {split} has {classes} classes' in found.text
    assert len(findings) == 2


def test_evaluators_of_other_annotations(bases, root):
    """Another file of the same content is no fault."""
    cfg = d.configure(bases('coco'), root)
    own = root / 'annotations/instances_validation.json'
    shutil.copy(own, root / 'copy.json')
    cfg.val_evaluator.ann_file = str(root / 'copy.json')
    assert check_data(cfg, ('val', )).findings == []
    other = str(root / 'annotations/instances_training.json')
    cfg.val_evaluator.ann_file = other
    level, text, _ = only(check_data(cfg, ('val', )))
    assert level == 'error' and other in text and str(own) in text


def test_the_report_shows_three_of_many():
    report = Report()
    report.add('note', 'odd')
    report.add('error', 'bad', [f'{number}.jpg\n' for number in range(5)])
    assert str(report).splitlines() == [
        'error: bad', *(f'    {number}.jpg\\n' for number in range(3)),
        '    ... and 2 more', 'note: odd', '1 errors, 1 notes']
    assert report.as_dict()['findings'][1]['files'][4] == '4.jpg\n'


def test_the_tool(bases, root, tmp_path):
    d.truncate(root / 'annotations/validation/00001.png')
    d.configure(bases('seg'), root).dump(tmp_path / 'c.py')
    output = call('check_dataset.py', tmp_path / 'c.py', '--out',
                  tmp_path / 'out.json', '--num-workers', '2', check=False)
    assert '1 errors, 0 notes' in output and 'Traceback' not in output
    assert 'train: 6 samples, in' in output  # the progress, off a terminal
    report = json.loads((tmp_path / 'out.json').read_text())
    assert report['errors'] == 1 and report['findings'][0]['files'] == [
        str(root / 'images/validation/00001.jpg')]
    assert f'{tmp_path} ' in refusal(
        'check_dataset.py', tmp_path / 'c.py', '--out', tmp_path)
