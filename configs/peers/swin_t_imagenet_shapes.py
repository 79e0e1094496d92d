# A Swin-T to look at beside imagenet/iformer_s_shapes.py: the same data,
# recipe and length of training. For tools/cam.py, see docs/inside.md.
#   tools/train.py configs/peers/swin_t_imagenet_shapes.py
# After so short a training it still guesses: top-1 34.0, measured.
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
