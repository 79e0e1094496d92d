"""The Inception mixer (paper, section 3.1): pooling and convolution for the
high frequencies and attention for the low ones, in parallel on parts of the
channels.

Maps are (B, H, W, C) throughout, so that no layout is copied: norms and linear
layers work on the last axis, and the permuted views are torch's channels-last
format."""
from functools import partial
from typing import Callable, List, Optional, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..compat import autocast_dtype, is_tracing
from .channels_last import Linear, Pointwise


def convolve(conv: Callable[[Tensor], Tensor],
             x: Tensor) -> Tensor:  # (B, H, W, C_in)
    """Applies an NCHW convolution to an NHWC map without copying it."""
    return conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def max_pool(x: Tensor, kernel_size: int
             ) -> Tensor:  # (B, H, W, C), in and out
    """Max-pooling with stride 1 and an odd kernel."""
    # The tracing ONNX exporter makes constants of the in-place code below.
    if (kernel_size != 3 or x.requires_grad or x.device.type != 'cpu'
            or is_tracing()):
        x = F.max_pool2d(x.permute(0, 3, 1, 2), kernel_size, stride=1,
                         padding=kernel_size // 2)
        return x.permute(0, 2, 3, 1)
    # Faster on a CPU: without gradients the indices are not needed, and they
    # cost torch more time than the maxima.
    return _maximum_of_three(_maximum_of_three(x, 1), 2)


def _maximum_of_three(x: Tensor, axis: int) -> Tensor:
    """The maximum of each value and its two neighbours along an axis."""
    size = x.shape[axis]
    if size == 1:
        return x
    pairs = torch.maximum(
        x.narrow(axis, 0, size - 1), x.narrow(axis, 1, size - 1))
    out = x.new_empty(x.shape)
    out.select(axis, 0).copy_(pairs.select(axis, 0))
    out.select(axis, -1).copy_(pairs.select(axis, -1))
    torch.maximum(
        pairs.narrow(axis, 0, size - 2), pairs.narrow(axis, 1, size - 2),
        out=out.narrow(axis, 1, size - 2))
    return out


def avg_pool(x: Tensor, kernel_size: int
             ) -> Tensor:  # (B, H, W, C), in and out
    """Average-pooling with stride 1; padding does not count."""
    x = F.avg_pool2d(x.permute(0, 3, 1, 2), kernel_size, stride=1,
                     padding=kernel_size // 2, count_include_pad=False)
    return x.permute(0, 2, 3, 1)


class ConvBranch(nn.Module):
    """One half of the high mixer: 1x1 convolution, then depthwise 3x3.

    Args:
        dim: Input channels; the output has twice as many, as in the released
            weights.
        kernel_size: Side of the second convolution's kernel, odd.
        dense: Makes the second convolution a full one, not depthwise.
    """

    def __init__(self, dim: int, kernel_size: int,
                 dense: bool = False) -> None:
        super().__init__()
        self.pointwise = Pointwise(dim, 2 * dim, bias=False)
        self.depthwise = nn.Conv2d(
            2 * dim, 2 * dim, kernel_size, padding=kernel_size // 2,
            groups=1 if dense else 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, dim)`` to ``(B, H, W, 2 dim)``."""
        return convolve(lambda x: F.gelu(self.depthwise(x)),
                        self.pointwise(x))


class PoolBranch(nn.Module):
    """The other half of the high mixer: 3x3 max-pooling, then 1x1 convolution.

    Args:
        dim: Input channels; the output has twice as many.
        kernel_size: Side of the pooling window, odd.
        pool: :func:`max_pool` or :func:`avg_pool`.
    """

    def __init__(self, dim: int, kernel_size: int,
                 pool: Callable[[Tensor, int], Tensor] = max_pool) -> None:
        super().__init__()
        self.kernel_size, self.pool = kernel_size, pool
        self.pointwise = Pointwise(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, dim)`` to ``(B, H, W, 2 dim)``."""
        return F.gelu(self.pointwise(self.pool(x, self.kernel_size)))


def in_windows(function: Callable[[Tensor], Tensor], x: Tensor,
               side: int) -> Tensor:  # (B, H, W, C)
    """Applies a function to each window of a map independently.

    Windows start at the top left; those at the bottom and right edges may be
    smaller. For attention this equals padding the map to whole windows and
    masking the padding.
    """
    rows = []
    for row in _whole_and_rest(x, side, 1):
        cells = []
        for cell in _whole_and_rest(row, side, 2):
            batch, height, width, _ = cell.shape
            h, w = min(side, height), min(side, width)
            grid = (batch, height // h, width // w)
            windows = cell.unflatten(2, (-1, w)).unflatten(1, (-1, h))
            windows = function(windows.transpose(2, 3).flatten(0, 2))
            cells.append(windows.unflatten(0, grid).transpose(2, 3)
                         .flatten(3, 4).flatten(1, 2))
        rows.append(torch.cat(cells, 2))
    return torch.cat(rows, 1)


def _whole_and_rest(x: Tensor, side: int, axis: int) -> List[Tensor]:
    """Splits an axis into what whole windows cover and the rest, if any."""
    size = x.shape[axis]
    parts = x.split((size - size % side, size % side), axis)
    return [part for part in parts if part.shape[axis]]


class LowMixer(nn.Module):
    """Multi-head self-attention, on a pooled map in the early stages.

    Any map size works: the pooled grid is the ceiling of ``H / pool_stride``,
    averages ignore padding, and the upsampled result is cropped to the input's
    ``(H, W)``.

    Args:
        dim: Channels in and out.
        num_heads: Attention heads, a divisor of ``dim``.
        pool_stride: Stride of the average pooling; 1: no pooling.
        window_size: Side of the attention windows in positions of the pooled
            map; None: attention over the whole map.
    """

    def __init__(self, dim: int, num_heads: int, pool_stride: int,
                 window_size: Optional[int] = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool_stride = pool_stride
        self.window_size = window_size
        self.qkv = Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim)
        if self.pool_stride == 1:
            return self.attend(x)
        height, width = x.shape[1:3]
        x = F.avg_pool2d(
            x.permute(0, 3, 1, 2), self.pool_stride, ceil_mode=True,
            count_include_pad=False)
        x = self.attend(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.interpolate(x, scale_factor=float(self.pool_stride))
        return x.permute(0, 2, 3, 1)[:, :height, :width]

    def attend(self, x: Tensor) -> Tensor:  # (B, h, w, dim), in and out
        qkv = self.qkv(x)  # (B, h, w, 3 dim)
        if self.window_size is None:
            return self.attention(qkv)
        return in_windows(self.attention, qkv, self.window_size)

    def attention(self, qkv: Tensor) -> Tensor:  # (B, h, w, 3 dim)
        batch, h, w, _ = qkv.shape
        q, k, v = qkv.reshape(batch, h * w, 3, self.num_heads, -1).permute(
            2, 0, 3, 1, 4)  # each (B, heads, h w, head dim), views
        # The fused kernels never store an (h w, h w) map. There is no output
        # projection, since the mixer's 1x1 convolution follows.
        x = F.scaled_dot_product_attention(q, k, v)
        return x.transpose(1, 2).reshape(batch, h, w, -1)  # (B, h, w, dim)


class Fusion(nn.Conv2d):
    """``x`` plus a depthwise 3x3 convolution of it.

    Args:
        dim: Channels in and out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 3, padding=1, groups=dim, bias=False)
        self.register_buffer('folded', None, persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim), in and out
        # In bf16 the folded kernel, 1 + w, would lose most digits of w.
        if (self.folded is None or x.dtype != torch.float32
                or autocast_dtype(x.device.type)):
            return x + convolve(super().forward, x)
        return convolve(partial(F.conv2d, weight=self.folded, padding=1,
                                groups=self.groups), x)

    def switch_to_deploy(self) -> None:
        """Folds the addition of ``x`` into the centre of the kernel."""
        self.folded = self.weight.clone()
        self.folded[:, :, 1, 1] += 1


# The branches of the high mixer: attribute name and constructor. 'depthwise'
# and 'max_pool' are the paper's, the others are for ablations.
HIGH_BRANCHES = {
    'depthwise': ('depthwise_branch', ConvBranch),
    'conv': ('conv_branch', partial(ConvBranch, dense=True)),
    'max_pool': ('max_pool_branch', PoolBranch),
    'avg_pool': ('avg_pool_branch', partial(PoolBranch, pool=avg_pool)),
}
ATTENTION = 'attention'


class InceptionMixer(nn.Module):
    """Splits the channels over the branches, then joins and fuses the outputs.

    Args:
        dim: Channels in and out.
        low_dim: Channels for attention; the branches of the high mixer share
            the others equally.
        num_heads, pool_stride, window_size: As :class:`LowMixer` takes them.
        branches: Keys of :data:`HIGH_BRANCHES`, and ``'attention'``.
        kernel_size: Side of the high mixer's kernels and windows, odd.
        fusion: Fuse the concatenated outputs by a depthwise convolution.
    """

    def __init__(self, dim: int, low_dim: int, num_heads: int,
                 pool_stride: int, window_size: Optional[int] = None,
                 branches: Sequence[str] = ('depthwise', 'max_pool',
                                            ATTENTION),
                 kernel_size: int = 3, fusion: bool = True) -> None:
        super().__init__()
        high = [name for name in branches if name != ATTENTION]
        share = (dim - low_dim) // max(len(high), 1)
        # High part first, low part last, as in the released weights.
        self.parts, self.split_dims = [], []
        for name in high:
            attribute, build = HIGH_BRANCHES[name]
            setattr(self, attribute, build(share, kernel_size))
            self.parts.append(attribute)
            self.split_dims.append(share)
        if low_dim:
            self.low_mixer = LowMixer(
                low_dim, num_heads, pool_stride, window_size)
            self.parts.append('low_mixer')
            self.split_dims.append(low_dim)
        width = 2 * share * len(high) + low_dim
        self.fuse = Fusion(width) if fusion else nn.Identity()
        self.proj = Pointwise(width, dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim), in and out
        x = torch.cat([
            getattr(self, name)(part) for name, part in
            zip(self.parts, x.split(self.split_dims, dim=3))
        ], dim=3)  # (B, H, W, width)
        return self.proj(self.fuse(x))
