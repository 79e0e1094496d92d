"""Parameters and FLOPs of any mmengine model, in two stated conventions."""
import math
from dataclasses import dataclass
from typing import Dict, List, Tuple

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

# Products of two activations, by the names of mmengine's analyser. The paper's
# COCO and ADE20K tables leave them out, its ImageNet table counts them.
ATTENTION_OPERATORS = ('attention', 'matmul', 'bmm', 'einsum')
FUSED_ATTENTION = tuple(f'aten::{name}' for name in (
    'scaled_dot_product_attention', '_scaled_dot_product_math',
    '_scaled_dot_product_flash_attention',
    '_scaled_dot_product_flash_attention_for_cpu',
    '_scaled_dot_product_efficient_attention',
    '_scaled_dot_product_cudnn_attention',
    '_scaled_dot_product_fused_attention_overrideable'))


@dataclass(frozen=True)
class Complexity:
    """The size of a model at one input shape.

    A FLOP is one multiplication with its addition, as in the literature;
    a norm counts 5 (affine LayerNorm) or 1 to 2 (BatchNorm) per value.

    Attributes:
        params: Parameters.
        flops: Convolutions, linear layers, norms and upsampling: the
            convention of the paper's COCO and ADE20K tables.
        flops_with_attention: The same plus the products inside attention:
            the convention of the paper's ImageNet table.
        operators: FLOPs by operator.
    """
    params: int
    flops: int
    flops_with_attention: int
    operators: Dict[str, int]


def count(model: nn.Module, shape: Tuple[int, int]) -> Complexity:
    """Counts one forward pass on one image.

    Args:
        model: A detector, segmentor, classifier or bare backbone, on any
            device.
        shape: Height and width of the image in pixels.

    Returns:
        The counts. They depend neither on the weights nor on which attention
        kernel runs; a two-stage detector gets as many proposals as its test
        configuration allows.
    """
    training = model.training
    device = next(model.parameters()).device
    channels = next((layer.in_channels for layer in model.modules()
                     if isinstance(layer, nn.Conv2d)), 3)
    image = torch.rand(1, channels, *shape, device=device)
    try:
        with torch.no_grad():
            model.eval()  # not chained: mmdet's ResNet and Swin return None
            analyzer = FlopAnalyzer(_Forward(model, shape), image)
            analyzer.unsupported_ops_warnings(False)
            analyzer.uncalled_modules_warnings(False)
            for name in FUSED_ATTENTION:
                analyzer.set_op_handle(name, _count_attention)
            operators = dict(analyzer.by_operator())
    finally:
        model.train(training)
    total = sum(operators.values())
    attention = sum(operators.get(name, 0) for name in ATTENTION_OPERATORS)
    return Complexity(
        params=sum(p.numel() for p in model.parameters()),
        flops=int(total - attention),
        flops_with_attention=int(total),
        operators=operators)


def _count_attention(inputs: List, outputs: List) -> Dict[str, int]:
    """Both products, `q @ k` and `weights @ v`, of a fused kernel."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    pairs = math.prod(q[:-1]) * k[-2]
    return {'attention': pairs * (q[-1] + v[-1])}


class _Forward(nn.Module):
    """Runs a model of any kind on a bare image, without post-processing."""

    def __init__(self, model: nn.Module, shape: Tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.shape = shape

    def forward(self, image: Tensor):  # (1, 3, H, W)
        model = self.model
        if not isinstance(model, BaseModel):
            return model(image)
        if not (hasattr(model, 'bbox_head') or hasattr(model, 'roi_head')):
            return model(image, mode='tensor')
        from mmdet.structures import DetDataSample
        sample = DetDataSample(metainfo=dict(
            img_shape=self.shape, ori_shape=self.shape, pad_shape=self.shape,
            batch_input_shape=self.shape, scale_factor=(1., 1.)))
        if getattr(model, 'rpn_head', None) is None:
            return model(image, [sample], mode='tensor')
        rpn_outputs: list = []
        model.rpn_head.predict = self.full_proposals(rpn_outputs)
        try:  # the tracer counts only what the result depends on
            return model(image, [sample], mode='tensor'), rpn_outputs
        finally:
            del model.rpn_head.predict  # the method of the class again

    def full_proposals(self, rpn_outputs: list):
        """In place of a region proposal network's ``predict``: as many
        proposals as it may make, since what it finds with the weights at hand
        must not change the count."""
        rpn_head = self.model.rpn_head

        def predict(feats, data_samples, rescale=False):
            rpn_outputs.extend(rpn_head(feats))
            height, width = self.shape
            box = feats[0].new_tensor([[0, 0, width / 4, height / 4]])
            number = self.model.test_cfg.rpn.max_per_img
            return [InstanceData(bboxes=box.repeat(number, 1))]

        return predict
