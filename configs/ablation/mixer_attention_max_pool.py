# Ablation of the mixer: attention and max-pooling.
#   tools/dist_train.sh configs/ablation/mixer_attention_max_pool.py 8
# paper: top-1 81.0; 20 M parameters, 4.9 G FLOPs, attention counted. Not
# trained here.
#
# Max-pooling has the channels of both branches of the high mixer: 19.94 M and
# 4.91 G.
_base_ = 'iformer_s_100e.py'

model = dict(backbone=dict(arch=dict(
    _delete_=True, base='small', branches=('max_pool', 'attention'))))
