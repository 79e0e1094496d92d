# Ablation of the frequency ramp: ever fewer channels for attention.
#   tools/dist_train.sh configs/ablation/ramp_falling.py 8
# paper: top-1 80.5; 19 M parameters, 4.7 G FLOPs, attention counted. Not
# trained here.
#
# The paper gives no numbers of channels. Here attention and the high mixer
# have each other's, block by block (the second stage has as many of both):
# 18.98 M and 4.66 G. iFormer's shares in reverse order would be 4.80 G.
_base_ = 'iformer_s_100e.py'

model = dict(backbone=dict(arch=dict(
    _delete_=True,
    base='small',
    attention_heads=(2, 3, (3, 3, 3, 3, 1, 1, 1, 1, 1), 1))))
