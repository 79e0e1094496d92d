# iFormer-S, ImageNet-1K, 224, 300 epochs.
#   tools/test.py configs/imagenet/iformer_s_300e.py mmiformer://iformer_small
#   tools/dist_train.sh configs/imagenet/iformer_s_300e.py 8
# paper: top-1 83.4; 20 M parameters, 4.8 G FLOPs, attention counted. Not
# trained here.
#
# Tags: `paper` (NeurIPS 2022), `released` (the authors' code and weights),
# `peer` (DeiT and Swin in mmpretrain), `ours`.
_base_ = ['../_base_/imagenet.py', '../_base_/classification_runtime.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='mmiformer.IFormer',
        arch='small',
        out_indices=(3, ),
        drop_path_rate=0.2),  # released
    # The norm on the map comes before the average, as released.
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=384,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
        loss=dict(  # released: as DeiT
            type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[  # released: as DeiT
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=1e-3, weight_decay=0.05),  # released
    # released: none on vectors; peer: nor on position maps.
    paramwise_cfg=dict(
        norm_decay_mult=0.,
        bias_decay_mult=0.,
        flat_decay_mult=0.,
        custom_keys=dict(pos_embed=dict(decay_mult=0.))))
train_cfg = dict(by_epoch=True, max_epochs=300, val_interval=1)  # paper
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20,
         convert_to_iter_based=True),  # peer
    dict(type='CosineAnnealingLR', by_epoch=True, begin=20, end=300,
         T_max=280, eta_min=1e-5, convert_to_iter_based=True),  # peer
]
auto_scale_lr = dict(enable=False, base_batch_size=1024)  # peer: 8 x 128
