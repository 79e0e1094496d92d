# Ablation of the fusion: branches are only concatenated.
#   tools/dist_train.sh configs/ablation/no_fusion.py 8
# paper: top-1 83.0 after 300 epochs, 83.4 with the fusion. Not trained here.
_base_ = '../imagenet/iformer_s_300e.py'

model = dict(backbone=dict(
    arch=dict(_delete_=True, base='small', fusion=False)))
