# Classification, iFormer-S, on the synthetic shapes.
#   demo/shapes.py
#   tools/train.py configs/imagenet/iformer_s_shapes.py
#
# Everything is iformer_s_300e.py but for what the small scale asks for:
# - Crops of 64 pixels of 3 classes, each taken whole; no augmentation but
#   mirror images, no label smoothing, no drop path.
# - The optimiser of the other shapes configs, see
#   fpn_ade20k/iformer_s_shapes.py: a short memory and clipped gradients.
_base_ = 'iformer_s_300e.py'

work_dir = 'work_dirs/imagenet_iformer_s_shapes'

model = dict(
    data_preprocessor=dict(num_classes=3),
    backbone=dict(drop_path_rate=0.),
    head=dict(
        num_classes=3,
        topk=(1, ),
        loss=dict(_delete_=True, type='CrossEntropyLoss')),
    train_cfg=None)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=64),
    dict(type='PackInputs'),
]
dataset = dict(
    _delete_=True,
    type='CustomDataset',
    metainfo=dict(classes=('circle', 'square', 'triangle')),
    data_root='data/shapes')  # demo/shapes.py writes it
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(**dataset, data_prefix='crops/training',
                 pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(**dataset, data_prefix='crops/validation',
                 pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=(1, ))
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(lr=5e-4, betas=(0.9, 0.95)),
    clip_grad=dict(max_norm=1.))
train_cfg = dict(max_epochs=2)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=2, T_max=2,
         eta_min=0., convert_to_iter_based=True),
]
default_hooks = dict(logger=dict(interval=10))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)
auto_scale_lr = dict(base_batch_size=32)
