# Semantic FPN, iFormer-S, on your own label maps: a template.
#   tools/train.py configs/fpn_ade20k/iformer_s_custom.py --auto-scale-lr
# Edit the lines down to the rule; the rest follows from them. A label map is a
# PNG whose pixels are class indices, 0 the first class, 255 ignored.
_base_ = 'iformer_s_80k.py'

classes = ('background', 'road', 'building')
palette = [[0, 0, 0], [128, 64, 128], [70, 70, 70]]
data_root = 'data/custom'
img_suffix, seg_map_suffix = '.jpg', '.png'
train_prefix = dict(img_path='images/train', seg_map_path='annotations/train')
val_prefix = dict(img_path='images/val', seg_map_path='annotations/val')
max_iters = 20000
# -----------------------------------------------------------------------------

model = dict(decode_head=dict(num_classes=len(classes)))

# Class 0 counts here; ADE20K's 0 means "nothing".
load_labels = dict(type='LoadAnnotations', reduce_zero_label=False)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    load_labels,
    dict(
        type='RandomResize',
        scale=(2048, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='ResizeToMultiple', size_divisor=32),
    load_labels,
    dict(type='PackSegInputs'),
]
tta_pipeline = _base_.tta_pipeline
tta_pipeline[-1].transforms[3] = [load_labels]
dataset = dict(
    type='BaseSegDataset',
    data_root=data_root,
    metainfo=dict(classes=classes, palette=palette),
    img_suffix=img_suffix,
    seg_map_suffix=seg_map_suffix)
train_dataloader = dict(
    dataset=dict(
        **dataset, data_prefix=train_prefix, pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(**dataset, data_prefix=val_prefix, pipeline=test_pipeline))
test_dataloader = val_dataloader

interval = max(max_iters // 10, 1)
train_cfg = dict(max_iters=max_iters, val_interval=interval)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0,
         end=min(1001, interval + 1)),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=0, end=max_iters,
         T_max=max_iters, eta_min=0.),
]
default_hooks = dict(
    checkpoint=dict(
        interval=interval, save_best='mIoU', max_keep_ckpts=2))
