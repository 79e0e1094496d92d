# Ablation of the frequency ramp: half of the channels for attention.
#   tools/dist_train.sh configs/ablation/ramp_equal.py 8
# paper: top-1 80.7; 19 M parameters, 4.7 G FLOPs, attention counted. Not
# trained here.
#
# Half of 96 channels is one head and a half, so the first stage has heads of
# 48 channels: 18.72 M and 4.66 G. With one head of 32 it would be 4.62 G.
_base_ = 'iformer_s_100e.py'

model = dict(backbone=dict(arch=dict(
    _delete_=True,
    base='small',
    num_heads=(2, 6, 10, 12),
    attention_heads=(1, 3, 5, 6))))
