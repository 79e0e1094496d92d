# iFormer-L, ImageNet-1K, fine-tuned at 384: iformer_s_384_ft.py with another
# size.
#   tools/test.py configs/imagenet/iformer_l_384_ft.py mmiformer://iformer_large_384
#   tools/dist_train.sh configs/imagenet/iformer_l_384_ft.py 8
# paper: top-1 85.8 (released: 85.844, the best epoch). Not trained here.
_base_ = 'iformer_s_384_ft.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.6),  # released
    head=dict(in_channels=640))
load_from = 'mmiformer://iformer_large'
train_dataloader = dict(sampler=dict(
    _delete_=True, type='RepeatAugSampler', num_repeats=3))  # released
