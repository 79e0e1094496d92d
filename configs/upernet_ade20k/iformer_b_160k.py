# UperNet, iFormer-B, ADE20K, 160k iterations.
#   tools/dist_train.sh configs/upernet_ade20k/iformer_b_160k.py 8
# No published row. Not trained here. Tags: see iformer_s_160k.py.
_base_ = 'iformer_s_160k.py'

model = dict(
    backbone=dict(
        arch='base',
        drop_path_rate=0.4,  # peer: UniFormer, BiFormer
        init_cfg=dict(
            checkpoint='mmiformer://iformer_base')),  # released
    decode_head=dict(in_channels=[96, 192, 384, 512]),
    auxiliary_head=dict(in_channels=384))
