"""What a step is: of a bare backbone, or of a detector or segmentor."""
from typing import List, Sequence

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from .models import Network, Unavailable, fill


class BackboneTask:
    """The backbone alone: images to maps; the loss is their mean square."""

    name = 'backbone'

    def build(self, network: Network) -> nn.Module:
        """A model with its weights filled in."""
        model = network.build()
        fill(model)
        return model

    def backbone(self, model: nn.Module) -> nn.Module:
        """The part that is folded and compiled."""
        return model

    def maps(self, model: nn.Module, images: Tensor) -> Sequence[Tensor]:
        """What the error is measured on."""
        return model(images)

    def forward(self, model: nn.Module, images: Tensor) -> object:
        """What is timed as ``forward``."""
        return model(images)

    def loss(self, model: nn.Module, images: Tensor) -> Tensor:
        """What is trained on."""
        return sum(out.float().square().mean() for out in model(images))


class ModelTask(BackboneTask):
    """A whole model around each backbone.

    ``forward`` is ``predict`` of a detector, with suppression and masks, and
    the logits of a segmentor. The loss is the model's own, on made-up
    objects. The heads have their initial weights: a detector proposes as
    many regions as it may, and finds next to nothing in them.

    Args:
        config: Of a detector or segmentor; its data pipelines are not used.
        name: For the report.
    """

    def __init__(self, config: Config, name: str) -> None:
        self.config, self.name = config, name

    def build(self, network: Network) -> nn.Module:
        cfg = ConfigDict(self.config.model.to_dict())
        cfg.backbone = ConfigDict(network.cfg)
        if cfg.get('neck'):
            cfg.neck.in_channels = list(network.channels)
        elif cfg.get('decode_head'):
            cfg.decode_head.in_channels = list(network.channels)
        if cfg.get('auxiliary_head') and not cfg.get('neck'):
            cfg.auxiliary_head.in_channels = network.channels[
                cfg.auxiliary_head.in_index]
        init_default_scope(self.config.default_scope)
        torch.manual_seed(0)  # the heads
        try:
            model = revert_sync_batchnorm(MODELS.build(cfg))
        except (ImportError, KeyError) as error:
            raise Unavailable('not in the installed packages') from error
        model.init_weights()
        if network.replacement is not None:
            model.backbone = network.build()
        fill(model.backbone)
        return model

    def backbone(self, model: nn.Module) -> nn.Module:
        return model.backbone

    def maps(self, model: nn.Module, images: Tensor) -> Sequence[Tensor]:
        return model.extract_feat(images)

    def forward(self, model: nn.Module, images: Tensor) -> object:
        if hasattr(model, 'decode_head'):
            return model(images, mode='tensor')
        return model.predict(images, make_samples(model, images),
                             rescale=False)

    def loss(self, model: nn.Module, images: Tensor) -> Tensor:
        losses = model.loss(images, make_samples(model, images))
        return model.parse_losses(losses)[0]


def make_samples(model: nn.Module, images: Tensor) -> List:
    """Ten objects, or two regions, in every image."""
    size = tuple(images.shape[2:])
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size,
                batch_input_shape=size, scale_factor=(1., 1.), img_id=0)
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample
        labels = torch.zeros(1, *size, dtype=torch.long,
                             device=images.device)
        labels[:, size[0] // 2:] = 1
        return [SegDataSample(
            metainfo=meta, gt_sem_seg=PixelData(data=labels))
            for _ in images]
    import numpy as np
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    height, width = size
    corners = [(i * width / 20, i * height / 20) for i in range(10)]
    boxes = torch.tensor([
        (x, y, x + width / 2, y + height / 2) for x, y in corners],
        device=images.device)
    masks = np.zeros((10, height, width), np.uint8)
    for mask, (x, y) in zip(masks, corners):
        mask[int(y):int(y) + height // 2, int(x):int(x) + width // 2] = 1
    return [DetDataSample(metainfo=meta, gt_instances=InstanceData(
        bboxes=boxes, labels=torch.zeros(
            10, dtype=torch.long, device=images.device),
        masks=BitmapMasks(masks, height, width))) for _ in images]
