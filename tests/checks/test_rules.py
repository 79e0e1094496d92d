"""What the check says is what mm* does, and where it ends."""
import builtins
import contextlib
import io
import json
import os
from unittest import mock

import cv2
import damages as d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS

from mmiformer.config import load_config
from mmiformer.datasets import make_shapes
from mmiformer.kit.checks import BRIEF, CheckContext, check_data, kinds
from mmiformer.kit.checks.objects import find_box_fault
from mmiformer.kit.checks.segmentation import relabel
from mmiformer.kit.checks.settings import find_heads

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


@pytest.mark.parametrize('family, key, number, kind', [
    ('coco', 'model.roi_head.mask_head.num_classes', 2, kinds.TOO_FEW),
    ('coco', 'model.roi_head.mask_head.num_classes', 1, kinds.ONE_OUTPUT),
    ('coco', 'model.roi_head.bbox_head.num_classes', 256,
     kinds.SPARE_OUTPUTS),
    ('seg', 'model.decode_head.num_classes', 3, kinds.TOO_FEW),
    ('seg', 'model.decode_head.num_classes', 150, kinds.SPARE_OUTPUTS),
    ('cls', 'model.head.num_classes', 2, kinds.TOO_FEW),
    ('cls', 'model.head.num_classes', 1000, kinds.SPARE_OUTPUTS)])
def test_heads_of_other_sizes(family, key, number, kind, bases, shapes):
    cfg = d.configure(bases(family), shapes)
    cfg.merge_from_dict({key: number})
    report = check_data(cfg, ('train', 'val'))
    classes = 4 if family == 'seg' else 3
    assert report.faults[kind] == [
        f'{key}={number}, {split} has {classes} classes'
        for split in ('train', 'val')]
    beyond = kind is kinds.TOO_FEW and family != 'coco'
    assert set(report.faults) == {kind, kinds.LABEL_BEYOND} if beyond else (
        set(report.faults) == {kind})


def test_heads_are_found_in_cascades():
    model = dict(
        backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=[dict(num_classes=2), dict(num_classes=3)],
                      semantic_head=dict(num_classes=183)),
        auxiliary_head=dict(num_classes=4))
    assert find_heads(dict(model=model)) == {
        'model.roi_head.bbox_head.0.num_classes': 2,
        'model.roi_head.bbox_head.1.num_classes': 3,
        'model.auxiliary_head.num_classes': 4}


def test_lists_of_images(bases, shapes, tmp_path):
    """Segmentation and classification from a list of names."""
    cfg = d.configure(bases('seg'), shapes)
    (tmp_path / 'a.txt').write_text('00001\n00003\ngone\n')
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'a.txt')
    report = check_data(cfg, ('train', ))
    assert report.read == [f'train: {shapes}/images/training, 3 images']
    assert report.faults == {
        kinds.IMAGE_MISSING: [
            f'{shapes}/images/training/gone.jpg: no such file'],
        kinds.MAP_MISSING: [
            f'{shapes}/annotations/training/gone.png: no such file']}
    cfg = d.configure(bases('cls'), shapes)
    root = shapes / 'crops/training'
    names = sorted(path.relative_to(root) for path in root.glob('*/*'))
    (tmp_path / 'b.txt').write_text(
        f'{names[0]} 0\n{names[-1]} 2\n{names[-2]} 3\ngone.jpg 1\nodd\n')
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'b.txt')
    assert check_data(cfg, ('train', )).faults == {
        kinds.LINE_MALFORMED: [f"{tmp_path}/b.txt: line 5: 'odd'"],
        kinds.LABEL_BEYOND: [f'{root / names[-2]}: 3, num_classes is 3'],
        kinds.IMAGE_MISSING: [f'{root}/gone.jpg: no such file']}


@DATASETS.register_module(force=True)
class Picky(BaseDataset):
    """Refuses what a check passes."""

    def __init__(self, pipeline, **kwargs):
        raise ValueError('no pipeline')


