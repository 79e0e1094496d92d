# Semantic FPN, iFormer-S, on the synthetic shapes: the first half of
# `make demo`.
#   demo/shapes.py
#   tools/train.py configs/fpn_ade20k/iformer_s_shapes.py
#
# Everything is iformer_s_80k.py but for what the small scale asks for:
# - 128-pixel images of 4 classes, each taken whole; the loaders are ADE20K's.
# - Random weights, so no drop path, and five times the learning rate.
# - A short memory of the second moment and clipped gradients: the first, easy
#   step (shape or background) makes gradients so much larger than those of
#   the second (which shape) that plain AdamW stays on the plateau between
#   them for hundreds of iterations.
# - Half the width in the neck and head, which cost more than the backbone.
# - 400 iterations of 4 images (small steps get further here than half as
#   many of 8): some four minutes on 2 cores.
_base_ = 'iformer_s_80k.py'

data_root = 'data/shapes'  # demo/shapes.py writes it
work_dir = 'work_dirs/fpn_iformer_s_shapes'

norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(drop_path_rate=0., norm_cfg=norm_cfg, init_cfg=None),
    neck=dict(out_channels=128),
    decode_head=dict(
        in_channels=[128, 128, 128, 128],
        channels=64,
        num_classes=4,
        norm_cfg=norm_cfg))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='PackSegInputs'),
]
tta_pipeline = _base_.tta_pipeline
tta_pipeline[-1].transforms[0] = [
    dict(type='Resize', scale_factor=ratio, keep_ratio=True)
    for ratio in (0.75, 1.0, 1.25)]
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    reduce_zero_label=True,
    metainfo=dict(
        classes=('background', 'circle', 'square', 'triangle'),
        palette=[(60, 60, 60), (230, 60, 60), (60, 180, 75), (70, 110, 250)]))
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(**dataset, pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=1,  # mmsegmentation 1.0 and 1.1 test no batches
    num_workers=1,
    dataset=dict(**dataset, pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(lr=1e-3, betas=(0.9, 0.95)),
    clip_grad=dict(max_norm=0.1))
train_cfg = dict(max_iters=400, val_interval=100)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=40, end=400,
         T_max=360, eta_min=0.),
]
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=100))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)  # the demo shows the same every time
auto_scale_lr = dict(base_batch_size=4)
