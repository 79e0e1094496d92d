"""A trained model, and an image prepared for it as in testing."""
import textwrap
import warnings
from copy import deepcopy
from types import SimpleNamespace
from typing import Any, Dict, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, MODELS, DefaultScope
from torch import nn

from ..checkpoint import read_checkpoint
from ..config import find_datasets, load_config, type_name


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Builds a config's model, with the weights of a checkpoint.

    Args:
        cfg: Of mmdet, mmseg or mmpretrain.
        checkpoint: Path, URL or name, see
            :func:`~mmiformer.checkpoint.read_checkpoint`: the weights of the
            whole model, or released ones for a classifier.

    Returns:
        The model, in eval mode, on a GPU if there is one.

    Raises:
        ValueError: The weights do not fit in full. ``read_checkpoint`` raises
            others.
    """
    settings = cfg.model.copy()
    if preprocessor := cfg.get('data_preprocessor'):  # as the Runner does it
        settings.setdefault('data_preprocessor', preprocessor)
    with _scope(cfg):
        model = MODELS.build(settings)
    _load_weights(cfg, model, checkpoint)
    return model.to(get_device()).eval()


def _load_weights(cfg: Config, model: nn.Module, checkpoint: str) -> None:
    """Loads every tensor of the model, after the config's hooks have changed
    the checkpoint as they do in a training."""
    content = read_checkpoint(checkpoint)
    hooks = [*(cfg.get('default_hooks') or {}).values(),
             *(cfg.get('custom_hooks') or [])]
    with _scope(cfg):
        for hook in filter(None, hooks):
            kind = HOOKS.get(hook['type']) if isinstance(hook, dict) else None
            if kind and kind.after_load_checkpoint is not (
                    Hook.after_load_checkpoint):
                HOOKS.build(hook).after_load_checkpoint(
                    SimpleNamespace(model=model), content)
    try:
        model.load_state_dict(content.get('state_dict', content))
    except (RuntimeError, ValueError) as error:
        # It may list every tensor of the model.
        reason = textwrap.shorten(str(error), 600)
        raise ValueError(f'{checkpoint}: {reason}') from None


def inferencer(config: Union[str, Config], checkpoint: str) -> Any:
    """The inferencer of the framework that a config is for.

    It takes paths and arrays, which are ``(H, W, 3)`` uint8 in BGR order. The
    names and colours of the classes are those of the config's test data set.
    No code in the checkpoint is run, and none of its settings are used.

    Args:
        config: Of mmdet, mmseg or mmpretrain: a file, one of ours by name
            (``mask_rcnn/iformer_s_1x``), or a loaded one.
        checkpoint: As of :func:`load_model`.

    Returns:
        mmdet's ``DetInferencer``, mmseg's ``MMSegInferencer`` or mmpretrain's
        ``ImageClassificationInferencer``, on a GPU if there is one.

    Raises:
        ValueError: The config is for another framework. :func:`load_model`
            raises others.
    """
    cfg = (deepcopy(config) if isinstance(config, Config)
           else load_config(config))
    scope = cfg.get('default_scope')
    if scope not in ('mmdet', 'mmseg', 'mmpretrain'):
        raise ValueError(
            f"default_scope={scope!r}: expected 'mmdet', 'mmseg', 'mmpretrain'")
    # Inferencers look for a plain data set, and for its steps by name.
    dataset = cfg.test_dataloader.dataset = next(
        find_datasets(cfg.test_dataloader.dataset))
    for step in dataset.pipeline:
        if not isinstance(step['type'], str):
            step['type'] = type_name(step)
    meta = read_meta(cfg)
    with _scope(cfg), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if scope == 'mmpretrain':
            from mmpretrain.apis import ImageClassificationInferencer
            model = load_model(cfg, checkpoint)
            model._config, model.dataset_meta = cfg, meta  # as get_model does
            return ImageClassificationInferencer(
                model, classes=meta['classes'])
        if scope == 'mmdet':
            from mmdet.apis import DetInferencer as Inferencer
            cfg.setdefault('visualizer', dict(type='DetLocalVisualizer'))
        else:
            from mmseg.apis import MMSegInferencer as Inferencer
            cfg.setdefault('visualizer', dict(type='SegLocalVisualizer'))
        # Weights and names follow: the class would run code of the file, and
        # take the names from it, or those of another data set.
        result = Inferencer(model=cfg)
    result.show_progress = False
    _load_weights(cfg, result.model, checkpoint)
    result.model.dataset_meta = result.visualizer.dataset_meta = meta
    return result


def read_meta(cfg: Config) -> Dict[str, Any]:
    """The ``classes`` and, if it has one, the ``palette`` of a config's test
    data set.

    Raises:
        ValueError: The data set has no class names.
    """
    with _scope(cfg):  # lazy: its files need not exist
        dataset = DATASETS.build(
            dict(cfg.test_dataloader.dataset, lazy_init=True, pipeline=[]))
    if not dataset.metainfo.get('classes'):
        raise ValueError('the test data set has no class names: give it '
                         'metainfo=dict(classes=...)')
    return {key: list(dataset.metainfo[key]) for key in ('classes', 'palette')
            if dataset.metainfo.get(key)}


def read_image(cfg: Config, model: nn.Module, path: str
               ) -> Tuple[np.ndarray, Dict[str, Any]]:
    """An image prepared as in testing.

    Args:
        cfg: The model's; its test pipeline is used, without annotations.
        model: Its ``data_preprocessor`` is used.
        path: The image file.

    Returns:
        The image after the pipeline, ``(H, W, 3)`` uint8 RGB, and the output
        of the preprocessor: ``inputs`` ``(1, 3, H', W')``, padded on the
        right and below, and ``data_samples``.
    """
    with _scope(cfg):
        pipeline = Compose([
            step for step in cfg.test_dataloader.dataset.pipeline
            if not type_name(step).endswith('Annotations')])
    packed = pipeline(dict(img_path=path, img_id=0))
    shown = packed['inputs'][:3].clamp(0, 255).to(torch.uint8)  # BGR, or grey
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate([packed]))
    return shown.flip(0).expand(3, -1, -1).permute(1, 2, 0).numpy(), data


def _scope(cfg: Config):
    """Finds names in the registries of the config's framework."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
