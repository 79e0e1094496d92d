# iFormer-S, ImageNet-1K, 100 epochs: what the paper's ablations start from,
# and their last row: attention + max-pooling + depthwise convolution, more
# channels for attention from block to block.
#   tools/dist_train.sh configs/ablation/iformer_s_100e.py 8
# paper: top-1 81.5 (81.2 in the table of branches); 20 M parameters, 4.8 G
# FLOPs, attention counted. Not trained here.
_base_ = '../imagenet/iformer_s_300e.py'

train_cfg = dict(max_epochs=100)  # paper
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=20,
         convert_to_iter_based=True),  # peer: as for 300 epochs
    dict(type='CosineAnnealingLR', by_epoch=True, begin=20, end=100,
         T_max=80, eta_min=1e-5, convert_to_iter_based=True),  # peer
]
