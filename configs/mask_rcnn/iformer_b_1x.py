# Mask R-CNN, iFormer-B, COCO, 1x.
#   tools/dist_train.sh configs/mask_rcnn/iformer_b_1x.py 8
# paper: box AP 48.3, mask AP 43.4; 67 M parameters, 351 G FLOPs at 800x1280,
# attention not counted. Not trained here. Tags: see iformer_s_1x.py.
_base_ = 'iformer_s_1x.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,  # peer
        init_cfg=dict(
            checkpoint='mmiformer://iformer_base')),  # released
    neck=dict(in_channels=[96, 192, 384, 512]))
