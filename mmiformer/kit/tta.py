"""Test-time augmentation for mmdet and mmsegmentation."""
import copy

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from ..config import as_list


def use_tta(cfg: Config) -> None:
    """Turns a config's test into one with test-time augmentation.

    A segmentor uses the config's ``tta_pipeline``. A detector without one is
    tested on each image and its mirror image; boxes are merged by NMS. mmdet
    cannot merge masks, so a mask head and its metric are dropped.

    Args:
        cfg: Changed in place.

    Raises:
        ValueError: It is not a detector's, and has no ``tta_pipeline``.
    """
    dataset = cfg.test_dataloader.dataset
    if cfg.get('default_scope') == 'mmdet':
        _drop_masks(cfg)
        cfg.setdefault('tta_model', ConfigDict(
            type='DetTTAModel', tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)))
        if 'tta_pipeline' not in cfg:
            *load, pack = copy.deepcopy(dataset.pipeline)
            if 'meta_keys' in pack:  # the default has them
                pack.meta_keys = (*pack.meta_keys, 'flip', 'flip_direction')
            flips = [dict(type='RandomFlip', prob=prob) for prob in (0., 1.)]
            cfg.tta_pipeline = [
                *load, dict(type='TestTimeAug', transforms=[flips, [pack]])]
    if 'tta_pipeline' not in cfg:
        raise ValueError('--tta needs a tta_pipeline in the config')
    dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


def _drop_masks(cfg: Config) -> None:
    if not cfg.model.get('roi_head', {}).get('mask_head'):
        return
    print_log('TTA: mmdet merges boxes only; masks are neither predicted nor '
              'evaluated', logger='current')
    cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
    for evaluator in as_list(cfg.test_evaluator):
        if isinstance(evaluator.get('metric'), list):
            evaluator.metric = [m for m in evaluator.metric if m != 'segm']
