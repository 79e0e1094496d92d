# Ablation of the mixer: attention alone.
#   tools/dist_train.sh configs/ablation/mixer_attention.py 8
# paper: top-1 80.8; 21 M parameters, 5.2 G FLOPs, attention counted. Not
# trained here.
#
# The paper does not say how channels and pooling are set here. All channels
# attend, on maps that are pooled where iFormer's are, and the fusion stays:
# that has 20.93 M and 5.22 G. Without pooling it would be 11.6 G.
_base_ = 'iformer_s_100e.py'

model = dict(backbone=dict(
    arch=dict(_delete_=True, base='small', branches=('attention', ))))
