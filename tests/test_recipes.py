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

SIZES = ('s', 'b', 'l')
# facts, 4.2: base rate, floor, epochs of the cosine, of the warm-up, in all.
RATES = {
    'iformer_s_300e': (1e-3, 1e-6, 300, 5, 310),
    'iformer_b_300e': (1e-3, 1e-5, 300, 5, 310),
    'iformer_l_300e': (1e-3, 1e-5, 300, 5, 310),
    'iformer_s_384_ft': (1e-5, 1e-6, 20, 0, 30),
    'iformer_b_384_ft': (5e-6, 5e-7, 20, 0, 30),
    'iformer_l_384_ft': (1e-5, 1e-6, 20, 0, 30),
}


def rates_by_step(cfg, steps, by_epoch):
    """The learning rate in each of the first epochs, or iterations."""
    optimizer = torch.optim.SGD(
        [torch.zeros(1)], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build(dict(s, optimizer=optimizer))
                  for s in cfg.param_scheduler]
    assert {s.by_epoch for s in schedulers} == {by_epoch}
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


def released_rate(epoch, base, floor, cosine, warm_up):
    """What timm 0.5.4 sets for the authors' arguments."""
    if epoch < warm_up:
        return 1e-6 + epoch * (base - 1e-6) / warm_up
    if epoch < cosine:
        return floor + (base - floor) / 2 * (
            1 + math.cos(math.pi * epoch / cosine))
    return floor


@pytest.mark.parametrize('name', RATES)
def test_imagenet_learning_rate(name, configs):
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    *numbers, epochs = RATES[name]
    assert cfg.train_cfg.max_epochs == epochs
    rates = rates_by_step(cfg, epochs, by_epoch=True)
    chosen = ([0, 1, 4, 5, 9, 19, 49, 99, 199, 299, 305] if epochs == 310
              else [0, 1, 9, 19, 20, 29])
    assert [rates[e] for e in chosen] == pytest.approx(
        [released_rate(e, *numbers) for e in chosen], rel=1e-3)


def test_values_of_the_formula():
    """So that the test above compares with the authors' rates, not ours."""
    small = RATES['iformer_s_300e'][:-1]
    assert released_rate(0, *small) == 1e-6
    assert released_rate(5, *small) == pytest.approx(9.99315e-4, rel=1e-6)
    assert released_rate(149, *small) == pytest.approx(5.05730e-4, rel=1e-5)
    assert released_rate(300, *small) == 1e-6


def test_ablations_take_the_released_schedule_shortened(configs):
    cfg = load_in_scope(configs / 'ablation/mixer_attention.py')
    assert cfg.train_cfg.max_epochs == 100
    rates = rates_by_step(cfg, 100, by_epoch=True)
    assert [rates[e] for e in (0, 5, 50, 99)] == pytest.approx(
        [released_rate(e, 1e-3, 1e-6, 100, 5) for e in (0, 5, 50, 99)],
        rel=5e-3)


def photograph(width, height):
    """Smooth, and different everywhere."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height,
                     (x + y) * 255 // (width + height)], 2).astype(np.uint8)


@pytest.mark.parametrize('name, short, crop', [
    ('iformer_s_300e', 248, 224), ('iformer_l_384_ft', 384, 384)])
@pytest.mark.parametrize('width, height', [(640, 480), (480, 640)])
def test_imagenet_test_crop(name, short, crop, width, height, configs):
    """As torchvision's Resize and CenterCrop with PIL, which timm builds."""
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    image = photograph(width, height)
    results = dict(img=image)
    for step in cfg.test_dataloader.dataset.pipeline[1:-1]:
        results = TRANSFORMS.build(step)(results)
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
    choice = TRANSFORMS.build(cfg.train_dataloader.dataset.pipeline[1])
    crops = [branch.transforms[0] for branch in choice.transforms]
    assert [crop.interpolation for crop in crops] == ['bilinear', 'bicubic']
    assert {crop.crop_ratio_range for crop in crops} == {(0.08, 1.)}
    for branch in choice.transforms:
        out = branch(dict(img=photograph(300, 400)))['img']
        assert out.shape == (size, size, 3)


@pytest.mark.parametrize('name, clip, repeats', [
    ('iformer_s_300e', None, 1), ('iformer_b_300e', 1., 3),
    ('iformer_l_300e', 1., 3), ('iformer_s_384_ft', 1., 1),
    ('iformer_b_384_ft', 1., 3), ('iformer_l_384_ft', 1., 3)])
