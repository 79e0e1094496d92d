"""Parameters and FLOPs of any mmengine model, in two stated conventions."""
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Dict, Iterator, List, Tuple
from unittest.mock import patch

import torch
from mmengine.analysis import FlopAnalyzer
from mmengine.analysis.jit_handles import get_shape
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

# Products of two activations, by the names of mmengine's analyser. The paper's
# COCO and ADE20K tables leave them out, its ImageNet table counts them.
ATTENTION_OPERATORS = ('attention', 'matmul', 'bmm', 'einsum')
SDPA_KERNELS = ('', '_math', '_flash_attention', '_flash_attention_for_cpu',
                '_efficient_attention', '_cudnn_attention',
                '_fused_attention_overrideable')


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
    image = torch.rand(1, 3, *shape, device=device)
    try:
        with torch.no_grad():
            model.eval()  # not chained: mmdet's ResNet and Swin return None
            analyzer = FlopAnalyzer(_Forward(model, shape), image)
            analyzer.unsupported_ops_warnings(False)
            analyzer.uncalled_modules_warnings(False)
            for kernel in SDPA_KERNELS:
                name = (f'aten::_scaled_dot_product{kernel}'
                        if kernel else 'aten::scaled_dot_product_attention')
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
    q, k, v = (get_shape(value) for value in inputs[:3])
    pairs = q[-2] * k[-2]
    for size in q[:-2]:
        pairs *= size
    return {'attention': pairs * (q[-1] + v[-1])}


class _Forward(nn.Module):
    """Runs a model of any kind on a bare image, without post-processing."""

    def __init__(self, model: nn.Module, shape: Tuple[int, int]) -> None:
        super().__init__()
        self.model = model
        self.shape = shape

    def forward(self, image: Tensor):  # (1, 3, H, W)
        if not isinstance(self.model, BaseModel):
            return self.model(image)
        if not (hasattr(self.model, 'bbox_head')
                or hasattr(self.model, 'roi_head')):
            return self.model(image, mode='tensor')
        from mmdet.structures import DetDataSample
        sample = DetDataSample(metainfo=dict(
            img_shape=self.shape, ori_shape=self.shape, pad_shape=self.shape,
            batch_input_shape=self.shape, scale_factor=(1., 1.)))
        with self.full_proposals() as rpn_outputs:
            # The tracer counts only what the result depends on.
            return self.model(image, [sample], mode='tensor'), rpn_outputs

    @contextmanager
    def full_proposals(self) -> Iterator[list]:
        """Makes a region proposal network propose as much as it may: what it
        finds with the weights at hand must not change the count."""
        rpn_head, outputs = getattr(self.model, 'rpn_head', None), []
        if rpn_head is None:
            yield outputs
            return

        def predict(feats, data_samples, rescale=False):
            outputs.extend(rpn_head(feats))
            height, width = self.shape
            box = feats[0].new_tensor([[0, 0, width / 4, height / 4]])
            number = self.model.test_cfg.rpn.max_per_img
            return [InstanceData(bboxes=box.repeat(number, 1))]

        with patch.object(rpn_head, 'predict', predict):
            yield outputs
