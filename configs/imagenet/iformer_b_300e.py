# iFormer-B, ImageNet-1K, 224: iformer_s_300e.py with another size.
#   tools/test.py configs/imagenet/iformer_b_300e.py mmiformer://iformer_base
#   tools/dist_train.sh configs/imagenet/iformer_b_300e.py 8
# paper: top-1 84.6 (released: 84.598, the best epoch); 48 M parameters, 9.4 G
# FLOPs, attention counted. Not trained here.
_base_ = 'iformer_s_300e.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.4),  # released
    head=dict(in_channels=512))
train_dataloader = dict(sampler=dict(
    _delete_=True, type='RepeatAugSampler', num_repeats=3))  # released
optim_wrapper = dict(clip_grad=dict(max_norm=1.))  # released
param_scheduler = _base_.param_scheduler
param_scheduler[1].eta_min = 1e-5  # released
