"""The config of a small good data set, and ways to damage its files."""
import copy
import json

import cv2
from shapes import CLASSES

from mmiformer.kit.checks import check_data

SMALL = dict(train=6, val=3, size=64)
FAMILIES = dict(coco='mask_rcnn', seg='fpn_ade20k', cls='imagenet')
# The first file of each kind.
IMAGE, LABELS, CROP = ('images/training/00000.jpg',
                       'annotations/training/00000.png',
                       'crops/training/circle')


def configure(cfg, root):
    """The config, on the data below root, with random weights and without a
    schedule, which the few images are too few for."""
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.init_cfg = None
    cfg.param_scheduler = []
    base = dict(mmdet='CocoDataset', mmseg='BaseSegDataset',
                mmpretrain='CustomDataset')[cfg.default_scope]
    classes = ('background', *CLASSES) if base == 'BaseSegDataset' else CLASSES
    for split, name in (('train', 'training'), ('val', 'validation')):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(type=base, data_root=str(root),
                       metainfo=dict(classes=classes))
        if base == 'CustomDataset':
            dataset.data_prefix = f'crops/{name}'
        elif base == 'BaseSegDataset':
            dataset.data_prefix = dict(img_path=f'images/{name}',
                                       seg_map_path=f'annotations/{name}')
            dataset.reduce_zero_label = True
        else:
            cfg.val_evaluator.ann_file = str(
                root / 'annotations/instances_validation.json')
    cfg.test_dataloader, cfg.test_evaluator = (
        cfg.val_dataloader, cfg.val_evaluator)
    return cfg


def examine(cfg, root, **kwargs):
    return check_data(configure(cfg, root), ('train', 'val'), **kwargs)


def truncate(path):
    """Keeps the header alone, which no decoder fills up."""
    path.write_bytes(path.read_bytes()[:40])


def resize(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), cv2.resize(
        image, (128, 32), interpolation=cv2.INTER_NEAREST))


def repaint(path, change):
    cv2.imwrite(str(path), change(cv2.imread(
        str(path), cv2.IMREAD_UNCHANGED)))


def edit(root, change, split='training'):
    """Changes the content of a COCO file; returns the path."""
    path = root / f'annotations/instances_{split}.json'
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def annotate(root, split='training', **fields):
    """Sets fields of all annotations."""
    return edit(root, lambda content: [
        entry.update(fields) for entry in content['annotations']], split)
