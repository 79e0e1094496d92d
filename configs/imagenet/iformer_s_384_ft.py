# iFormer-S, ImageNet-1K, fine-tuned at 384 from the weights at 224.
#   tools/test.py configs/imagenet/iformer_s_384_ft.py mmiformer://iformer_small_384
#   tools/dist_train.sh configs/imagenet/iformer_s_384_ft.py 8
# paper: top-1 84.6 (released: 84.620, the best epoch; 84.568 after the last).
# Not trained here.
_base_ = 'iformer_s_300e.py'

model = dict(
    backbone=dict(pretrain_img_size=384, drop_path_rate=0.3),  # released
    train_cfg=dict(augments=[  # released
        dict(type='Mixup', alpha=0.1),
        dict(type='CutMix', alpha=0.1),
    ]))
load_from = 'mmiformer://iformer_small'

# In place of those at 224.
train_pipeline = _base_.train_pipeline
for branch in train_pipeline[1].transforms:
    branch[0].scale = 384
del branch
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='ResizeEdge', scale=384, edge='short', backend='pillow',
         interpolation='bicubic'),  # released
    dict(type='CenterCrop', crop_size=384),  # released
    dict(type='PackInputs'),
]
train_dataloader = dict(
    batch_size=64, dataset=dict(pipeline=train_pipeline))  # released: 8 x 64
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    optimizer=dict(lr=1e-5, weight_decay=1e-8),  # released
    clip_grad=dict(max_norm=1.))  # released
train_cfg = dict(max_epochs=30)  # released: 20, then 10 at the lowest rate
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=21, T_max=20,
         eta_min=1e-6),  # released: no warm-up
]
auto_scale_lr = dict(base_batch_size=512)  # released: 8 x 64
