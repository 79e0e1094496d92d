# iFormer-S, ImageNet-1K, fine-tuned at 384 from the weights at 224.
#   tools/test.py configs/imagenet/iformer_s_384_ft.py mmiformer://iformer_small_384
#   tools/dist_train.sh configs/imagenet/iformer_s_384_ft.py 8
# paper: top-1 84.6. Not trained here.
_base_ = 'iformer_s_300e.py'

model = dict(
    backbone=dict(pretrain_img_size=384, drop_path_rate=0.3),  # released
    train_cfg=dict(augments=[  # released
        dict(type='Mixup', alpha=0.1),
        dict(type='CutMix', alpha=0.1),
    ]))
load_from = 'mmiformer://iformer_small'

# In place of those at 224; peer: tested on the whole image.
train_pipeline = _base_.train_pipeline
train_pipeline[1].scale = 384
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=384, backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64, dataset=dict(pipeline=train_pipeline))  # ours: memory
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(lr=1e-5, weight_decay=1e-8),  # released
    clip_grad=dict(max_norm=1.))  # released
train_cfg = dict(max_epochs=30)  # peer: DeiT, Swin
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-2, by_epoch=True, begin=0, end=5,
         convert_to_iter_based=True),  # peer
    dict(type='CosineAnnealingLR', by_epoch=True, begin=5, end=30,
         T_max=25, eta_min=1e-6, convert_to_iter_based=True),  # peer
]
auto_scale_lr = dict(base_batch_size=512)  # ours: 8 x 64
