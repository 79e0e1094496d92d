"""Every way of damaging a good data set is found, and nothing else."""
import json
import shutil
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
    coco,
    files,
    part,
    run,
    segmentation,
)

CHECK = settings(derandomize=True, deadline=None, max_examples=4,
                 database=None)
INF, NAN = float('inf'), float('nan')

# (kind, damage, kinds that may come with it)
COCO = [
    (files.IMAGE_MISSING, d.file('images/*/*.jpg', d.remove)),
    (files.IMAGE_TRUNCATED, d.file('images/*/*.jpg', d.truncate),
     files.IMAGE_UNREADABLE),
    (files.IMAGE_UNREADABLE, d.file('images/*/*.jpg', d.scribble)),
    (coco.WRONG_SIZE, d.file('images/*/*.jpg', d.resize)),
    (coco.UNREADABLE, d.file('annotations/*.json', d.truncate)),
    (coco.UNREADABLE, d.file('annotations/*.json', d.scribble)),
    (coco.MALFORMED, d.edit(d.lose_field), coco.NO_IMAGE, coco.BACKGROUND,
     coco.FILTERED, part.EMPTY_CLASS),
    (coco.MALFORMED, d.edit(d.lose_list), coco.NO_IMAGE, coco.NO_CATEGORY,
     coco.BACKGROUND, coco.FILTERED, part.EMPTY_CLASS, part.EMPTY,
     coco.SHIFTED, run.UNLIKE),
    (coco.SAME_ID, d.edit(d.same_id), coco.NO_IMAGE, coco.FILTERED,
     coco.BACKGROUND),
    (coco.SHIFTED, d.edit(d.rename_category), coco.OTHER, run.UNLIKE,
     coco.FILTERED, coco.BACKGROUND),
    (coco.SHIFTED, d.edit(d.swap_categories), run.UNLIKE),
    (coco.OTHER, d.edit(d.add_category)),
    (coco.UNTRAINED, d.edit(d.lose_category, 'training'), run.UNLIKE,
     coco.NO_CATEGORY, coco.FILTERED),
    (coco.UNTESTABLE, d.edit(d.lose_category, 'validation'), run.UNLIKE,
     coco.NO_CATEGORY, coco.BACKGROUND),
    (part.EMPTY_CLASS, d.edit(d.empty_class)),
    (coco.FILTERED, d.edit(d.strip_image, 'training')),
    (coco.BACKGROUND, d.edit(d.strip_image, 'validation'), part.EMPTY_CLASS),
    (coco.NO_IMAGE, d.settle(image_id=[99, -1, 'x']), coco.FILTERED,
     coco.BACKGROUND, part.EMPTY_CLASS),
    (coco.NO_CATEGORY, d.settle(category_id=[0, 99, 'x']), coco.FILTERED,
     coco.BACKGROUND, part.EMPTY_CLASS),
    (coco.NO_CROWD, d.annotation(
        lambda entry, random: entry.pop('iscrowd'), 'validation')),
    (boxes.BOX_NOT_FINITE, d.put([NAN, INF, -INF, 10 ** 400])),
    (boxes.BOX_EMPTY, d.box(lambda b, r: [*b[:2], r.choice([0, -3, .5]), 9])),
    (boxes.BOX_EMPTY, d.settle(area=[0, -1.5])),
    (boxes.BOX_OUTSIDE, d.box(lambda b, r: r.choice(
        [[64, 5, 9, 9], [5, 200, 9, 9], [-9, 5, 9, 9], [5, -20, 9, 9]]))),
    (boxes.BOX_OVER_EDGE, d.box(lambda b, r: r.choice(
        [[60, 5, 9, 9], [5, 60, 9, 9], [-3, 5, 9, 9], [5, -3, 9, 9]]))),
    (boxes.MASK_NONE, d.settle(segmentation=[None, [], {}])),
    (boxes.MASK_MALFORMED, d.settle(segmentation=[
        'x', 3, [3], [['x'] * 6], dict(size=[1, 2], counts=[2]),
        dict(size=[64, 64], counts=[5]), dict(counts='ab')])),
    (boxes.MASK_NOT_FINITE, d.put_in_polygon([NAN, INF, -INF, 1e9])),
    (boxes.POLYGON_SHORT, d.polygon(
        lambda points, r: points[:r.choice([0, 1, 2, 4, 5, 7])], 'training')),
    (boxes.POLYGON_UNTESTABLE, d.polygon(
        lambda points, r: points[:r.choice([0, 1, 2, 4])], 'validation')),
    (boxes.POLYGON_EMPTY, d.polygon(
        lambda points, r: r.choice([[3.] * 8, [1, 1, 2.5, 2.5, 4, 4]]))),
    (boxes.POLYGON_OUTSIDE, d.polygon(lambda points, r: r.choice(
        [[101, 1, 109, 1, 109, 9], [1, 64, 9, 64, 9, 70],
         [-9, 1, -1, 1, -1, 9], [1, -9, 1, -5, 9, -1]]))),
    (boxes.POLYGON_OVER_EDGE, d.polygon(
        lambda points, r: r.choice([[-9, 5, 9, 5, 9, 9],
                                    [50, 5, 99, 5, 9, 9]]))),
    (run.OVERLAP, d.repeat('images/{}/*.jpg')),
]
SEG = [
    (files.IMAGE_TRUNCATED, d.file('images/*/*.jpg', d.truncate),
     files.IMAGE_UNREADABLE),
    (segmentation.MAP_SPARE, d.file('images/*/*.jpg', lambda path, random:
     d.remove(path, random)[:-4]), part.EMPTY_CLASS),
    (segmentation.MAP_SPARE, d.add_file('annotations/*/*.png', 'more.png')),
    (segmentation.IMAGE_SPARE, d.add_file('images/*/*.jpg', 'more.jpeg')),
    (segmentation.MAP_MISSING, d.file('annotations/*/*.png', d.remove)),
    (files.MAP_UNREADABLE, d.file('annotations/*/*.png', d.truncate)),
    (files.MAP_UNREADABLE, d.file('annotations/*/*.png', d.scribble)),
    (segmentation.MAP_SIZE, d.file('annotations/*/*.png', d.resize)),
    (segmentation.MAP_SIZE, d.file('images/*/*.jpg', lambda path, random:
     d.resize(path, random).split(':')[0])),
    (files.MAP_CHANNELS, d.repaint(
        lambda labels, r: cv2.merge([labels] * 3))),
    (files.MAP_WRAPPED, d.repaint(d.sixteen_bits)),
    (segmentation.LABEL_BEYOND, d.repaint(d.one_pixel)),
    (segmentation.MAP_IGNORED, d.repaint(
        lambda labels, r: np.full_like(labels, r.choice([0, 255])))),
    (part.EMPTY_CLASS, d.erase_label),
    (run.OVERLAP, d.repeat('images/{}/*.jpg')),
]
CLS = [
    (files.IMAGE_TRUNCATED, d.file('crops/*/*/*.jpg', d.truncate),
     files.IMAGE_UNREADABLE),
    (files.IMAGE_UNREADABLE, d.file('crops/*/*/*.jpg', d.scribble)),
    (classification.SPARE, d.add_file('crops/*/*/*.jpg', 'more.txt')),
    (classification.SPARE, d.stray_crop),
    (classification.FOLDER_COUNT, d.add_folder, run.UNLIKE,
     part.EMPTY_CLASS),
    (classification.FOLDER_ORDER, d.rename_folder('wheel'), run.UNLIKE),
    (part.EMPTY_CLASS, d.empty_folder),
    (run.OVERLAP, d.repeat('crops/{}/*/*.jpg')),
]
CASES = [(family, *case) for family, cases in
         dict(coco=COCO, seg=SEG, cls=CLS).items() for case in cases]


