"""Linear layers and 1x1 convolutions of channels-last maps, optionally fused
with the GELU or the addition that follows."""
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# oneDNN's linear layer with GELU or an addition in the same kernel, which
# torch.compile emits on CPUs too. Private to torch (2.13), so it may be absent.
FUSED = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, '_linear_pointwise')
DTYPES = [torch.float32]
if FUSED and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    DTYPES.append(torch.bfloat16)


class _Product(nn.Module):
    """The forward pass that both layers share."""
    fused = False

    def forward(self, x: Tensor, gelu: bool = False,
                add: Optional[Tensor] = None) -> Tensor:
        """Applies the layer, then optionally GELU or an addition.

        Args:
            x: ``(B, H, W, C_in)``; may be a slice of the channels of a wider
                map, which is not copied.
            gelu: Whether an exact GELU follows.
            add: ``(B, H, W, C_out)`` to add, if any; not with ``gelu``.

        Returns:
            ``(B, H, W, C_out)``.
        """
        rows, weight = x.flatten(0, 2), self.weight.flatten(1)
        dtype = _fused_dtype(x) if self.fused else None
        # Under autocast the residual stays fp32, and is added in fp32.
        if dtype is not None and (add is None or add.dtype == dtype):
            rows, weight = rows.to(dtype), weight.to(dtype)
            bias = None if self.bias is None else self.bias.to(dtype)
            if add is None:
                y = torch.ops.mkldnn._linear_pointwise(
                    rows, weight, bias, 'gelu' if gelu else 'none', [], 'none')
            else:
                y = torch.ops.mkldnn._linear_pointwise.binary(
                    rows, add.flatten(0, 2), weight, bias, 'add')
            return y.view(*x.shape[:3], -1)
        y = F.linear(rows, weight, self.bias).view(*x.shape[:3], -1)
        y = F.gelu(y) if gelu else y
        return y if add is None else add + y

    def switch_to_deploy(self) -> None:
        """Uses the fused kernels for inference on a CPU."""
        self.fused = FUSED


def _fused_dtype(x: Tensor) -> Optional[torch.dtype]:
    """The dtype of the fused kernel, autocast's if that is on. None if it
    cannot be used: not on a CPU, with gradients, or while tracing."""
    if (x.device.type != 'cpu' or x.requires_grad
            or torch.compiler.is_compiling() or torch.jit.is_tracing()):
        return None
    dtype = (torch.get_autocast_dtype('cpu')
             if torch.is_autocast_enabled('cpu') else x.dtype)
    return dtype if dtype in DTYPES else None


class Linear(_Product, nn.Linear):
    """A linear layer of channels-last maps."""


class Pointwise(_Product, nn.Conv2d):
    """A 1x1 convolution of channels-last maps; weights as of nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int,
                 bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)
