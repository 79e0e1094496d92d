# Mask R-CNN, iFormer-S, COCO, 3x with multi-scale training.
#   tools/dist_train.sh configs/mask_rcnn/iformer_s_3x_ms.py 8
# No row of the paper. Not trained here. Tags: see iformer_s_1x.py.
_base_ = 'iformer_s_1x.py'

short_sides = [(1333, side) for side in range(480, 801, 32)]
train_pipeline = [  # peer: Swin and UniFormer, as mmdet writes it for Swin
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [dict(type='RandomChoiceResize', scales=short_sides,
                  keep_ratio=True)],
            [dict(type='RandomChoiceResize',
                  scales=[(1333, 400), (1333, 500), (1333, 600)],
                  keep_ratio=True),
             dict(type='RandomCrop', crop_type='absolute_range',
                  crop_size=(384, 600), allow_negative_crop=True),
             dict(type='RandomChoiceResize', scales=short_sides,
                  keep_ratio=True)],
        ]),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=36)  # peer
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0,
         end=500),  # peer
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=36,
         milestones=[27, 33], gamma=0.1),  # peer
]
