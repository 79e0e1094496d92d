# Mask R-CNN, iFormer-L, COCO, 1x.
#   tools/dist_train.sh configs/mask_rcnn/iformer_l_1x.py 8
# No row of the paper. Not trained here. Tags: see iformer_s_1x.py.
_base_ = 'iformer_s_1x.py'

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.4,  # ours: after 0.2 for S, 0.3 for B
        init_cfg=dict(
            checkpoint='mmiformer://iformer_large')),  # released
    neck=dict(in_channels=[96, 192, 448, 640]))
