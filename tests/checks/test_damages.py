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

from mmiformer.kit.checks import BRIEF, check_data, kinds

CHECK = settings(derandomize=True, deadline=None, max_examples=4,
                 database=None)
INF, NAN = float('inf'), float('nan')

# (kind, damage, kinds that may come with it)
COCO = [
    (kinds.IMAGE_MISSING, d.file('images/*/*.jpg', d.remove)),
    (kinds.IMAGE_TRUNCATED, d.file('images/*/*.jpg', d.truncate),
     kinds.IMAGE_UNREADABLE),
    (kinds.IMAGE_UNREADABLE, d.file('images/*/*.jpg', d.scribble)),
    (kinds.WRONG_SIZE, d.file('images/*/*.jpg', d.resize)),
    (kinds.UNREADABLE, d.file('annotations/*.json', d.truncate)),
    (kinds.UNREADABLE, d.file('annotations/*.json', d.scribble)),
    (kinds.MALFORMED, d.edit(d.lose_field), kinds.NO_IMAGE, kinds.BACKGROUND,
     kinds.FILTERED, kinds.EMPTY_CLASS),
    (kinds.MALFORMED, d.edit(d.lose_list), kinds.NO_IMAGE, kinds.NO_CATEGORY,
     kinds.BACKGROUND, kinds.FILTERED, kinds.EMPTY_CLASS, kinds.EMPTY,
     kinds.SHIFTED, kinds.UNLIKE, kinds.UNUSED),
    (kinds.SAME_ID, d.edit(d.same_id), kinds.NO_IMAGE, kinds.FILTERED,
     kinds.BACKGROUND),
    (kinds.SHIFTED, d.edit(d.rename_category), kinds.OTHER, kinds.UNLIKE,
     kinds.FILTERED, kinds.BACKGROUND),
    (kinds.SHIFTED, d.edit(d.swap_categories), kinds.UNLIKE),
    (kinds.OTHER, d.edit(d.add_category)),
    (kinds.UNTRAINED, d.edit(d.lose_category, 'training'), kinds.UNLIKE,
     kinds.NO_CATEGORY, kinds.FILTERED),
    (kinds.UNTESTABLE, d.edit(d.lose_category, 'validation'), kinds.UNLIKE,
     kinds.NO_CATEGORY, kinds.BACKGROUND),
    (kinds.EMPTY_CLASS, d.edit(d.empty_class)),
    (kinds.FILTERED, d.edit(d.strip_image, 'training')),
    (kinds.BACKGROUND, d.edit(d.strip_image, 'validation'), kinds.EMPTY_CLASS),
    (kinds.NO_IMAGE, d.field('image_id', d.choose(99, -1, 'x')),
     kinds.FILTERED, kinds.BACKGROUND, kinds.EMPTY_CLASS),
    (kinds.NO_CATEGORY, d.field('category_id', d.choose(0, 99, 'x')),
     kinds.FILTERED, kinds.BACKGROUND, kinds.EMPTY_CLASS),
    (kinds.NO_CROWD, d.annotation(
        lambda entry, random: entry.pop('iscrowd'), 'validation')),
    (kinds.BOX_NOT_FINITE, d.field('bbox', d.put(NAN, INF, -INF, 10**400))),
    (kinds.BOX_EMPTY, d.field('bbox', d.choose(
        [5, 5, 0, 9], [5, 5, -3, 9], [5, 5, .5, 9]))),
    (kinds.BOX_EMPTY, d.field('area', d.choose(0, -1.5))),
    (kinds.BOX_OUTSIDE, d.field('bbox', d.choose(
        [64, 5, 9, 9], [5, 200, 9, 9], [-9, 5, 9, 9], [5, -20, 9, 9]))),
    (kinds.BOX_OVER_EDGE, d.field('bbox', d.choose(
        [60, 5, 9, 9], [5, 60, 9, 9], [-3, 5, 9, 9], [5, -3, 9, 9]))),
    (kinds.MASK_NONE, d.field('segmentation', d.choose(None, [], {}))),
    (kinds.MASK_MALFORMED, d.field('segmentation', d.choose(
        'x', 3, [3], [['x'] * 6], dict(size=[1, 2], counts=[2]),
        dict(size=[64, 64], counts=[5]), dict(counts='ab')))),
    (kinds.MASK_NOT_FINITE, d.polygon(d.put(NAN, INF, -INF, 1e9))),
    (kinds.POLYGON_SHORT, d.polygon(d.cut(0, 1, 2, 4, 5, 7), 'training')),
    (kinds.POLYGON_UNTESTABLE, d.polygon(d.cut(0, 1, 2, 4), 'validation')),
    (kinds.POLYGON_EMPTY, d.polygon(d.choose(
        [3.] * 8, [1, 1, 2.5, 2.5, 4, 4]))),
    (kinds.POLYGON_OUTSIDE, d.polygon(d.choose(
        [101, 1, 109, 1, 109, 9], [1, 64, 9, 64, 9, 70],
        [-9, 1, -1, 1, -1, 9], [1, -9, 1, -5, 9, -1]))),
    (kinds.POLYGON_OVER_EDGE, d.polygon(d.choose(
        [-9, 5, 9, 5, 9, 9], [50, 5, 99, 5, 9, 9]))),
    (kinds.OVERLAP, d.repeat('images/{}/*.jpg')),
]
SEG = [
    (kinds.IMAGE_TRUNCATED, d.file('images/*/*.jpg', d.truncate),
     kinds.IMAGE_UNREADABLE),
    (kinds.MAP_SPARE, d.file('images/*/*.jpg', lambda path, random:
     d.remove(path, random)[:-4]), kinds.EMPTY_CLASS),
    (kinds.MAP_SPARE, d.add_file('annotations/*/*.png', 'more.png')),
    (kinds.IMAGE_SPARE, d.add_file('images/*/*.jpg', 'more.jpeg')),
    (kinds.MAP_MISSING, d.file('annotations/*/*.png', d.remove)),
    (kinds.MAP_UNREADABLE, d.file('annotations/*/*.png', d.truncate)),
    (kinds.MAP_UNREADABLE, d.file('annotations/*/*.png', d.scribble)),
    (kinds.MAP_SIZE, d.file('annotations/*/*.png', d.resize)),
    (kinds.MAP_SIZE, d.file('images/*/*.jpg', lambda path, random:
     d.resize(path, random).split(':')[0]), kinds.UNBATCHABLE),
    (kinds.MAP_CHANNELS, d.repaint(
        lambda labels, r: cv2.merge([labels] * 3))),
    (kinds.MAP_WRAPPED, d.repaint(d.sixteen_bits)),
    (kinds.LABEL_BEYOND, d.repaint(d.one_pixel)),
    (kinds.MAP_IGNORED, d.repaint(
        lambda labels, r: np.full_like(labels, r.choice([0, 255])))),
    (kinds.EMPTY_CLASS, d.erase_label, kinds.MOSTLY_LOST),
    (kinds.OVERLAP, d.repeat('images/{}/*.jpg')),
]
CLS = [
    (kinds.IMAGE_TRUNCATED, d.file('crops/*/*/*.jpg', d.truncate),
     kinds.IMAGE_UNREADABLE),
    (kinds.IMAGE_UNREADABLE, d.file('crops/*/*/*.jpg', d.scribble)),
    (kinds.SPARE, d.add_file('crops/*/*/*.jpg', 'more.txt')),
    (kinds.SPARE, d.stray_crop),
    (kinds.FOLDER_COUNT, d.add_folder, kinds.UNLIKE,
     kinds.EMPTY_CLASS),
    (kinds.FOLDER_ORDER, d.rename_folder('wheel'), kinds.UNLIKE),
    (kinds.EMPTY_CLASS, d.empty_folder),
    (kinds.OVERLAP, d.repeat('crops/{}/*/*.jpg')),
]
CASES = [(family, *case) for family, cases in
         dict(coco=COCO, seg=SEG, cls=CLS).items() for case in cases]


@pytest.mark.parametrize('family', d.FAMILIES)
def test_good_data_passes(family, bases, shapes):
    report = d.examine(bases(family), shapes)
    assert report.faults == {} and len(report.read) == 2
    assert str(report).endswith('0 errors, 0 notes')
    assert d.examine(bases(family), shapes, **BRIEF).faults == {}


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
    found = set(report.faults)
    if kind not in found:  # a file cut in its header is no image at all
        kind = kinds.IMAGE_UNREADABLE
        assert kind in others and kind in found, report
    assert len(report.faults[kind]) == 1, report
    assert named in report.faults[kind][0]
    assert found <= {kind, *others}, report


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
        report = check_data(cfg, ('train', ))
    assert '\x1b' not in str(report) and '\ud800' not in str(report)
    json.dumps(report.as_dict())
