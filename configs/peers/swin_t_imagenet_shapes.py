# A Swin-T to look at beside imagenet/iformer_s_shapes.py: the same data and
# recipe. For tools/cam.py, see docs/inside.md.
#   tools/train.py configs/peers/swin_t_imagenet_shapes.py
# Five times the epochs: after two it still guesses.
_base_ = '../imagenet/iformer_s_shapes.py'

work_dir = 'work_dirs/peers_swin_t_imagenet_shapes'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch='tiny',
        img_size=64,
        pad_small_map=True),  # maps of 4 and 2, windows of 7
    head=dict(in_channels=768))
train_cfg = dict(max_epochs=10)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=10, T_max=10,
         eta_min=0., convert_to_iter_based=True),
]