def test_wrappers_indices_and_data_that_is_not_checked(bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    own = cfg.train_dataloader.dataset
    own.indices = 2
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[
            dict(type='RepeatDataset', times=2, dataset=own),
            dict(own, type='LVISDataset'),
            dict(own, type='CocoPanopticDataset'),
            dict(own, type='Picky'), dict(own, data_root='s3://a/')])
    report = check_data(cfg, ('train', ))
    assert len(report.read) == 1 and '2 images' in report.read[0]
    assert report.faults == {kinds.UNCHECKED: [
        'train: LVISDataset', 'train: CocoPanopticDataset',
        'train_dataloader.dataset (Picky): no pipeline',
        'train_dataloader.dataset (CocoDataset): not on a local disk']}


@pytest.mark.parametrize('key, value, named', [
    ('metainfo', dict(classes='circle'), "classes='circle' is a string"),
    ('no_such_argument', 1, 'no_such_argument'),
    ('type', 'NoSuchDataset', 'NoSuchDataset')])
def test_data_sets_that_cannot_be_built(key, value, named, bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    cfg.train_dataloader.dataset.update({'metainfo': None, key: value})
    report = check_data(cfg, ('train', ))
    assert set(report.faults) == {kinds.UNBUILT}
    assert named in report.faults[kinds.UNBUILT][0]


def test_subclasses_that_make_their_own_files(bases, tmp_path):
    """They are checked as what they read like, after they are built."""
    @DATASETS.register_module(force=True)
    class SelfMade(DATASETS.get('mmdet.CocoDataset')):
        def __init__(self, data_root, **kwargs):
            make_shapes(data_root, **d.SMALL)
            super().__init__(data_root=data_root, **kwargs)

    root = tmp_path / 'made'
    cfg = d.configure(bases('coco'), root)
    cfg.val_dataloader.dataset.type = 'SelfMade'
    assert check_data(cfg, ('val', )).faults == {}
    (root / 'images/validation/00001.jpg').unlink()
    assert check_data(cfg, ('val', )).faults == {kinds.IMAGE_MISSING: [
        f'{root}/images/validation/00001.jpg: no such file']}


def test_configs_of_pure_python(root, tmp_path):
    """Their types are classes, not names."""
    (tmp_path / 'base.py').write_text("default_scope = 'mmdet'")
    (tmp_path / 'own.py').write_text(NEW_STYLE.format(root=str(root)))
    cfg = load_config(str(tmp_path / 'own.py'))
    assert isinstance(cfg.train_dataloader.dataset.type, type)
    report = check_data(cfg, ('train', 'val'))
    assert report.faults == {} and '6 images' in report.read[0]
    (root / 'images/training/00001.jpg').unlink()
    assert set(check_data(cfg, ('train', )).faults) == {kinds.IMAGE_MISSING}
    (root / 'annotations/instances_training.json').write_text('{')
    assert set(check_data(cfg, ('train', )).faults) == {kinds.UNREADABLE}


def test_images_are_read_as_the_pipeline_reads_them(bases, root):
    """Turned by EXIF as OpenCV does, and skipped by ignore_empty."""
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = root / 'images/training/00001.jpg'
    Image.new('RGB', (64, 32)).save(path, exif=exif)
    (root / 'images/training/00002.jpg').unlink()
    cfg = d.configure(bases('coco'), root)
    cfg.train_dataloader.dataset.pipeline[0].ignore_empty = True
    faults = check_data(cfg, ('train', )).faults
    assert faults == {
        kinds.WRONG_SIZE: [
            f'{path}: 32x64, annotated as 64x64, which EXIF 6 turns'],
        kinds.IMAGE_SKIPPED: [
            f'{root}/images/training/00002.jpg: ignore_empty']}
    cfg.train_dataloader.dataset.pipeline[0].color_type = (
        'color_ignore_orientation')
    faults = check_data(cfg, ('train', )).faults
    assert faults[kinds.WRONG_SIZE] == [f'{path}: 64x32, annotated as 64x64']


@pytest.mark.parametrize('family, size, turn, noted', [
    ('coco', (64, 64), 6, True), ('seg', (64, 64), 6, True),
    ('coco', (64, 64), 1, False), ('coco', (64, 32), 3, True),
    ('coco', (64, 32), 8, False), ('cls', (64, 64), 6, False)])
def test_turns_that_sizes_do_not_show(family, size, turn, noted, bases, root):
    """An annotation of the image as it lies in the file, or as it is seen,
    has one size."""
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112] = turn
    path = next(root.glob('crops/training/circle/*') if family == 'cls' else
                root.glob('images/training/00001.jpg'))
    Image.new('RGB', size).save(path, exif=exif)
    cfg = d.configure(bases(family), root)
    if family == 'coco':
        annotations = root / 'annotations/instances_training.json'
        content = json.loads(annotations.read_text())
        image = next(image for image in content['images']
                     if image['file_name'] == path.name)
        image['width'], image['height'] = size[::-1] if turn > 4 else size
        annotations.write_text(json.dumps(content))
    for brief in ({}, BRIEF):
        report = check_data(cfg, ('train', ), CheckContext(**brief))
        assert report.faults.get(kinds.IMAGE_TURNED) == (
            [f'{path}: {turn}'] if noted else None)
        assert kinds.WRONG_SIZE not in report.faults
    step = cfg.train_dataloader.dataset.pipeline[0]
    step.color_type = 'color_ignore_orientation'
    assert kinds.IMAGE_TURNED not in check_data(cfg, ('train', )).faults


