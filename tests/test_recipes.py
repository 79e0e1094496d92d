"""The recipes hold what their sources state, asked of built objects."""
import math

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    HOOKS,
    MODELS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
)
from mmengine.runner import Runner
from PIL import Image
from tiny_models import load_in_scope


def find_steps(pipeline, kind):
    """The built transforms of a pipeline whose type begins with ``kind``."""
    return [TRANSFORMS.build(step) for step in pipeline
            if step.type.startswith(kind)]


def blank(height, width):
    return dict(img=np.zeros((height, width, 3), np.uint8))


def find_length(cfg):
    return cfg.train_cfg.get('max_epochs') or cfg.train_cfg.max_iters


def find_seed_and_hooks(cfg):
    return cfg.randomness.seed, [
        type(HOOKS.build(hook)).__name__ for hook in cfg.custom_hooks]


def find_batch(cfg):
    """Per GPU, and the one that the learning rate is for."""
    loader = Runner.build_dataloader(dict(
        cfg.train_dataloader, dataset=list(range(1024)), num_workers=0,
        persistent_workers=False), seed=0)
    return (loader.batch_size or loader.batch_sampler.batch_size,
            cfg.auto_scale_lr.base_batch_size)


def find_clipping(cfg):
    """And how often an image is repeated in an epoch."""
    wrapper = build_optim_wrapper(
        torch.nn.Linear(1, 1), dict(cfg.optim_wrapper, paramwise_cfg=None))
    indices = [*DATA_SAMPLERS.build(dict(
        cfg.train_dataloader.sampler, dataset=list(range(30)), seed=0))]
    assert len(indices) == 30
    return ((wrapper.clip_grad_kwargs or {}).get('max_norm'),
            max(map(indices.count, indices)))


def find_drop_path(cfg):
    return cfg.model.backbone.drop_path_rate


def find_regularisation(cfg):
    """Drop path of the last block, mixup and cutmix, label smoothing."""
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    rate = model.backbone.stages[-1].blocks[-1].drop_path.rate
    mixes = model.data_preprocessor.batch_augments.augments
    return (round(rate, 6), *(mix.alpha for mix in mixes),
            model.head.loss_module.label_smooth_val)


def find_checkpoint(cfg):
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    return (hook.interval, hook.save_best, hook.save_last,
            cfg.train_cfg.val_interval)


def find_test_size(cfg):
    """Of an image of 300x451 pixels."""
    results = blank(300, 451)
    for step in find_steps(cfg.test_dataloader.dataset.pipeline, 'Resize'):
        results = step(results)
    return results['img'].shape[:2]


def find_tta_heights(cfg):
    """Of an image of 300x400, of which the test makes 512x683."""
    return [TRANSFORMS.build(step)(blank(300, 400))['img'].shape[0]
            for step in cfg.tta_pipeline[-1].transforms[0]]


def find_tta_multiple(cfg):
    return any(step.type == 'ResizeToMultiple'
               for steps in cfg.tta_pipeline[-1].transforms for step in steps)


TTA = {find_tta_heights: [256, 384, 512, 640, 768, 896]}
BEST = (1, ['accuracy/top1'], True, 1)
RECIPES = {
    'imagenet/iformer_s_300e': {
        find_seed_and_hooks: (42, ['SyncBuffersHook']),
        find_length: 310, find_batch: (128, 1024), find_checkpoint: BEST,
        find_clipping: (None, 1), find_regularisation: (.2, .8, 1., .1)},
    'imagenet/iformer_b_300e': {
        find_length: 310, find_batch: (128, 1024),
        find_clipping: (1., 3), find_regularisation: (.4, .8, 1., .1)},
    'imagenet/iformer_l_300e': {
        find_length: 310, find_batch: (128, 1024),
        find_clipping: (1., 3), find_regularisation: (.5, .8, 1., .1)},
    'imagenet/iformer_s_384_ft': {
        find_length: 30, find_batch: (64, 512), find_checkpoint: BEST,
        find_clipping: (1., 1), find_regularisation: (.3, .1, .1, .1)},
    'imagenet/iformer_b_384_ft': {
        find_length: 30, find_batch: (64, 512),
        find_clipping: (1., 3), find_regularisation: (.5, .1, .1, .1)},
    'imagenet/iformer_l_384_ft': {
        find_length: 30, find_batch: (64, 512),
        find_clipping: (1., 3), find_regularisation: (.6, .1, .1, .1)},
    'ablation/mixer_attention': {find_length: 100},
    'mask_rcnn/iformer_s_1x': {find_length: 12, find_batch: (2, 16)},
    'mask_rcnn/iformer_b_3x_ms': {find_length: 36, find_batch: (2, 16)},
    'fpn_ade20k/iformer_s_80k': {
        find_length: 80000, find_batch: (4, 32), **TTA,
        find_checkpoint: (4000, ['mIoU'], True, 4000),
        find_test_size: (512, 800), find_tta_multiple: True},
    'upernet_ade20k/iformer_s_160k': {
        find_length: 160000, find_batch: (2, 16), **TTA,
        find_test_size: (512, 770), find_tta_multiple: False},
    'upernet_ade20k/iformer_b_160k': {find_drop_path: .4},
}


