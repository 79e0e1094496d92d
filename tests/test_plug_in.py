"""IFormer in stock configs of mmdet and mmsegmentation: a training step and a
prediction of each model, by the lines of the table in docs/downstream.md."""
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData

from mmiformer.config import walk

PAGE = (ROOT / 'docs' / 'downstream.md').read_text()
SIZE = 128
# The published widths, which the table's lines name; one block per stage.
ARCH = dict(base='small', depths=(1, 1, 1, 1), attention_heads=(1, 3, 7, 11))
ADE = '4xb4-160k_ade20k-512x512'
CONFIGS = dict(  # by the model's name, of the package's .mim
    mmdet={
        'Faster R-CNN': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco',
        'Mask R-CNN': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco',
        'Cascade Mask R-CNN':
            'cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco',
        'MS R-CNN': 'ms_rcnn/ms-rcnn_r50_fpn_1x_coco',
        'Grid R-CNN': 'grid_rcnn/grid-rcnn_r50_fpn_gn-head_1x_coco',
        'Double-Head R-CNN': 'double_heads/dh-faster-rcnn_r50_fpn_1x_coco',
        'PointRend': 'point_rend/point-rend_r50-caffe_fpn_ms-1x_coco',
        'HTC': 'htc/htc_r50_fpn_1x_coco',
        'Panoptic FPN': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco',
        'SOLOv2': 'solov2/solov2_r50_fpn_1x_coco',
        'Libra R-CNN': 'libra_rcnn/libra-faster-rcnn_r50_fpn_1x_coco',
        'Mask2Former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco',
        'RetinaNet': 'retinanet/retinanet_r50_fpn_1x_coco',
        'NAS-FPN': 'nas_fpn/retinanet_r50_nasfpn_crop640-50e_coco',
        'FCOS': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
        'ATSS': 'atss/atss_r50_fpn_1x_coco',
        'GFL': 'gfl/gfl_r50_fpn_1x_coco',
        'PAA': 'paa/paa_r50_fpn_1x_coco',
        'VFNet': 'vfnet/vfnet_r50_fpn_1x_coco',
        'CondInst': 'condinst/condinst_r50_fpn_ms-poly-90k_coco_instance',
        'Deformable DETR':
            'deformable_detr/deformable-detr_r50_16xb2-50e_coco',
        'DINO': 'dino/dino-4scale_r50_8xb2-12e_coco',
        'DETR': 'detr/detr_r50_8xb2-150e_coco',
        'Conditional DETR':
            'conditional_detr/conditional-detr_r50_8xb2-50e_coco',
        'YOLOF': 'yolof/yolof_r50-c5_8xb8-1x_coco'},
    mmseg={
        'Semantic FPN': f'sem_fpn/fpn_r50_{ADE}',
        "Semantic FPN (Twins')":
            'twins/twins_pcpvt-s_fpn_fpnhead_8xb4-80k_ade20k-512x512',
        "Semantic FPN (PoolFormer's)":
            'poolformer/fpn_poolformer_s12_8xb4-40k_ade20k-512x512',
        'PointRend': f'point_rend/pointrend_r50_{ADE}',
        'UPerNet': f'upernet/upernet_r50_{ADE}',
        "UPerNet (Swin's)": 'swin/swin-tiny-patch4-window7-in1k-pre_'
        'upernet_8xb2-160k_ade20k-512x512',
        "UPerNet (ConvNeXt's)": 'convnext/convnext-tiny_upernet_8xb2-amp-'
        '160k_ade20k-512x512',
        'SegFormer': 'segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512',
        'FCN': f'fcn/fcn_r50-d8_{ADE}',
        'PSPNet': f'pspnet/pspnet_r50-d8_{ADE}',
        'APCNet': f'apcnet/apcnet_r50-d8_{ADE}',
        'DANet': f'danet/danet_r50-d8_{ADE}',
        'DMNet': f'dmnet/dmnet_r50-d8_{ADE}',
        'EMANet': 'emanet/emanet_r50-d8_4xb2-80k_cityscapes-512x1024',
        'GCNet': f'gcnet/gcnet_r50-d8_{ADE}',
        'ISANet': f'isanet/isanet_r50-d8_{ADE}',
        'NonLocal': f'nonlocal_net/nonlocal_r50-d8_{ADE}',
        'PSANet': f'psanet/psanet_r50-d8_{ADE}',
        'ANN': f'ann/ann_r50-d8_{ADE}',
        'DeepLabV3+': f'deeplabv3plus/deeplabv3plus_r50-d8_{ADE}'})
# One of each family; the last is a cascade. The others run at night.
QUICK = [('mmdet', 'Mask R-CNN'), ('mmdet', 'RetinaNet'), ('mmdet', 'DETR'),
         ('mmseg', 'Semantic FPN'), ('mmseg', 'UPerNet'),
         ('mmseg', 'PointRend')]


class Row(NamedTuple):
    """What the page says of a model."""
    package: str
    name: str
    out_indices: str
    model: str  # what the config's model says beside its backbone


def read_page():
    """The rows of the page's two tables: of mmdet, then of mmseg."""
    tables = PAGE.split('| model | `out_indices`')[1:]
    for package, table in zip(('mmdet', 'mmseg'), tables):
        for names, *lines in re.findall(
                r'^\| (.*) \| `(\(.*\))` \| `(.*)` \|$', table, re.M):
            for name in names.split(', '):
                yield Row(package, name, *lines)


ROWS = [*read_page()]
CASES = [pytest.param(
    row, id=f'{row.package}-{row.name}',
    marks=() if row[:2] in QUICK else pytest.mark.slow) for row in ROWS]

