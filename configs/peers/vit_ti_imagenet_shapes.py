# A ViT to look at beside imagenet/iformer_s_shapes.py: the same data and
# recipe. For tools/spectrum.py, see docs/inside.md.
#   tools/train.py configs/peers/vit_ti_imagenet_shapes.py
#
# - Patches of 8 pixels: a crop of 64 has 64 of them, a photograph of 224 as
#   many as a map of iFormer's at stride 8 has positions.
# - Five times the epochs: after two it still guesses.
_base_ = '../imagenet/iformer_s_shapes.py'

work_dir = 'work_dirs/peers_vit_ti_imagenet_shapes'
model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch='deit-tiny',
        img_size=64,
        patch_size=8,
        out_type='avg_featmap'),
    neck=None,
    head=dict(in_channels=192))
train_cfg = dict(max_epochs=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=10, T_max=10,
         eta_min=0., convert_to_iter_based=True),
]
