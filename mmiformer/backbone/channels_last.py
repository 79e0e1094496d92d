"""Layers that work on each position of a channels-last map alone."""
import torch.nn.functional as F
from torch import Tensor, nn


class _Positionwise(nn.Module):
    """The forward pass that linear layers and 1x1 convolutions share."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, C_in)`` to ``(B, H, W, C_out)``; ``x`` may be a slice of
        the channels of a wider map."""
        # Every torch adds the bias within the product if that is of a matrix;
        # of a map that is a slice, some add it in a second pass.
        rows = F.linear(x.flatten(0, 2), self.weight.flatten(1), self.bias)
        return rows.view(*x.shape[:3], -1)


class Linear(_Positionwise, nn.Linear):
    """A linear layer of channels-last maps."""


class Pointwise(_Positionwise, nn.Conv2d):
    """A 1x1 convolution of channels-last maps; its weights are those of
    nn.Conv2d."""

    def __init__(self, in_channels: int, out_channels: int,
                 bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)