CHILD = '''
_base_ = {base!r}
model = dict(
    {pretrained}
    backbone=dict(_delete_=True, type='mmiformer.IFormer', arch={arch},
                  out_indices={row.out_indices}),
    {row.model})
'''


def test_the_page_names_these_models():
    """And README says how many."""
    assert [(row.package, row.name) for row in ROWS] == [
        (package, name) for package in CONFIGS for name in CONFIGS[package]]
    said, = re.findall(r'(\d+) detectors and (\d+) segmentors',
                       (ROOT / 'README.md').read_text())
    assert [*map(int, said)] == [len(names) for names in CONFIGS.values()]


def read(row, folder):
    """The child of a stock config, as a user writes it, made small."""
    file = folder / 'child.py'
    stock = Path(__import__(row.package).__path__[0], '.mim', 'configs',
                 f'{CONFIGS[row.package][row.name]}.py')
    file.write_text(CHILD.format(
        base=str(stock), row=row, arch=ARCH,
        pretrained='pretrained=None,' if row.package == 'mmseg' else ''))
    # Some bases import mmpretrain, for the backbone that is replaced.
    cfg = Config.fromfile(file, import_custom_modules=False)
    preprocessor = cfg.model.data_preprocessor
    preprocessor.pop('batch_augments', None)  # to the size of their training
    if row.package == 'mmseg':
        preprocessor.size = (SIZE, SIZE)
    if row.name == 'SOLOv2':  # which keeps a mask per class and position
        cfg.model.mask_head.num_classes = 3
    # Few boxes, so that it takes seconds; and some are kept, though a network
    # without training is sure of none.
    few = dict(nms_pre=50, max_per_img=10, num_queries=20, score_thr=0.,
               filter_thr=0.)
    for _, node in walk(cfg.model):
        if isinstance(node, dict):
            node.update({key: value for key, value in few.items()
                         if key in node})
    return cfg


def build(cfg):
    """With the weights that a training begins with: with torch's own, losses
    are so large that PAA's mixture of Gaussians may fail in fp32."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = revert_sync_batchnorm(MODELS.build(cfg.model))
        model.init_weights()
    return model


def batch(package, semantic):
    """Two images, with three objects or a class per pixel."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, SIZE, SIZE), generator=generator,
                           dtype=torch.uint8)
    if package == 'mmdet':
        from mmdet.structures import DetDataSample as Sample
    else:
        from mmseg.structures import SegDataSample as Sample
    samples = []
    for _ in images:
        shape = (SIZE, SIZE)
        sample = Sample(metainfo=dict(
            img_shape=shape, ori_shape=shape, pad_shape=shape,
            batch_input_shape=shape, scale_factor=(1., 1.), img_id=0))
        if package == 'mmdet':
            sample.gt_instances, sample.ignored_instances = objects()
        if semantic:
            labels = torch.randint(
                0, 19, (1, SIZE, SIZE), generator=generator)
            sample.gt_sem_seg = PixelData(**{
                'sem_seg' if package == 'mmdet' else 'data': labels})
        samples.append(sample)
    return dict(inputs=list(images), data_samples=samples)


def objects():
    """Rectangles of three sizes and classes; and none that is ignored."""
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    boxes = torch.tensor([[4, 4, 124, 120], [20, 30, 60, 90],
                          [70, 10, 100, 34]])
    masks = torch.zeros(3, SIZE, SIZE, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = 1
    return [InstanceData(
        bboxes=HorizontalBoxes(boxes[:count].float()),
        labels=torch.arange(count),
        masks=BitmapMasks(masks[:count].numpy(), SIZE, SIZE))
        for count in (3, 0)]


def without_gradient(model, row):
    """Names of the parameters that a training step does not reach."""
    data = batch(row.package, row.package == 'mmseg' or row.name in (
        'HTC', 'Panoptic FPN'))
    losses = model.train()(**model.data_preprocessor(data, True), mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert loss.isfinite()
    return [name for name, parameter in model.named_parameters()
            if parameter.requires_grad and parameter.grad is None]


@pytest.mark.parametrize('row', CASES)
def test_it_plugs_in(row, tmp_path):
    model = build(read(row, tmp_path))
    assert without_gradient(model, row) == []
    for parameter in model.backbone.parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.any()

    one = {key: value[:1]  # mmsegmentation 1.0 and 1.1 test no batches
           for key, value in batch(row.package, False).items()}
    with torch.no_grad():
        found = model.eval().test_step(one)
    for sample in found:
        if 'pred_instances' in sample:
            assert len(sample.pred_instances) > 0
            assert sample.pred_instances.scores.isfinite().all()
        else:
            pixels = sample.get('pred_panoptic_seg', sample.get(
                'pred_sem_seg'))
            labels, = pixels.values()
            assert labels.shape == (1, SIZE, SIZE)
            assert not labels.is_floating_point()


@pytest.mark.slow
@pytest.mark.parametrize('package, name, model, maps', [
    ('mmdet', 'RetinaNet', 'neck=dict(in_channels=[96, 192, 320, 384])', 1),
    ('mmseg', 'PSPNet', 'decode_head=dict(in_channels=384), '
     'auxiliary_head=dict(in_channels=320)', 2)])
def test_a_map_that_nothing_reads(package, name, model, maps, tmp_path):
    """With the default out_indices in place of the page's."""
    row = Row(package, name, '(0, 1, 2, 3)', model)
    assert without_gradient(build(read(row, tmp_path)), row) == [
        f'backbone.stages.{stage}.out_norm.{kind}' for stage in range(maps)
        for kind in ('weight', 'bias')]
