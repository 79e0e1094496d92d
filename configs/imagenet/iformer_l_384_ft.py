# iFormer-L, ImageNet-1K, fine-tuned at 384: iformer_s_384_ft.py with another
# size.
#   tools/test.py configs/imagenet/iformer_l_384_ft.py mmiformer://iformer_large_384
# paper: top-1 85.8. Not trained here.
_base_ = 'iformer_s_384_ft.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.6),  # released
    head=dict(in_channels=640))
load_from = 'mmiformer://iformer_large'
