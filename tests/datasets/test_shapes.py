"""The synthetic shapes: repeatable, consistent, complete or absent."""
import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS
from pycocotools.coco import COCO
from shapes import CLASSES, draw_scene, make_shapes
from tiny_models import load_in_scope

SMALL = dict(train=6, val=3, size=64)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return make_shapes(tmp_path_factory.mktemp('data') / 'shapes', **SMALL)


def files(root):
    return {str(path.relative_to(root)): path.read_bytes()
            for path in sorted(root.rglob('*')) if path.is_file()}


def test_the_same_seed_makes_the_same_files(root, tmp_path):
    assert files(make_shapes(tmp_path / 'a', **SMALL)) == files(root)
    assert files(make_shapes(tmp_path / 'b', **SMALL, seed=1)) != files(root)


def test_layout(root):
    names = list(files(root))
    assert sum(n.startswith('images/training/') for n in names) == 6
    assert sum(n.startswith('annotations/validation/') for n in names) == 3
    assert 'annotations/instances_training.json' in names


def test_crops_show_the_shapes_of_their_class(root):
    for split in ('training', 'validation'):
        coco = COCO(root / 'annotations' / f'instances_{split}.json')
        crops = list((root / 'crops' / split).glob('*/*.jpg'))
        assert len(crops) == len(coco.anns)
        for image, annotations in coco.imgToAnns.items():
            for number, annotation in enumerate(annotations):
                name = CLASSES[annotation['category_id'] - 1]
                crop = cv2.imread(str(root / 'crops' / split / name /
                                      f'{image:05d}_{number}.jpg'))
                x, y, width, height = annotation['bbox']
                side = int(1.5 * max(width, height))
                assert crop.shape == (side, side, 3)
                whole = cv2.imread(
                    str(root / 'images' / split / f'{image:05d}.jpg'))
                # The shape in the middle, or as near as the edges let it.
                found = cv2.matchTemplate(whole, crop, cv2.TM_SQDIFF)
                _, _, (left, top), _ = cv2.minMaxLoc(found)
                for start, box, size in ((left, x, width), (top, y, height)):
                    middle = box + (size - side) / 2
                    assert abs(start - np.clip(
                        middle, 0, len(whole) - side)) <= 1


def test_both_formats_tell_the_same(root):
    """The polygons drawn in turn are the label map, pixel by pixel."""
    for split, count in (('training', 6), ('validation', 3)):
        coco = COCO(root / 'annotations' / f'instances_{split}.json')
        assert [(c['name'], c['supercategory']) for c in coco.cats.values()
                ] == [(name, 'shape') for name in CLASSES]
        assert len(coco.imgs) == count and len(coco.anns) >= count
        for image in coco.imgs.values():
            labels = cv2.imread(
                str(root / 'annotations' / split / image['file_name'])
                .replace('.jpg', '.png'), cv2.IMREAD_GRAYSCALE)
            drawn = np.ones_like(labels)
            for annotation in coco.imgToAnns[image['id']]:
                mask = coco.annToMask(annotation).astype(bool)
                ys, xs = np.nonzero(mask)
                assert annotation['area'] == mask.sum()
                assert annotation['bbox'] == [
                    xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                drawn[mask] = annotation['category_id'] + 1
            assert (drawn == labels)[labels > 0].all()


def test_a_scene_has_what_it_says():
    kinds, hidden_pixels = set(), 0
    for seed in range(40):
        image, masks, labels, hidden = draw_scene(
            np.random.default_rng(seed), 64)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        kinds.update(labels)
        hidden_pixels += hidden.sum()
        total = np.sum([*masks, hidden], axis=0)
        assert total.max() <= 1  # no pixel is two things
    assert kinds == {0, 1, 2} and hidden_pixels > 0


def test_a_finished_set_is_kept(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob('*')}
    assert make_shapes(root, **SMALL) == root
    assert {p: p.stat().st_mtime_ns for p in root.rglob('*')} == before


def test_another_set_is_not_overwritten(root, tmp_path):
    with pytest.raises(ValueError, match="'seed': 0.*wanted.*'seed': 5"):
        make_shapes(root, **SMALL, seed=5)
    (tmp_path / 'own').mkdir()
    with pytest.raises(ValueError, match='own'):
        make_shapes(tmp_path / 'own', **SMALL)


@pytest.mark.parametrize('broken, result, error', [
    ((json, 'dumps'), lambda *args: 1 / 0, ZeroDivisionError),
    ((cv2, 'imwrite'), lambda *args: False, OSError)])  # a full disk
def test_a_failure_leaves_nothing(broken, result, error, tmp_path,
                                  monkeypatch):
    monkeypatch.setattr(*broken, result)
    with pytest.raises(error):
        make_shapes(tmp_path / 'shapes', **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('folder', ['mask_rcnn', 'fpn_ade20k', 'imagenet'])
def test_configs_build_the_data_sets(folder, configs, root):
    """The stock class of each framework reads what it has to."""
    cfg = load_in_scope(configs / folder / 'iformer_s_shapes.py')
    cfg.val_dataloader.dataset.data_root = str(root)
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    assert tuple(dataset.metainfo['classes'][-3:]) == CLASSES
    sample = dataset[0]['data_samples']
    if folder == 'mask_rcnn':
        assert len(dataset) == 3
        assert len(sample.gt_instances.masks) == len(sample.gt_instances) > 0
    elif folder == 'fpn_ade20k':
        assert len(dataset) == 3
        labels = cv2.imread(str(root / 'annotations/validation/00000.png'), 0)
        assert (sample.gt_sem_seg.data[0].numpy() == labels - 1).all()
    else:
        assert len(dataset) == len([*root.glob('crops/validation/*/*')])
        assert dataset[len(dataset) - 1]['data_samples'].gt_label == 2
