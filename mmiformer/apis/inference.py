"""A trained model, and an image prepared for it as in testing."""
import textwrap
from types import SimpleNamespace
from typing import Any, Dict, List, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import nn

from ..backbone.hub import read_checkpoint
from ..config import type_name
from ..engine.hooks import LoadBackboneHook


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """Builds a config's model, with the weights of a checkpoint.

    Args:
        cfg: Of mmdet, mmseg or mmpretrain.
        checkpoint: Path, URL or name, see
            :func:`~mmiformer.backbone.hub.read_checkpoint`: the weights
            of the whole model, or released ones for a classifier.

    Returns:
        The model, in eval mode, on a GPU if there is one.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As ``read_checkpoint``
            says, and if the weights do not fit in full.
    """
    settings = cfg.model.copy()
    if preprocessor := cfg.get('data_preprocessor'):  # as the Runner does it
        settings.setdefault('data_preprocessor', preprocessor)
    with _scope(cfg):
        model = MODELS.build(settings)
    content = read_checkpoint(checkpoint)
    LoadBackboneHook().after_load_checkpoint(
        SimpleNamespace(model=model), content)
    try:
        model.load_state_dict(content.get('state_dict', content))
    except (RuntimeError, ValueError) as error:
        # It may list every tensor of the model.
        reason = textwrap.shorten(str(error), 600)
        raise ValueError(f'{checkpoint}: {reason}') from None
    return model.to(get_device()).eval()


def class_names(cfg: Config) -> List[str]:
    """The class names of a config's test data set, in their order.

    Raises:
        ValueError: The data set has none.
    """
    with _scope(cfg):  # lazy: its files need not exist
        dataset = DATASETS.build(
            dict(cfg.test_dataloader.dataset, lazy_init=True, pipeline=[]))
    if not dataset.metainfo.get('classes'):
        raise ValueError('the test data set has no class names: give it '
                         'metainfo=dict(classes=...)')
    return list(dataset.metainfo['classes'])


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
    seen = packed['inputs'].clamp(0, 255).to(torch.uint8)  # (3, H, W), BGR
    with torch.no_grad():
        data = model.data_preprocessor(pseudo_collate([packed]))
    return seen.flip(0).permute(1, 2, 0).numpy(), data


def _scope(cfg: Config):
    """Registry names are looked up as the config means them; one process may
    use configs of several packages."""
    return DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
