"""Everything that would stop or spoil a reproduction is found at once."""
import sys
from collections import namedtuple
from dataclasses import replace

from plans import COCO, make_plan

from mmiformer.reproduce import (
    checks,
    estimate,
)
from mmiformer.reproduce import plan as plans

Usage = namedtuple('Usage', 'total used free')


def test_all_that_is_missing_is_said_at_once(offline, monkeypatch):
    monkeypatch.setattr(checks.shutil, 'disk_usage',
                        lambda path: Usage(9e9, 8e9, 1e9))
    plan = make_plan(available=0, wanted_gpus=9)
    cost = estimate.Estimate(1, 1, 1, 1, None, int(6e9), 1., 1.)
    faults = checks.find_faults(plan, cost, {'SLURM_STEP_NUM_TASKS': '8'})
    for number, part in enumerate((
            'started many times over by srun',
            '--gpus 9, but torch finds 0',
            'no GPU: torch finds none',
            'data/coco/annotations/instances_train2017.json',
            'data/coco/train2017 ',
            'data/coco/annotations/instances_val2017.json',
            'data/coco/val2017 ',
            'iformer_small.pth cannot be downloaded (no network',
            '1.0 GB free, the checkpoints take 6.0')):
        assert part in faults[number]
    assert len(faults) == 9
    assert 'cocodataset.org' in faults[3]


def coco_tree(folder, train, val):
    for split, number in (('train', train), ('val', val)):
        (folder / f'data/coco/{split}2017').mkdir(parents=True)
        for index in range(number):
            (folder / f'data/coco/{split}2017/{index}.jpg').touch()
    (folder / 'data/coco/train2017/notes.txt').touch()
    (folder / 'data/coco/annotations').mkdir()
    for split in ('train', 'val'):
        (folder / f'data/coco/annotations/instances_{split}2017.json'
         ).write_text('{}')


NO_WEIGHTS = ('model.backbone.init_cfg=None', )


def test_too_few_files(offline):
    coco_tree(offline, 3, 2)
    plan = make_plan(cfg_options=NO_WEIGHTS)
    assert checks.find_faults(plan, None, {}) == [
        'data/coco/train2017 has 3 images, 118287 belong there: unpack the '
        'archive again, into an empty folder',
        'data/coco/val2017 has 2 images, 5000 belong there: unpack the '
        'archive again, into an empty folder']
    whole = replace(COCO, images=dict(train=3, val=2))
    assert checks.find_faults(make_plan(
        recipe=whole, cfg_options=NO_WEIGHTS), None, {}) == []


def test_a_test_reads_no_training_data(offline):
    (train, val) = checks.find_faults(
        make_plan(checkpoint='gone.pth'), None, {})[:2]
    assert 'annotations/instances_val2017' in train and 'val2017' in val
    faults = checks.find_faults(make_plan(checkpoint='gone.pth'), None, {})
    assert len(faults) == 3 and faults[2].startswith('gone.pth (load_from)')


def test_ade20k_is_counted_in_images_and_labels(offline):
    for kind in ('images', 'annotations'):
        for split in ('training', 'validation'):
            (offline / 'ade' / kind / split).mkdir(parents=True)
    root = [f'{split}_dataloader.dataset.data_root=ade'
            for split in ('train', 'val', 'test')]
    faults = checks.find_faults(make_plan(
        'ade20k/iformer_s', cfg_options=(*NO_WEIGHTS, *root)), None, {})
    assert [fault.split(':')[0] for fault in faults] == [
        f'ade/{kind}/{split} has 0 images, {number} belong there'
        for split, number in (('training', 20210), ('validation', 2000))
        for kind in ('images', 'annotations')]


def test_embedded_data_needs_nothing(offline):
    plan = make_plan('shapes/fpn', available=0)
    assert plan.gpus == 0
    assert checks.find_faults(plan, None, {}) == []
    (fault, ) = checks.find_faults(
        make_plan('shapes/mask_rcnn', available=0), None, {})
    assert fault.startswith('work_dirs/reproduce/shapes/fpn/train/iter_400')


def test_other_settings_in_the_work_dir(offline):
    plan = make_plan('shapes/fpn', offline)
    plan.write_settings('abc')
    assert plan.read_settings() == (plan.settings, 'abc')
    assert checks.find_faults(plan, None, {}) == []
    (fault, ) = checks.find_faults(
        make_plan('shapes/fpn', offline, seed=1), None, {})
    assert 'holds a run with other settings' in fault and (
        'seed=0' in fault and 'seed=1' in fault)
    (fault, ) = checks.find_faults(
        make_plan('shapes/fpn', offline, available=0), None, {})
    assert "'# shapes/fpn, 1 GPUs' there, '# shapes/fpn, 0 GPUs' now" in fault
    (plan.train_dir / plans.SETTINGS).unlink()
    (plan.train_dir / 'last_checkpoint').write_text('iter_9.pth')
    (fault, ) = checks.find_faults(plan, None, {})  # someone else's run
    assert 'holds a run with other settings' in fault


def test_packages(monkeypatch):
    assert checks.find_package_faults('mmdet') == []
    monkeypatch.setitem(sys.modules, 'pycocotools.mask', None)
    (fault, ) = checks.find_package_faults('mmdet')
    assert fault.startswith('pycocotools.mask cannot be imported (')
    assert 'pip install .[det]' in fault
    assert checks.find_package_faults('mmseg') == []


def test_warnings(monkeypatch):
    monkeypatch.setattr(checks.shutil, 'disk_usage',
                        lambda path: Usage(1e12, 0, 1e12))
    assert checks.find_warnings(make_plan(), None) == []
    name = 'ade20k/iformer_s'
    (few, ) = checks.find_warnings(make_plan(name, available=2), None)
    assert few.startswith('2 x 4 = 8 images an iteration, the recipe has 32: '
                          'the learning rate is scaled by 0.25, and')
    assert '25% of its images are seen' in few
    assert few.endswith('train_dataloader.batch_size=16')
    assert 'are seen' not in checks.find_warnings(
        make_plan(available=2), None)[0]  # epochs see all the same
    own = checks.find_warnings(make_plan(cfg_options=(
        'optim_wrapper.type=AmpOptimWrapper', )), None)
    assert len(own) == 2 and 'settings of your own' in own[0] and (
        'single precision' in own[1])
    monkeypatch.setattr(checks.shutil, 'disk_usage',
                        lambda path: Usage(64e6, 0, 64e6))
    small = estimate.Estimate(1, 1, 1, int(9e9), int(8e9), 1, 1., 1.)
    shared, memory = checks.find_warnings(make_plan(), small)
    assert '0.1 GB' in shared and 'want 8' in shared
    assert 'a GPU has 8 GB and about 9 are needed' in memory
