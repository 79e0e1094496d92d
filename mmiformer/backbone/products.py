"""Linear layers and convolutions of channels-last maps. Deployed and on a CPU
they run in oneDNN's kernels, with weights in the kernels' own order, fused
with the GELU or the addition that follows."""
from typing import Callable, Dict, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# What torch.compile emits on CPUs too. Private to torch (2.13), so they may be
# absent: every layer has a public path, which gives the same numbers.
FUSED = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in (
        '_linear_pointwise', '_convolution_pointwise',
        '_reorder_linear_weight', '_reorder_convolution_weight'))
DTYPES = [torch.float32]
if FUSED and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    DTYPES.append(torch.bfloat16)


class _Layer(nn.Module):
    """The weights of a deployed layer, as oneDNN's kernels read them."""
    fused = False

    def switch_to_deploy(self) -> None:
        """Uses the fused kernels for inference on a CPU."""
        self.fused = FUSED
        self.packed: Dict[torch.dtype, Sequence[Optional[Tensor]]] = {}

    def pack(self, weight: Tensor, dtype: torch.dtype,
             reorder: Callable[[Tensor], Tensor]
             ) -> Sequence[Optional[Tensor]]:
        """Weight and bias in ``dtype``, the weight reordered; kept from the
        first call on."""
        if dtype not in self.packed:
            self.packed[dtype] = (
                reorder(weight.detach().to(dtype)),
                None if self.bias is None else self.bias.detach().to(dtype))
        return self.packed[dtype]

    def _apply(self, fn: Callable, recurse: bool = True) -> nn.Module:
        # Another device or dtype: other weights.
        if self.fused:
            self.packed = {}
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict:
        # Reordered weights can be neither copied nor saved.
        state = self.__dict__.copy()
        if self.fused:
            state['packed'] = {}
        return state


class _Product(_Layer):
    """The forward pass that linear layers and 1x1 convolutions share."""

    def forward(self, x: Tensor, gelu: bool = False,
                add: Optional[Tensor] = None) -> Tensor:
        """Applies the layer, then optionally GELU or an addition.

        Args:
            x: ``(B, H, W, C_in)``; may be a slice of the channels of a wider
                map.
            gelu: Whether an exact GELU follows.
            add: ``(B, H, W, C_out)`` to add, if any; not with ``gelu``.

        Returns:
            ``(B, H, W, C_out)``.
        """
        rows = x.flatten(0, 2)
        dtype = _fused_dtype(x) if self.fused else None
        if dtype is None:
            y = F.linear(rows, self.weight.flatten(1), self.bias)
            y = F.gelu(y) if gelu else y
        else:
            rows = rows.to(dtype)
            weight, bias = self.pack(
                self.weight, dtype,
                lambda weight: torch.ops.mkldnn._reorder_linear_weight(
                    weight.flatten(1), rows.shape[0]))
            # Under autocast the residual stays fp32, and is added in fp32.
            if add is not None and add.dtype == dtype:
                y = torch.ops.mkldnn._linear_pointwise.binary(
                    rows, add.flatten(0, 2), weight, bias, 'add')
                add = None
            else:
                y = torch.ops.mkldnn._linear_pointwise(
                    rows, weight, bias, 'gelu' if gelu else 'none', [], 'none')
        y = y.view(*x.shape[:3], -1)
        return y if add is None else add + y


class Linear(_Product, nn.Linear):
    """A linear layer of channels-last maps."""


class Pointwise(_Product, nn.Conv2d):
    """A 1x1 convolution of channels-last maps; weights as of nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int,
                 bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)


class Convolution(_Layer, nn.Conv2d):
    """A convolution of NCHW maps."""

    def forward(self, x: Tensor, gelu: bool = False,
                weight: Optional[Tensor] = None) -> Tensor:
        """Applies the layer, then optionally GELU.

        Args:
            x: ``(B, C_in, H, W)``.
            gelu: Whether an exact GELU follows.
            weight: In place of the layer's own; the same one at each call in
                this dtype.

        Returns:
            ``(B, C_out, H', W')``.
        """
        weight = self.weight if weight is None else weight
        dtype = _fused_dtype(x) if self.fused else None
        if dtype is None:
            y = self._conv_forward(x, weight, self.bias)
            return F.gelu(y) if gelu else y
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        weight, bias = self.pack(
            weight, dtype,
            lambda weight: torch.ops.mkldnn._reorder_convolution_weight(
                weight, *geometry, x.shape))
        return torch.ops.mkldnn._convolution_pointwise(
            x.to(dtype), weight, bias, *geometry, 'gelu' if gelu else 'none',
            [], 'none')


def _fused_dtype(x: Tensor) -> Optional[torch.dtype]:
    """The dtype of the fused kernel, autocast's if that is on. None if it
    cannot be used: not on a CPU, with gradients, or while tracing."""
    if (x.device.type != 'cpu' or x.requires_grad
            or torch.compiler.is_compiling() or torch.jit.is_tracing()):
        return None
    dtype = (torch.get_autocast_dtype('cpu')
             if torch.is_autocast_enabled('cpu') else x.dtype)
    return dtype if dtype in DTYPES else None
