# Mask R-CNN, iFormer-L, COCO, 1x, its parameters sharded over the GPUs.
#   tools/dist_train.sh configs/mask_rcnn/iformer_l_1x_fsdp.py 8
# The recipe of iformer_l_1x.py, in less memory. Not trained here.
_base_ = ['iformer_l_1x.py', '../_base_/fsdp.py']