@pytest.mark.parametrize('name', RECIPES)
def test_numbers(name, configs):
    cfg = load_in_scope(configs / f'{name}.py')
    assert {find: find(cfg) for find in RECIPES[name]} == RECIPES[name]


def cosine(base, floor, epochs, warm_up, chosen):
    """What timm 0.5.4 sets for the authors' arguments, by epoch."""
    def rate(epoch):
        if epoch < warm_up:
            return 1e-6 + epoch * (base - 1e-6) / warm_up
        return floor + (base - floor) / 2 * (
            1 + math.cos(math.pi * min(epoch / epochs, 1)))

    return {True: {epoch: rate(epoch) for epoch in chosen}}


ALL = 0, 1, 4, 5, 9, 19, 49, 99, 199, 299, 305
TUNE = 0, 1, 9, 19, 20, 29
WARM_UP = {0: 1e-7, 250: 5.01e-5, 500: 1e-4}
SCHEDULES = {  # {by epoch or by iteration: {at: learning rate}}
    'imagenet/iformer_s_300e': cosine(1e-3, 1e-6, 300, 5, ALL),
    'imagenet/iformer_b_300e': cosine(1e-3, 1e-5, 300, 5, ALL),
    'imagenet/iformer_l_300e': cosine(1e-3, 1e-5, 300, 5, ALL),
    'imagenet/iformer_s_384_ft': cosine(1e-5, 1e-6, 20, 0, TUNE),
    'imagenet/iformer_b_384_ft': cosine(5e-6, 5e-7, 20, 0, TUNE),
    'imagenet/iformer_l_384_ft': cosine(1e-5, 1e-6, 20, 0, TUNE),
    'ablation/mixer_attention': cosine(1e-3, 1e-6, 100, 5, (0, 5, 50, 99)),
    'mask_rcnn/iformer_s_1x': {
        False: WARM_UP, True: {7: 1e-4, 8: 1e-5, 10: 1e-5, 11: 1e-6}},
    'mask_rcnn/iformer_b_3x_ms': {
        False: WARM_UP, True: {26: 1e-4, 27: 1e-5, 32: 1e-5, 33: 1e-6}},
    # The cosine begins at iteration 0; the warm-up multiplies it.
    'fpn_ade20k/iformer_s_80k': {False: {
        i: min(1, 0.1 + 0.9 * i / 1000) *
        1e-4 * (1 + math.cos(math.pi * i / 80000))
        for i in (0, 500, 1000, 40000, 79000)}},
    'upernet_ade20k/iformer_b_160k': {False: {
        i: min(1, 1e-6 + (1 - 1e-6) * i / 1500) * 6e-5 * (1 - i / 160000)
        for i in (0, 750, 1500, 80000, 159000)}},
}


@pytest.mark.parametrize('name', SCHEDULES)
def test_learning_rates(name, configs):
    cfg = load_in_scope(configs / f'{name}.py')
    assert {s.by_epoch for s in cfg.param_scheduler} == {*SCHEDULES[name]}
    for by_epoch, expected in SCHEDULES[name].items():
        optimizer = torch.optim.SGD(
            [torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr)
        schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer))
                      for s in cfg.param_scheduler if s.by_epoch == by_epoch]
        optimizer.step()
        found = []
        for _ in range(max(expected) + 1):
            found.append(optimizer.param_groups[0]['lr'])
            for scheduler in schedulers:
                scheduler.step()
        assert [found[at] for at in expected] == pytest.approx(
            [*expected.values()], rel=5e-3)


