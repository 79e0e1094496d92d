"""A good data set, its configs, and ways to damage it, each at a random
place.

Every damage takes the folder of the shapes and a random generator, and
returns what the report must name.
"""
import copy
import json
import shutil

import cv2
import numpy as np

from mmiformer.datasets import CLASSES
from mmiformer.kit.checks import CheckContext, check_data

SMALL = dict(train=6, val=3, size=64)
FAMILIES = dict(coco='mask_rcnn', seg='fpn_ade20k', cls='imagenet')
SPLITS = ('training', 'validation')


def configure(cfg, root):
    """The config, on the data below root, and with random weights."""
    cfg = copy.deepcopy(cfg)
    cfg.model.backbone.init_cfg = None
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
    return check_data(configure(cfg, root), ('train', 'val'),
                      CheckContext(**kwargs))


def pick(random, folder, pattern):
    return random.choice(sorted(folder.glob(pattern)))


def truncate(path, random):
    content = path.read_bytes()
    path.write_bytes(content[:random.randrange(len(content) - 20)])
    return path.name


def scribble(path, random):
    path.write_bytes(bytes(random.choices(
        range(256), k=random.choice([0, 1, 500]))))
    return path.name


def remove(path, random):
    path.unlink()
    return path.name


def resize(path, random):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    width, height = random.choice([(63, 64), (64, 65), (128, 32)])
    cv2.imwrite(str(path), cv2.resize(
        image, (width, height), interpolation=cv2.INTER_NEAREST))
    return f'{path.name}: {width}x{height}'


def file(pattern, damage):
    """A damage of one file among those of a pattern."""
    return lambda root, random: damage(pick(random, root, pattern), random)


def repeat(pattern):
    """A training image is in the validation images too, under its name
    there."""
    def damage(root, random):
        name = pattern.format('validation')
        target = pick(random, root, name)
        shutil.copy(pick(random, root, pattern.format('training')), target)
        return target.name
    return damage


def edit(change, split=None):
    """A damage of one COCO file: ``change`` gets its content, returns what
    the report must name."""
    def damage(root, random):
        name = f'instances_{split or random.choice(SPLITS)}.json'
        path = root / 'annotations' / name
        content = json.loads(path.read_text())
        named = change(content, random)
        path.write_text(json.dumps(content))
        return f'{name}: {named}'
    return damage


def annotation(change, split=None):
    """A damage of one annotation."""
    def damage(content, random):
        entry = random.choice(content['annotations'])
        named = f'annotation {entry["id"]}'
        change(entry, random)
        return named
    return edit(damage, split)


def field(name, change, split=None):
    """A damage of one field of an annotation; ``change`` gets its value."""
    def damage(entry, random):
        entry[name] = change(entry[name], random)
    return annotation(damage, split)


def choose(*values):
    """One of the values, whatever it was."""
    return lambda value, random: random.choice(values)


def cut(*lengths):
    """The first numbers of a list."""
    return lambda numbers, random: numbers[:random.choice(lengths)]


def put(*values):
    """One number of a list becomes one of the values."""
    def change(numbers, random):
        numbers[random.randrange(len(numbers))] = random.choice(values)
        return numbers
    return change


def polygon(change, split=None):
    def damage(polygons, random):
        index = random.randrange(len(polygons))
        polygons[index] = change(polygons[index], random)
        return polygons
    return field('segmentation', damage, split)


def lose_field(content, random):
    name, fields = random.choice([
        ('images', ('id', 'file_name', 'width', 'height')),
        ('annotations', ('id', 'image_id', 'category_id', 'bbox', 'area'))])
    index = random.randrange(len(content[name]))
    field = random.choice(fields)
    if random.random() < .5:
        del content[name][index][field]
    else:
        content[name][index][field] = random.choice([None, {}, [], [1, 'x']])
    return f'{name}[{index}]: '


def lose_list(content, random):
    name = random.choice(['images', 'annotations', 'categories'])
    content[name] = random.choice([None, 'x', 3, {}])
    return f'no list of {name}'


def same_id(content, random):
    name = random.choice(['images', 'annotations'])
    first, second = sorted(random.sample(range(len(content[name])), 2))
    content[name][second]['id'] = content[name][first]['id']
    return f'{name}[{second}]: id {content[name][first]["id"]}'


def rename_category(content, random):
    # Of the last nothing would be shifted.
    random.choice(content['categories'][:2])['name'] = 'wheel'
    return "the file has ["


def swap_categories(content, random):
    content['categories'].reverse()
    return "the file has ['triangle', 'square', 'circle']"


def add_category(content, random):
    content['categories'].insert(
        random.randrange(4), dict(id=9, name='wheel'))
    return "'wheel'"


def lose_category(content, random):
    content['categories'].pop()
    return "'triangle'"


def empty_class(content, random):
    category, other = random.sample(content['categories'], 2)
    for entry in content['annotations']:
        if entry['category_id'] == category['id']:
            entry['category_id'] = other['id']
    return category['name']


def strip_image(content, random):
    image = random.choice(content['images'])
    content['annotations'] = [entry for entry in content['annotations']
                              if entry['image_id'] != image['id']]
    return image['file_name']


def repaint(change):
    """A damage of one label map; ``change`` returns the new one."""
    def damage(root, random):
        path = pick(random, root, 'annotations/*/*.png')
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), change(labels, random))
        return path.name
    return damage


def one_pixel(labels, random):
    row, column = random.randrange(64), random.randrange(64)
    labels[row, column] = random.randrange(5, 255)
    return labels


def sixteen_bits(labels, random):
    labels = labels.astype(np.uint16)
    labels[random.randrange(64), random.randrange(64)] = 256 + 1
    return labels


def erase_label(root, random):
    label = random.randrange(1, 5)
    split = random.choice(SPLITS)
    for path in (root / 'annotations' / split).glob('*.png'):
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels[labels == label] = 0
        cv2.imwrite(str(path), labels)
    return ('train' if split == 'training' else 'val') + ': ' + (
        'background', 'circle', 'square', 'triangle')[label - 1]


def add_file(pattern, name):
    """A file that nothing belongs to, a copy of another."""
    def damage(root, random):
        source = pick(random, root, pattern)
        shutil.copy(source, source.with_name(name))
        return name
    return damage


def stray_crop(root, random):
    source = pick(random, root, 'crops/*/*/*.jpg')
    shutil.copy(source, source.parents[1] / 'more.jpg')
    return 'more.jpg'


def empty_folder(root, random):
    folder = pick(random, root, 'crops/*/*')
    for path in folder.iterdir():
        path.unlink()
    return folder.name


def rename_folder(name):
    def damage(root, random):
        folder = pick(random, root, 'crops/*/circle')
        folder.rename(folder.with_name(name))
        return folder.parent.name
    return damage


def add_folder(root, random):
    (pick(random, root, 'crops/*') / 'wheel').mkdir()
    return 'wheel'
