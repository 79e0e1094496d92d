# A Swin-T to look at beside mask_rcnn/iformer_s_shapes.py: the same data,
# recipe and length of training. See docs/inside.md.
#   tools/train.py configs/peers/swin_t_fpn_shapes.py
#   tools/train.py configs/peers/swin_t_mask_rcnn_shapes.py
_base_ = '../mask_rcnn/iformer_s_shapes.py'

work_dir = 'work_dirs/peers_swin_t_mask_rcnn_shapes'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        embed_dims=96,
        depths=(2, 2, 6, 2),
        num_heads=(3, 6, 12, 24),
        window_size=7,
        drop_path_rate=0.,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/peers_swin_t_fpn_shapes/iter_400.pth')),
    neck=dict(in_channels=[96, 192, 384, 768]))