@pytest.mark.parametrize('family', d.FAMILIES)
def test_good_data_passes(family, bases, shapes):
    report = d.examine(bases(family), shapes)
    assert report.faults == {} and len(report.read) == 2
    assert str(report).endswith('0 errors, 0 notes')
    assert check_briefly(d.configure(bases(family), shapes),
                         ('train', 'val')).faults == {}


@pytest.mark.parametrize(
    'case', CASES, ids=lambda case: f'{case[0]}: {case[1].title}')
@CHECK
@given(random=st.randoms(use_true_random=False))
def test_each_damage_is_named(case, bases, shapes, random):
    family, kind, damage, *others = case
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, 'shapes')
        shutil.copytree(shapes, root)
        named = damage(root, random)
        report = d.examine(bases(family), root)
    kinds = set(report.faults)
    if kind not in kinds:  # a file cut in its header is no image at all
        kind = files.IMAGE_UNREADABLE
        assert kind in others and kind in kinds, report
    assert len(report.faults[kind]) == 1, report
    assert named in report.faults[kind][0]
    assert kinds <= {kind, *others}, report
    assert str(report).count(kind.title) >= 1
    assert (report.errors > 0) == any(kind.error for kind in kinds)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.just(10 ** 400), st.just('\ud800\x1b[2J\x00'))
JSON = st.recursive(SCALARS, lambda inner: st.one_of(
    st.lists(inner, max_size=3),
    st.dictionaries(st.text(max_size=3), inner, max_size=3)), max_leaves=5)


@settings(CHECK, max_examples=60)
@given(value=JSON, random=st.randoms(use_true_random=False))
def test_no_json_stops_the_check(value, random, bases, shapes):
    """Any value anywhere in the file: a report, and one that prints."""
    source = shapes / 'annotations/instances_training.json'
    content = json.loads(source.read_text())
    node, parent, key = content, None, None
    while isinstance(node, (dict, list)) and node and random.random() < .8:
        parent = node
        key = random.choice(list(node) if isinstance(node, dict)
                            else range(len(node)))
        node = node[key]
    if parent is None:
        content = value
    else:
        parent[key] = value
    cfg = d.configure(bases('coco'), shapes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, 'a.json')
        path.write_text(json.dumps(content))
        cfg.train_dataloader.dataset.ann_file = str(path)
        report = check_data(cfg, ('train', ), by_content=False)
    assert str(report).isascii() or str(report)
    assert '\x1b' not in str(report) and '\ud800' not in str(report)
    json.dumps(report.as_dict())
