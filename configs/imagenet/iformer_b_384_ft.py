# iFormer-B, ImageNet-1K, fine-tuned at 384: iformer_s_384_ft.py with another
# size.
#   tools/test.py configs/imagenet/iformer_b_384_ft.py mmiformer://iformer_base_384
#   tools/dist_train.sh configs/imagenet/iformer_b_384_ft.py 8
# paper: top-1 85.7 (released: 85.706, the best epoch). Not trained here.
_base_ = 'iformer_s_384_ft.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.5),  # released
    head=dict(in_channels=512))
load_from = 'mmiformer://iformer_base'
train_dataloader = dict(sampler=dict(
    _delete_=True, type='RepeatAugSampler', num_repeats=3))  # released
optim_wrapper = dict(optimizer=dict(lr=5e-6))  # released
param_scheduler = _base_.param_scheduler
param_scheduler[0].eta_min = 5e-7  # released