def test_hidden_files_are_read_by_nobody(bases, root):
    """macOS's twins of images."""
    for pattern in ('crops/*/circle', 'images/*', 'annotations/*'):
        for folder in root.glob(pattern):
            if folder.is_dir():
                (folder / '._00001.jpg').write_bytes(b'Mac OS X')
                (folder / '._00001.png').write_bytes(b'Mac OS X')
    for family in d.FAMILIES:
        assert d.examine(bases(family), root).faults == {}


def test_masks_of_no_image(bases, root):
    """A run-length mask, in the brief check and in the whole."""
    path = root / 'annotations/instances_training.json'
    content = json.loads(path.read_text())
    content['annotations'].append(dict(
        content['annotations'][0], id=999, image_id=99,
        segmentation=dict(size=[64, 64], counts=[0, 64 * 64])))
    path.write_text(json.dumps(content))
    for brief in ({}, BRIEF):
        assert d.examine(bases('coco'), root, **brief).faults == {
            kinds.NO_IMAGE: [f'{path}: annotation 999: image_id 99']}


def test_labels_are_renamed_as_mmseg_renames_them(tmp_path):
    from mmseg.datasets.transforms import LoadAnnotations
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = str(tmp_path / 'a.png')
    cv2.imwrite(path, labels)
    for reduce in (False, True):
        for moved in (None, {0: 255, 1: 0, 2: 1, 3: 255}):
            loaded = LoadAnnotations(imdecode_backend='cv2')(dict(
                seg_map_path=path, reduce_zero_label=reduce, label_map=moved,
                seg_fields=[]))['gt_seg_map']
            dataset = mock.Mock(reduce_zero_label=reduce, label_map=moved)
            assert (relabel(np.ones(256, int), dataset) ==
                    np.bincount(loaded.ravel(), minlength=256)).all()


@settings(derandomize=True, deadline=None, database=None, max_examples=400)
@given(corner=st.tuples(*[st.sampled_from(
           [-6, -3, -1, 0, 30, 63, 64, 67])] * 2),
       sides=st.tuples(*[st.sampled_from([-1, 0, .5, 1, 2, 3, 6])] * 2),
       area=st.sampled_from([50, 50, 50, 1e-3, 0, -1]))
def test_skipped_boxes_are_those_that_mmdet_skips(corner, sides, area):
    from mmdet.datasets import CocoDataset
    bbox = [*corner, *sides]
    dataset = CocoDataset(lazy_init=True, metainfo=dict(classes=('a', )))
    dataset.data_prefix, dataset.cat_ids, dataset.cat2label = (
        dict(img=''), [1], {1: 0})
    kept = dataset.parse_data_info(dict(
        raw_img_info=dict(img_id=0, file_name='a', width=64, height=64),
        raw_ann_info=[dict(bbox=bbox, area=area, category_id=1)]))['instances']
    kind = find_box_fault(bbox, area, 64, 64)
    assert (not kept) == (kind in (kinds.BOX_EMPTY, kinds.BOX_OUTSIDE))


