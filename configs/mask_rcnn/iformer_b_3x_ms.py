# Mask R-CNN, iFormer-B, COCO, 3x with multi-scale training.
#   tools/dist_train.sh configs/mask_rcnn/iformer_b_3x_ms.py 8
# No row of the paper. Not trained here. Tags: see iformer_s_1x.py.
_base_ = 'iformer_s_3x_ms.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.3,  # peer
        init_cfg=dict(
            checkpoint='mmiformer://iformer_base')),  # released
    neck=dict(in_channels=[96, 192, 384, 512]))
