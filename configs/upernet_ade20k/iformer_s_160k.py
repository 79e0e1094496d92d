# UperNet, iFormer-S, ADE20K, 160k iterations.
#   tools/dist_train.sh configs/upernet_ade20k/iformer_s_160k.py 8
# The authors' README (not the paper): mIoU 48.4; 49 M parameters, 938 G FLOPs
# at 512x2048 (the auxiliary head counts among the former only), attention not
# counted. Not trained here. Tags: see ../fpn_ade20k/iformer_s_80k.py; `peer` is
# Swin and UniFormer.
_base_ = [
    '../_base_/upernet.py',
    '../_base_/ade20k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    backbone=dict(
        drop_path_rate=0.25,  # peer
        init_cfg=dict(
            type='Pretrained',  # released
            checkpoint='mmiformer://iformer_small')))
train_dataloader = dict(batch_size=2)  # peer: 8 GPUs x 2 images

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW', lr=6e-5, betas=(0.9, 0.999),  # peer
        weight_decay=0.01),  # peer
    paramwise_cfg=dict(
        custom_keys={  # peer
            'norm': dict(decay_mult=0.),
            'pos_embed': dict(decay_mult=0.),
        }))
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)  # peer
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0,
         end=1500),  # peer
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=1500,
         end=160000),  # peer
]
default_hooks = dict(checkpoint=dict(interval=16000))
auto_scale_lr = dict(enable=False, base_batch_size=16)
