"""Test-time augmentation for both frameworks."""
import copy

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log


def use_tta(cfg: Config) -> None:
    """Turns a config's test into one with test-time augmentation.

    A segmentor uses the config's ``tta_pipeline``. A detector without one
    tests each image and its mirror image; boxes are merged by NMS. mmdet has
    no merging of masks, so a mask head and its metric are left out.

    Args:
        cfg: Changed in place.

    Raises:
        ValueError: It is no detector's, and has no ``tta_pipeline``.
    """
    dataset = cfg.test_dataloader.dataset
    if cfg.default_scope == 'mmdet':
        _drop_masks(cfg)
        cfg.setdefault('tta_model', ConfigDict(
            type='DetTTAModel', tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
        if 'tta_pipeline' not in cfg:
            *load, pack = copy.deepcopy(dataset.pipeline)
            pack.meta_keys = (*pack.meta_keys, 'flip', 'flip_direction')
            flips = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]
            cfg.tta_pipeline = [
                *load, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    if 'tta_pipeline' not in cfg:
        raise ValueError('the config has no tta_pipeline for --tta')
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _drop_masks(cfg: Config) -> None:
    if not cfg.model.get('roi_head', {}).get('mask_head'):
        return
    print_log('TTA: mmdet merges boxes alone; masks are neither predicted nor '
              'evaluated', logger='current')
    cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    evaluators = cfg.test_evaluator
    for evaluator in evaluators if isinstance(evaluators, list) else [
            evaluators]:
        if isinstance(evaluator.get('metric'), list):
            evaluator.metric = [m for m in evaluator.metric if m != 'segm']
