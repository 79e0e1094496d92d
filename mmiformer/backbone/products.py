"""Matrix products over the trailing axis, alone or with what follows them."""
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# oneDNN's products with GELU or an addition in the same pass, which
# torch.compile emits on CPUs too. Private to torch, so perhaps not there.
FUSED = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, '_linear_pointwise')
DTYPES = (torch.float32, torch.bfloat16)[
    :1 + (FUSED and torch.ops.mkldnn._is_mkldnn_bf16_supported())]


class _Product(nn.Module):
    """What linear layers and 1x1 convolutions have in common here."""
    fused = False

    def forward(self, x: Tensor, gelu: bool = False,
                add: Optional[Tensor] = None) -> Tensor:
        """The product, then perhaps GELU or an addition.

        Args:
            x: ``(B, H, W, C_in)``, or a part of the channels of a wider map,
                which is used where it lies.
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
        """Lets products on a CPU use the fused kernels in inference."""
        self.fused = FUSED


def _fused_dtype(x: Tensor) -> Optional[torch.dtype]:
    """In which dtype, autocast's if it is on, a fused kernel computes; None
    where there is none: elsewhere than on a CPU, and for what is part of a
    gradient or seen by a tracer."""
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
