# Mask R-CNN, iFormer-L, COCO, 1x, its optimiser sharded over the GPUs.
#   tools/dist_train.sh configs/mask_rcnn/iformer_l_1x_deepspeed.py 8
# The recipe of iformer_l_1x.py, in less memory; needs `pip install deepspeed`.
# Not trained here.
_base_ = ['iformer_l_1x.py', '../_base_/deepspeed.py']

optim_wrapper = dict(type='DeepSpeedOptimWrapper')