def test_imagenet_clipping_and_samplers(name, clip, repeats, configs):
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    wrapper = build_optim_wrapper(
        torch.nn.Linear(1, 1), dict(cfg.optim_wrapper, paramwise_cfg=None))
    assert (wrapper.clip_grad_kwargs or {}).get('max_norm') == clip
    sampler = DATA_SAMPLERS.build(dict(
        cfg.train_dataloader.sampler, dataset=list(range(30)), seed=0))
    indices = list(sampler)
    assert len(indices) == 30
    assert max(indices.count(i) for i in indices) == repeats


@pytest.mark.parametrize('name, batch', [
    ('iformer_s_300e', 1024), ('iformer_b_384_ft', 512)])
def test_imagenet_loader_and_hooks(name, batch, configs):
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    assert cfg.auto_scale_lr.base_batch_size == batch
    loader = Runner.build_dataloader(dict(
        cfg.train_dataloader, dataset=list(range(batch // 8 + 1)),
        num_workers=0, persistent_workers=False), seed=0)
    assert len(loader) == 1 and loader.batch_size == batch // 8  # 8 GPUs
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert hook.save_best == ['accuracy/top1']
    assert [type(HOOKS.build(hook)).__name__ for hook in cfg.custom_hooks] == [
        'SyncBuffersHook']
    assert cfg.randomness.seed == 42


@pytest.mark.parametrize('name, decay', [
    ('iformer_s_300e', 0.05), ('iformer_l_384_ft', 1e-8)])
def test_imagenet_decay(name, decay, configs):
    """Vectors and biases do not decay, position maps do."""
    cfg = load_in_scope(configs / f'imagenet/{name}.py')
    model = MODELS.build(cfg.model)
    names = {id(p): n for n, p in model.named_parameters()}
    groups = build_optim_wrapper(model, cfg.optim_wrapper).param_groups
    found = {names[id(p)]: (group['weight_decay'], p.dim())
             for group in groups for p in group['params']
             if id(p) in names}  # mmengine adds a placeholder
    assert found['backbone.stages.0.pos_embed'] == (decay, 4)
    assert found['backbone.stages.2.blocks.0.scale1.layer_scale'][0] == 0
    assert {(d, dim < 2) for d, dim in found.values()} == {
        (decay, False), (0, True)}


@pytest.mark.parametrize('name, drop_path, augments', [
    ('s_300e', 0.2, (0.8, 1.)), ('b_300e', 0.4, (0.8, 1.)),
    ('l_300e', 0.5, (0.8, 1.)), ('s_384_ft', 0.3, (0.1, 0.1)),
    ('b_384_ft', 0.5, (0.1, 0.1)), ('l_384_ft', 0.6, (0.1, 0.1))])
def test_imagenet_regularisation(name, drop_path, augments, configs):
    cfg = load_in_scope(configs / f'imagenet/iformer_{name}.py')
    model = MODELS.build(cfg.model)
    assert model.backbone.stages[-1].blocks[-1].drop_path.rate == (
        pytest.approx(drop_path))
    mixes = model.data_preprocessor.batch_augments.augments
    assert tuple(mix.alpha for mix in mixes) == augments
    assert model.head.loss_module.label_smooth_val == 0.1


def test_detection_schedule(configs):
    """The warm-up counts iterations, the steps epochs."""
    cfg = load_in_scope(configs / 'mask_rcnn/iformer_s_1x.py')
    warm_up, steps = cfg.param_scheduler
    cfg.param_scheduler = [warm_up]
    rates = rates_by_step(cfg, 501, by_epoch=False)
    assert [rates[i] for i in (0, 250, 500)] == pytest.approx(
        [1e-7, 5.01e-5, 1e-4], rel=5e-3)
    cfg.param_scheduler = [steps]
    rates = rates_by_step(cfg, 12, by_epoch=True)
    assert [rates[e] for e in (7, 8, 10, 11)] == pytest.approx(
        [1e-4, 1e-5, 1e-5, 1e-6])
    assert cfg.train_cfg.max_epochs == 12
    assert cfg.auto_scale_lr.base_batch_size == 16
    assert cfg.train_dataloader.batch_size == 2


def test_semantic_fpn_schedule(configs):
    """The cosine begins at iteration 0; the warm-up multiplies it."""
    cfg = load_in_scope(configs / 'fpn_ade20k/iformer_s_80k.py')
    rates = rates_by_step(cfg, 80000, by_epoch=False)
    chosen = [0, 500, 1000, 40000, 79000]
    assert [rates[i] for i in chosen] == pytest.approx([
        min(1, 0.1 + 0.9 * i / 1000) *
        1e-4 * (1 + math.cos(math.pi * i / 80000)) for i in chosen], rel=1e-3)
    assert cfg.train_cfg.max_iters == 80000
    assert cfg.train_cfg.val_interval == 4000
    hook = HOOKS.build(cfg.default_hooks.checkpoint)
    assert (hook.interval, hook.save_best, hook.save_last) == (
        4000, ['mIoU'], True)
    assert cfg.train_dataloader.batch_size == 4
    assert cfg.auto_scale_lr.base_batch_size == 32


def test_upernet_schedule(configs):
    cfg = load_in_scope(configs / 'upernet_ade20k/iformer_b_160k.py')
    rates = rates_by_step(cfg, 160000, by_epoch=False)
    chosen = [0, 750, 1500, 80000, 159000]
    assert [rates[i] for i in chosen] == pytest.approx([
        min(1, 1e-6 + (1 - 1e-6) * i / 1500) * 6e-5 * (1 - i / 160000)
        for i in chosen], rel=1e-3)
    assert cfg.model.backbone.drop_path_rate == 0.4
    assert cfg.train_dataloader.batch_size == 2


@pytest.mark.parametrize('name, size', [
    ('fpn_ade20k/iformer_s_80k', (512, 800)),  # a multiple of 32
    ('upernet_ade20k/iformer_s_160k', (512, 770))])
def test_segmentation_test_sizes(name, size, configs):
    cfg = load_in_scope(configs / f'{name}.py')
    results = dict(img=np.zeros((300, 451, 3), np.uint8))
    for step in cfg.test_dataloader.dataset.pipeline[1:]:
        if step.type.startswith('Resize'):
            results = TRANSFORMS.build(step)(results)
    assert results['img'].shape[:2] == size


@pytest.mark.parametrize('name', ['1x', '3x_ms', 'custom', 'nuclei', 'shapes'])
def test_boxes_are_merged_at_the_test_size(name, configs):
    """Of the image first, whose ground truth the evaluators read."""
    cfg = load_in_scope(configs / f'mask_rcnn/iformer_s_{name}.py')
    (resize, ), _, flips, _ = cfg.tta_pipeline[-1].transforms
    assert resize == cfg.test_dataloader.dataset.pipeline[1]
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
                                  'upernet_ade20k/iformer_s_160k'])
