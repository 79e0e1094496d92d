# Mask R-CNN, iFormer-S, on the synthetic shapes: the second half of
# `make demo`. It starts from the backbone that the first half has trained.
#   demo/shapes.py
#   tools/train.py configs/fpn_ade20k/iformer_s_shapes.py
#   tools/train.py configs/mask_rcnn/iformer_s_shapes.py
#
# Everything is iformer_s_1x.py but for what the small scale asks for:
# - 128-pixel images of 3 classes; the loaders are COCO's. Shapes may be
#   smaller than 32 pixels, so none is filtered out.
# - Narrow heads (FPN 128, fc 512, two mask convolutions, 64 RoIs): the full
#   ones cost more than the backbone here.
# - Five times the learning rate, no drop path, and the optimiser of the first
#   half: two epochs of 30 steps, 8 images each, some three minutes on 2
#   cores. Half of the training images are enough.
_base_ = 'iformer_s_1x.py'

data_root = 'data/shapes/'  # demo/shapes.py writes it
work_dir = 'work_dirs/mask_rcnn_iformer_s_shapes'

model = dict(
    backbone=dict(
        norm_eval=False,
        drop_path_rate=0.,
        init_cfg=dict(
            checkpoint='work_dirs/fpn_iformer_s_shapes/iter_400.pth')),
    neck=dict(out_channels=128),
    rpn_head=dict(
        in_channels=128,
        feat_channels=128,
        anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128),
        bbox_head=dict(in_channels=128, fc_out_channels=512, num_classes=3),
        mask_roi_extractor=dict(out_channels=128),
        mask_head=dict(
            in_channels=128,
            conv_out_channels=128,
            num_convs=2,
            num_classes=3)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200),
        rcnn=dict(sampler=dict(num=64))),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(max_per_img=20)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(128, 128), keep_ratio=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor')),
]
tta_pipeline = _base_.tta_pipeline
tta_pipeline[-1].transforms[0][0].scale = (128, 128)
metainfo = dict(
    classes=('circle', 'square', 'triangle'),
    palette=[(230, 60, 60), (60, 180, 75), (70, 110, 250)])
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        ann_file='annotations/instances_training.json',
        data_prefix=dict(img='images/training/'),
        indices=240,
        filter_cfg=dict(filter_empty_gt=True, min_size=0),
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        data_root=data_root,
        ann_file='annotations/instances_validation.json',
        data_prefix=dict(img='images/validation/'),
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'annotations/instances_validation.json')
test_evaluator = val_evaluator

optim_wrapper = dict(
    optimizer=dict(lr=5e-4, betas=(0.9, 0.95)),
    clip_grad=dict(max_norm=1.))
train_cfg = dict(max_epochs=2, val_interval=1)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=15),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=15, end=60,
         T_max=45, eta_min=0.),
]
default_hooks = dict(logger=dict(interval=10))
env_cfg = dict(dist_cfg=dict(backend='gloo'))
randomness = dict(seed=0)  # the demo shows the same every time
auto_scale_lr = dict(base_batch_size=8)
