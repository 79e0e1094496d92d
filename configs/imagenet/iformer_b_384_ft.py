# iFormer-B, ImageNet-1K, fine-tuned at 384: iformer_s_384_ft.py with another
# size.
#   tools/test.py configs/imagenet/iformer_b_384_ft.py mmiformer://iformer_base_384
# paper: top-1 85.7. Not trained here.
_base_ = 'iformer_s_384_ft.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.5),  # released
    head=dict(in_channels=512))
load_from = 'mmiformer://iformer_base'
