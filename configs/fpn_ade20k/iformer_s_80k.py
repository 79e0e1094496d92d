# Semantic FPN, iFormer-S, ADE20K, 80k iterations.
#   tools/dist_train.sh configs/fpn_ade20k/iformer_s_80k.py 8
#   tools/train.py configs/fpn_ade20k/iformer_s_80k.py --auto-scale-lr
# paper: mIoU 48.6; 24 M parameters, 181 G FLOPs at 512x2048, attention not
# counted. Not trained here.
#
# Every number that is not inherited has a tag: `paper` (NeurIPS 2022: "as PVT
# and UniFormer"), `released` (the authors' code and weights), `peer`
# (UniFormer's public config, or that which is named; the paper states
# nothing), `ours`. docs/recipes.md has the source of each.
_base_ = [
    '../_base_/semantic_fpn.py',
    '../_base_/ade20k.py',
    '../_base_/segmentation_runtime.py',
]

model = dict(
    backbone=dict(
        drop_path_rate=0.1,  # peer
        init_cfg=dict(
            type='Pretrained',  # released
            checkpoint='mmiformer://iformer_small')))

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW',  # paper
        lr=2e-4,  # paper
        betas=(0.9, 0.999),  # peer
        weight_decay=1e-4))  # peer
train_cfg = dict(
    type='IterBasedTrainLoop',
    max_iters=80000,  # paper
    val_interval=4000)  # peer
param_scheduler = [  # paper: cosine; peer: from iteration 0, times the warm-up
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0,
         end=1001),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=80000,
         T_max=80000, eta_min=2e-12),
]
# The last is what is reported; peer: BiFormer keeps the best, too.
default_hooks = dict(
    checkpoint=dict(interval=4000, save_best='mIoU', max_keep_ckpts=2))
auto_scale_lr = dict(enable=False, base_batch_size=32)  # peer: 8 GPUs x 4
