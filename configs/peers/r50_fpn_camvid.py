# ResNet-50 in the place of iFormer-S: data, recipe and length of training are
# those of fpn_camvid/iformer_s.py, see docs/real_data.md.
#   tools/train.py configs/peers/r50_fpn_camvid.py
_base_ = '../fpn_camvid/iformer_s.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='BN'),
        norm_eval=False),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
