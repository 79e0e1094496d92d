# Mask R-CNN, iFormer-S, on your own data in COCO format: a template.
#   tools/train.py configs/mask_rcnn/iformer_s_custom.py --auto-scale-lr
# Edit the lines down to the rule; the rest follows from them. For boxes
# without masks take ../faster_rcnn/iformer_s_custom.py.
_base_ = 'iformer_s_1x.py'

classes = ('cat', 'dog')
data_root = 'data/custom/'
train_ann, train_img = 'annotations/train.json', 'train/'
val_ann, val_img = 'annotations/val.json', 'val/'
max_epochs = 12
# Start from a whole detector trained on COCO, if you have one:
load_from = None
# -----------------------------------------------------------------------------

model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)),
        mask_head=dict(num_classes=len(classes))))
train_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=train_ann,
        data_prefix=dict(img=train_img)))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=val_ann,
        data_prefix=dict(img=val_img)))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_ann)
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [  # as in 1x, but the warm-up lasts an epoch, however short
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=1,
         convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, begin=0, end=max_epochs,
         milestones=sorted({max_epochs * 2 // 3, max_epochs * 11 // 12} - {0}),
         gamma=0.1),
]
default_hooks = dict(
    checkpoint=dict(save_best='coco/bbox_mAP', max_keep_ckpts=2))
