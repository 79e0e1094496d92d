# iFormer-L, ImageNet-1K, 224, 300 epochs: iformer_s_300e.py with another size.
#   tools/test.py configs/imagenet/iformer_l_300e.py mmiformer://iformer_large
# paper: top-1 84.8; 87 M parameters, 14.0 G FLOPs, attention counted. Not
# trained here.
_base_ = 'iformer_s_300e.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.5),  # released
    head=dict(in_channels=640))
