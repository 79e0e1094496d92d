# UperNet, iFormer-S, ADE20K, 160k iterations.
#   tools/dist_train.sh configs/upernet_ade20k/iformer_s_160k.py 8
# The authors' README (not the paper): mIoU 48.4; 49 M parameters, 938 G FLOPs
# at 512x2048 (the auxiliary head counts among the former only), attention not
# counted. Not trained here. Tags: see ../fpn_ade20k/iformer_s_80k.py; `peer` is
# UniFormer's and Swin's public config where nothing else is named.
_base_ = [
    '../_base_/upernet.py',
    '../_base_/ade20k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    backbone=dict(
        drop_path_rate=0.25,  # peer: UniFormer (Swin 0.3)
        init_cfg=dict(
            type='Pretrained',  # released
            checkpoint='mmiformer://iformer_small')))
# peer: tested at the size that the resize gives, not at a multiple of 32.
test_pipeline = [step for step in _base_.test_pipeline
                 if step['type'] != 'ResizeToMultiple']
tta_pipeline = _base_.tta_pipeline
del tta_pipeline[-1].transforms[1]
train_dataloader = dict(batch_size=2)  # peer: 8 GPUs x 2 images
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

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
         end=1501),  # peer
    dict(type='PolyLR', power=1.0, eta_min=0., by_epoch=False, begin=0,
         end=160000),  # peer: from iteration 0, times the warm-up
]
default_hooks = dict(checkpoint=dict(
    interval=16000, save_best='mIoU', max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=16)
