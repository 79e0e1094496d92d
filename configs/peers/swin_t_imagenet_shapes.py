# A Swin-T to look at beside imagenet/iformer_s_shapes.py: the same data,
# recipe and length of training. For tools/cam.py, see docs/inside.md.
#   tools/train.py configs/peers/swin_t_fpn_shapes.py
#   tools/train.py configs/peers/swin_t_imagenet_shapes.py
#
# From random weights it still guesses after so short a training, and after
# three epochs (top-1 37.5), so it starts with those of segmentation.
_base_ = '../imagenet/iformer_s_shapes.py'

work_dir = 'work_dirs/peers_swin_t_imagenet_shapes'
model = dict(
    backbone=dict(
        _delete_=True,
        type='SwinTransformer',
        arch='tiny',
        img_size=64,
        pad_small_map=True,  # maps of 4 and 2, windows of 7
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone.',
            checkpoint='work_dirs/peers_swin_t_fpn_shapes/iter_400.pth')),
    head=dict(in_channels=768))
