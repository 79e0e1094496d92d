# iFormer-L, ImageNet-1K, 224: iformer_s_300e.py with another size.
#   tools/test.py configs/imagenet/iformer_l_300e.py mmiformer://iformer_large
#   tools/dist_train.sh configs/imagenet/iformer_l_300e.py 8
# paper: top-1 84.8 (released: 84.752, the best epoch); 87 M parameters, 14.0 G
# FLOPs, attention counted. Not trained here.
_base_ = 'iformer_s_300e.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),  # released
    head=dict(in_channels=640))
train_dataloader = dict(sampler=dict(
    _delete_=True, type='RepeatAugSampler', num_repeats=3))  # released
optim_wrapper = dict(clip_grad=dict(max_norm=1.))  # released
param_scheduler = _base_.param_scheduler
param_scheduler[1].eta_min = 1e-5  # released
