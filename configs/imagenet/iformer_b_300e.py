# iFormer-B, ImageNet-1K, 224, 300 epochs: iformer_s_300e.py with another size.
#   tools/test.py configs/imagenet/iformer_b_300e.py mmiformer://iformer_base
# paper: top-1 84.6; 48 M parameters, 9.4 G FLOPs, attention counted. Not
# trained here.
_base_ = 'iformer_s_300e.py'

model = dict(
    backbone=dict(arch='base', drop_path_rate=0.4),  # released
    head=dict(in_channels=512))
