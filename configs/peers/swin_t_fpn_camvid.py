# Swin-T in the place of iFormer-S: data, recipe and length of training are
# those of fpn_camvid/iformer_s.py, see docs/real_data.md.
#   tools/train.py configs/peers/swin_t_fpn_camvid.py
_base_ = '../fpn_camvid/iformer_s.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.),
    neck=dict(in_channels=[96, 192, 384, 768]))
