# ResNet-50 in the place of iFormer-S: data, recipe and length of training are
# those of mask_rcnn/iformer_s_nuclei.py, see docs/real_data.md.
#   tools/train.py configs/peers/r50_mask_rcnn_nuclei.py
_base_ = '../mask_rcnn/iformer_s_nuclei.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='BN'),
        norm_eval=False),
    neck=dict(in_channels=[256, 512, 1024, 2048]))
