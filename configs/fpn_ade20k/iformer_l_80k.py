# Semantic FPN, iFormer-L, ADE20K, 80k iterations.
#   tools/dist_train.sh configs/fpn_ade20k/iformer_l_80k.py 8
# No row of the paper. Not trained here. Tags: see iformer_s_80k.py.
_base_ = 'iformer_s_80k.py'

model = dict(
    backbone=dict(
        arch='large',
        drop_path_rate=0.3,  # ours: after 0.1 for S, 0.2 for B
        init_cfg=dict(
            checkpoint='mmiformer://iformer_large')),  # released
    neck=dict(in_channels=[96, 192, 448, 640]))
