"""Matrix products over the trailing axis, alone or with what follows them."""
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# oneDNN's products with GELU or an addition in the same pass, which
# torch.compile emits on CPUs too. Private to torch, so perhaps not there.
FUSED = torch.backends.mkldnn.is_available() and hasattr(
    torch.ops.mkldnn, '_linear_pointwise')


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
        if self.fused and _is_plain(x):
            if add is None:
                y = torch.ops.mkldnn._linear_pointwise(
                    rows, weight, self.bias, 'gelu' if gelu else 'none', [],
                    'none')
            else:
                y = torch.ops.mkldnn._linear_pointwise.binary(
                    rows, add.flatten(0, 2), weight, self.bias, 'add')
            return y.view(*x.shape[:3], -1)
        y = F.linear(rows, weight, self.bias).view(*x.shape[:3], -1)
        y = F.gelu(y) if gelu else y
        return y if add is None else add + y

    def switch_to_deploy(self) -> None:
        """Lets products of plain fp32 maps on a CPU use the fused kernels."""
        self.fused = FUSED


def _is_plain(x: Tensor) -> bool:
    """Neither part of a gradient, nor seen by autocast or a tracer."""
    return (x.dtype == torch.float32 and x.device.type == 'cpu'
            and not x.requires_grad
            and not torch.is_autocast_enabled('cpu')
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing())


class Linear(_Product, nn.Linear):
    """A linear layer of channels-last maps."""


class Pointwise(_Product, nn.Conv2d):
    """A 1x1 convolution of channels-last maps; weights as of nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int,
                 bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)
