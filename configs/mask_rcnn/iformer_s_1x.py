# Mask R-CNN, iFormer-S, COCO, 1x.
#   tools/dist_train.sh configs/mask_rcnn/iformer_s_1x.py 8
#   tools/train.py configs/mask_rcnn/iformer_s_1x.py --auto-scale-lr  (one GPU)
# paper: box AP 46.2, mask AP 41.9; 40 M parameters, 263 G FLOPs at 800x1280,
# attention not counted. Not trained here.
#
# Every number that is not inherited has a tag: `paper` (NeurIPS 2022),
# `released` (the authors' code and weights), `peer` (UniFormer's public config,
# or that which is named; the paper states nothing), `ours`.
# docs/recipes.md has the source of each, and what its uncertainty may be worth.
_base_ = [
    'mmdet::_base_/models/mask-rcnn_r50_fpn.py',
    'mmdet::_base_/datasets/coco_instance.py',  # paper: short side 800, <= 1333
    'mmdet::_base_/schedules/schedule_1x.py',  # paper: 12 epochs; peer: steps
    'mmdet::_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmiformer.IFormer',
        arch='small',
        norm_eval=True,  # peer: BiFormer; UniFormer trains BatchNorm per GPU
        drop_path_rate=0.2,  # peer
        init_cfg=dict(
            type='Pretrained',  # released
            checkpoint='mmiformer://iformer_small')),
    neck=dict(in_channels=[96, 192, 320, 384]))

# tools/test.py --tta: the image and its mirror image, boxes merged by NMS. mmdet
# merges no masks, so these are neither predicted nor evaluated.
tta_model = dict(
    type='DetTTAModel',
    tta_cfg=dict(  # peer: mmdet's default
        nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(1333, 800), keep_ratio=True)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='RandomFlip', prob=0.),
             dict(type='RandomFlip', prob=1.)],
            [dict(type='PackDetInputs',
                  meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                             'scale_factor', 'flip', 'flip_direction'))],
        ]),
]

optim_wrapper = dict(
    optimizer=dict(
        _delete_=True,
        type='AdamW',  # paper
        lr=1e-4,  # paper
        betas=(0.9, 0.999),  # peer
        weight_decay=0.05),  # peer
    paramwise_cfg=dict(
        custom_keys={
            'norm': dict(decay_mult=0.),  # peer
            'pos_embed': dict(decay_mult=0.),  # peer
            'layer_scale': dict(decay_mult=0.),  # ours
        }))

runner_type = 'mmiformer.ResumableRunner'  # --resume is exact
default_hooks = dict(
    # load_from takes released weights as well as a whole detector's.
    backbone_weights=dict(type='mmiformer.LoadBackboneHook'),
    # Stops at a loss or gradient that is not finite; None removes it.
    non_finite=dict(type='mmiformer.NonFiniteHook'))

auto_scale_lr = dict(base_batch_size=16)  # paper: 8 GPUs x 2 images