def photograph(width, height):
    """Smooth, and different everywhere."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height,
                     (x + y) * 255 // (width + height)], 2).astype(np.uint8)


@pytest.mark.parametrize('name, short, crop, width, height', [
    ('iformer_s_300e', 248, 224, 640, 480),
    ('iformer_l_384_ft', 384, 384, 480, 640)])
def test_imagenet_test_crop(name, short, crop, width, height, configs):
    """As torchvision's Resize and CenterCrop with PIL, which timm builds."""
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    image = photograph(width, height)
    results = dict(img=image)
    for kind in ('Resize', 'CenterCrop'):
        step, = find_steps(cfg.test_dataloader.dataset.pipeline, kind)
        results = step(results)
    size = ((short * width // height, short) if width > height else
            (short, short * height // width))
    resized = np.array(Image.fromarray(image).resize(size, Image.BICUBIC))
    left, top = round((size[0] - crop) / 2), round((size[1] - crop) / 2)
    wanted = resized[top:top + crop, left:left + crop]
    assert results['img'].shape == (crop, crop, 3)
    assert np.array_equal(results['img'], wanted)


@pytest.mark.parametrize('name, size', [
    ('iformer_s_300e', 224), ('iformer_b_384_ft', 384)])
def test_imagenet_training_crop(name, size, configs):
    """The interpolation is drawn anew for each image."""
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    choice = next(step for step in find_steps(
        cfg.train_dataloader.dataset.pipeline, 'RandomChoice'))
    crops = [branch.transforms[0] for branch in choice.transforms]
    assert [crop.interpolation for crop in crops] == ['bilinear', 'bicubic']
    assert {crop.crop_ratio_range for crop in crops} == {(0.08, 1.)}
    for branch in choice.transforms:
        assert branch(blank(400, 300))['img'].shape == (size, size, 3)


@pytest.mark.parametrize('name', ['1x', '3x_ms', 'custom', 'nuclei', 'shapes'])
def test_boxes_are_merged_at_the_test_size(name, configs):
    """Of the image first, whose ground truth the evaluators read."""
    cfg = load_in_scope(configs / f'mask_rcnn/iformer_s_{name}.py')
    resizes, flips = ([
        step for steps in cfg.tta_pipeline[-1].transforms for step in steps
        if step.type == kind] for kind in ('Resize', 'RandomFlip'))
    assert resizes == [step for step in cfg.test_dataloader.dataset.pipeline
                       if step.type == 'Resize'] != []
    assert [flip.prob for flip in flips] == [0., 1.]


@pytest.mark.parametrize('name', [
    'fpn_ade20k/iformer_s_80k', 'fpn_ade20k/iformer_s_custom',
    'fpn_ade20k/iformer_s_shapes', 'fpn_camvid/iformer_s'])
def test_tta_reads_the_labels_as_the_test_does(name, configs):
    cfg = load_in_scope(configs / f'{name}.py')
    plain, augmented = (
        [step for step in steps if step.type == 'LoadAnnotations']
        for steps in (cfg.test_dataloader.dataset.pipeline,
                      sum(cfg.tta_pipeline[-1].transforms, [])))
    assert plain == augmented and len(plain) == 1


@pytest.mark.parametrize('name', ['fpn_ade20k/iformer_s_80k',
                                  'upernet_ade20k/iformer_b_160k'])
def test_segmentation_training_sizes(name, configs):
    """The crop is 512, of images whose short side is 256 to 1024."""
    pipeline = load_in_scope(
        configs / f'{name}.py').train_dataloader.dataset.pipeline
    resize, = find_steps(pipeline, 'RandomResize')
    crop, = find_steps(pipeline, 'RandomCrop')
    sides = []
    for _ in range(40):
        results = resize(blank(300, 400))
        sides.append(min(results['img'].shape[:2]))
        results['gt_seg_map'] = results['img'][..., 0]
        results['seg_fields'] = []
        assert max(crop(results)['img'].shape[:2]) <= 512
    assert 256 <= min(sides) < 500 and 600 < max(sides) <= 1024


def test_sizes_of_three_times(configs):
    """One of two branches: with and without a crop."""
    cfg = load_in_scope(configs / 'mask_rcnn/iformer_b_3x_ms.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert len(find_steps(pipeline, 'RandomFlip')) == 1
    choice, = find_steps(pipeline, 'RandomChoice')
    plain, cropped = choice.transforms
    sides = {min(plain(blank(480, 640))['img'].shape[:2]) for _ in range(200)}
    assert sides == set(range(480, 801, 32))
    first, crop, last = cropped.transforms
    assert [scale[1] for scale in first.scales] == [400, 500, 600]
    assert (crop.crop_type, crop.crop_size, crop.allow_negative_crop) == (
        'absolute_range', (384, 600), True)
    assert [scale[1] for scale in last.scales] == [*range(480, 801, 32)]