@pytest.fixture
def touched(tmp_path):
    """The paths below tmp_path that calls of the file system were made for."""
    paths = []

    def record(function):
        def recorded(path, *args, **kwargs):
            if str(path).startswith(str(tmp_path)):
                paths.append(str(path))
            return function(path, *args, **kwargs)
        return recorded

    with contextlib.ExitStack() as stack:
        for module, name in ((os, 'stat'), (os, 'lstat'), (os, 'scandir'),
                             (os, 'listdir'), (io, 'open'),
                             (builtins, 'open')):
            stack.enter_context(mock.patch.object(
                module, name, record(getattr(module, name))))
        yield paths


def listing(family, root, count):
    """Makes a data set with so many listed images; its ann_file."""
    if family == 'coco':
        path = root / 'annotations/instances_training.json'
        content = json.loads(path.read_text())
        content['images'] = [
            dict(id=number, file_name=f'{number}.jpg', width=64, height=64)
            for number in range(count)]
        path.write_text(json.dumps(content))
    else:
        path = root / 'list.txt'
        path.write_text(''.join(f'{number}.jpg 1\n' if family == 'cls' else
                                f'{number}\n' for number in range(count)))
    return str(path)


@pytest.mark.parametrize('family', [
    pytest.param('coco', marks=pytest.mark.slow),
    pytest.param('seg', marks=pytest.mark.slow), 'cls'])
def test_a_million_images_are_not_touched(family, bases, root, touched):
    cfg = d.configure(bases(family), root)
    dataset = cfg.train_dataloader.dataset
    dataset.update(ann_file=listing(family, root, 10**6), indices=None,
                   filter_cfg=None)
    touched.clear()
    report = check_data(cfg, ('train', ), CheckContext(**BRIEF))
    assert '1000000 images' in report.read[0]
    missing = report.faults[kinds.IMAGE_MISSING]
    assert len(missing) == 16
    assert '/0.jpg: ' in missing[0] and '/999999.jpg: ' in missing[-1]
    assert len(touched) < 50


@pytest.mark.parametrize('family', ['seg', 'cls'])
def test_folders_are_listed_without_touching_their_files(
        family, bases, root, touched):
    if family == 'cls':
        for number in range(500):
            (root / f'crops/training/{number}').mkdir()
            (root / f'crops/training/{number}/a.jpg').touch()
    else:
        for number in range(2000):
            (root / f'images/training/x{number}.jpg').touch()
    cfg = d.configure(bases(family), root)
    touched.clear()
    report = check_data(cfg, ('train', ), CheckContext(**BRIEF))
    assert kinds.IMAGE_UNREADABLE in report.faults
    assert len(touched) < 100


def test_large_annotation_files_are_not_opened(bases, root, touched):
    path = root / 'annotations/instances_training.json'
    os.truncate(path, 100_000_001)
    cfg = d.configure(bases('coco'), root)
    with mock.patch.object(json, 'loads') as parse:
        report = check_data(cfg, ('train', ), CheckContext(**BRIEF))
    parse.assert_not_called()
    assert report.errors == 0
    assert report.faults[kinds.UNCHECKED] == [
        f'{path}: 100 MB, above the maximum of 100 MB at the start of a run']
    assert set(check_data(cfg, ('train', )).faults) == {kinds.UNREADABLE}


def test_the_report_names_five_of_many():
    context = CheckContext()
    for number in range(7):
        context.add(kinds.IMAGE_MISSING, f'{number}.jpg\n')
    assert str(context.report).splitlines() == [
        'error: images that are missing: 7 (the loader stops at the first)',
        *(f'    {number}.jpg\\n' for number in range(5)),
        '    ... and 2 more', '7 errors, 0 notes']
    assert context.report.as_dict()['faults'][0]['names'][6] == '6.jpg\\n'
