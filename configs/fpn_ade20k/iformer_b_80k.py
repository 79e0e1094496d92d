# Semantic FPN, iFormer-B, ADE20K, 80k iterations.
#   tools/dist_train.sh configs/fpn_ade20k/iformer_b_80k.py 8
# No row of the paper. Not trained here. Tags: see iformer_s_80k.py.
_base_ = 'iformer_s_80k.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.2,  # peer
        init_cfg=dict(
            checkpoint='mmiformer://iformer_base')),  # released
    neck=dict(in_channels=[96, 192, 384, 512]))
