"""What the check says is what mm* does, and where it ends."""
import copy
import tempfile
from pathlib import Path

import cv2
import damages as d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmiformer.checks import (
    boxes,
    check_briefly,
    check_data,
    classification,
    files,
    part,
    run,
    segmentation,
)


@pytest.mark.parametrize('family, key, number, kind', [
    ('coco', 'model.roi_head.mask_head.num_classes', 2, run.TOO_FEW),
    ('coco', 'model.roi_head.bbox_head.num_classes', 80, run.TOO_FEW),
    ('seg', 'model.decode_head.num_classes', 3, run.TOO_FEW),
    ('seg', 'model.decode_head.num_classes', 150, run.SPARE_OUTPUTS),
    ('cls', 'model.head.num_classes', 2, run.TOO_FEW),
    ('cls', 'model.head.num_classes', 1000, run.SPARE_OUTPUTS)])
def test_heads_of_other_sizes(family, key, number, kind, bases, shapes):
    cfg = copy.deepcopy(bases(family))
    cfg.merge_from_dict({key: number})
    report = d.examine(cfg, shapes)
    classes = 4 if family == 'seg' else 3
    assert report.faults[kind] == [
        f'{key}={number}, {split} has {classes} classes'
        for split in ('train', 'val')]
    assert set(report.faults) <= {kind, segmentation.LABEL_BEYOND}
    beyond = kind is run.TOO_FEW and family != 'coco'
    assert (segmentation.LABEL_BEYOND in report.faults) == beyond


def test_heads_are_found_in_cascades():
    model = dict(
        backbone=dict(num_classes=1000), rpn_head=dict(num_classes=1),
        roi_head=dict(bbox_head=[dict(num_classes=2), dict(num_classes=3)],
                      semantic_head=dict(num_classes=183)),
        auxiliary_head=dict(num_classes=4))
    assert part.find_heads(model) == {
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
        files.IMAGE_MISSING: [f'{shapes}/images/training/gone.jpg'],
        segmentation.MAP_MISSING: [f'{shapes}/annotations/training/gone.png']}
    cfg = d.configure(bases('cls'), shapes)
    names = sorted(path.relative_to(shapes / 'crops/training') for path in
                   (shapes / 'crops/training').glob('*/*'))
    (tmp_path / 'b.txt').write_text(
        f'{names[0]} 0\n{names[-1]} 2\n{names[-2]} 3\ngone.jpg 1\nodd\n')
    cfg.train_dataloader.dataset.ann_file = str(tmp_path / 'b.txt')
    report = check_data(cfg, ('train', ))
    root = shapes / 'crops/training'
    assert report.faults == {
        classification.LINE_MALFORMED: [f"{tmp_path}/b.txt: line 5: 'odd'"],
        segmentation.LABEL_BEYOND: [f'{root / names[-2]}: 3, num_classes is '
                                    '3'],
        files.IMAGE_MISSING: [f'{root}/gone.jpg']}


def test_wrappers_indices_and_strangers(bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    own = cfg.train_dataloader.dataset
    own.indices = 2
    cfg.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[
            dict(type='RepeatDataset', times=2, dataset=own),
            dict(own, type='LVISDataset'), dict(own, data_root='s3://a/')])
    report = check_data(cfg, ('train', ))
    assert report.read[0].startswith('train: ') and '2 images' in report.read[0]
    assert report.faults == {part.UNKNOWN: [
        'train: LVISDataset',
        'train_dataloader.dataset (CocoDataset): not on a local disk']}
    own.metainfo.classes = 'circle'
    own.no_such_argument = 1
    report = check_data(cfg, ('train', ))
    assert 'no_such_argument' in report.faults[part.UNBUILT][0]


def test_classes_as_a_string_are_refused(bases, shapes):
    cfg = d.configure(bases('coco'), shapes)
    cfg.train_dataloader.dataset.metainfo.classes = 'circle'
    report = check_data(cfg, ('train', ))
    assert "classes='circle' is a string" in report.faults[part.UNBUILT][0]


def test_turned_images_have_the_size_that_the_loader_gives(tmp_path):
    from PIL import Image
    exif = Image.Exif()
    exif[files.ORIENTATION] = 6
    Image.new('RGB', (20, 10)).save(tmp_path / 'a.jpg', exif=exif)
    assert files.read_size(str(tmp_path / 'a.jpg')) == (20, 10)
    Image.new('RGB', (20, 10)).save(tmp_path / 'b.jpg')
    assert files.read_size(str(tmp_path / 'b.jpg')) == (10, 20)


def test_labels_are_renamed_as_mmseg_renames_them():
    from mmseg.datasets.transforms import LoadAnnotations
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    label_map = {0: 255, 1: 0, 2: 1, 3: 255}
    for reduce in (False, True):
        for moved in (None, label_map):
            loader = LoadAnnotations(imdecode_backend='cv2')
            with tempfile.TemporaryDirectory() as folder:
                path = f'{folder}/a.png'
                cv2.imwrite(path, labels)
                loaded = loader(dict(
                    seg_map_path=path, reduce_zero_label=reduce,
                    label_map=moved, seg_fields=[]))['gt_seg_map']
            dataset = type('', (), dict(
                reduce_zero_label=reduce, label_map=moved))
            assert (segmentation._relabel(np.ones(256, int), dataset) ==
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
    kind = boxes.find_box_fault(bbox, area, 64, 64)
    assert (not kept) == (kind in (boxes.BOX_EMPTY, boxes.BOX_OUTSIDE))


def test_the_brief_check_is_bounded(bases, shapes, monkeypatch):
    """It decodes a few images, evenly spaced, and reads no huge file."""
    decoded = []
    monkeypatch.setattr(part, 'read_size', lambda path: decoded.append(
        Path(path).name) or (64, 64))
    cfg = d.configure(bases('coco'), shapes)
    monkeypatch.setitem(run.BRIEF, 'sample', 3)
    assert check_briefly(cfg, ('train', )).faults == {}
    assert sorted(decoded) == ['00000.jpg', '00002.jpg', '00005.jpg']
    monkeypatch.setitem(run.BRIEF, 'largest', 1000)
    report = check_briefly(cfg, ('train', ))
    assert 'too large to be read at each start' in report.faults[
        part.UNKNOWN][0]
    assert report.errors == 0


def test_the_report_names_five_of_many():
    report = run.Report()
    for number in range(7):
        report.add(files.IMAGE_MISSING, f'{number}.jpg\n')
    assert str(report).splitlines() == [
        'error: images that are missing: 7 (the loader stops at the first)',
        *(f'    {number}.jpg\\n' for number in range(5)),
        '    ... and 2 more', '7 errors, 0 notes']
    assert report.as_dict()['faults'][0]['names'][6] == '6.jpg\\n'