def test_multi_scale_test_scales_the_test_size(name, configs):
    """Not the raw image: 300x400 becomes 512x683 times each ratio."""
    steps = load_in_scope(configs / f'{name}.py').tta_pipeline[-1].transforms
    resizes = steps[0]
    assert len(resizes) == 6
    heights = [TRANSFORMS.build(step)(dict(img=np.zeros(
        (300, 400, 3), np.uint8)))['img'].shape[0] for step in resizes]
    assert heights == [256, 384, 512, 640, 768, 896]
    divides = [step.type == 'ResizeToMultiple' for (step, *_) in steps]
    assert any(divides) == name.startswith('fpn')


def test_three_times_schedule_and_sizes(configs):
    """A flip, then one of two branches: with and without a crop."""
    cfg = load_in_scope(configs / 'mask_rcnn/iformer_b_3x_ms.py')
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert [step.type for step in pipeline[2:4]] == [
        'RandomFlip', 'RandomChoice']
    plain, cropped = TRANSFORMS.build(pipeline[3]).transforms
    image = np.zeros((480, 640, 3), np.uint8)
    sides = set()
    for _ in range(200):
        sides.add(min(plain(dict(img=image))['img'].shape[:2]))
    assert sides == set(range(480, 801, 32))
    first, crop, last = cropped.transforms
    assert [scale[1] for scale in first.scales] == [400, 500, 600]
    assert (crop.crop_type, crop.crop_size, crop.allow_negative_crop) == (
        'absolute_range', (384, 600), True)
    assert [scale[1] for scale in last.scales] == [*range(480, 801, 32)]
    assert cfg.train_cfg.max_epochs == 36
    cfg.param_scheduler = cfg.param_scheduler[1:]
    rates = rates_by_step(cfg, 36, by_epoch=True)
    assert [rates[e] for e in (26, 27, 32, 33)] == pytest.approx(
        [1e-4, 1e-5, 1e-5, 1e-6])
