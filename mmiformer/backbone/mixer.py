"""The Inception mixer (paper, section 3.1): high frequencies by pooling and
convolution, low frequencies by attention, side by side over the channels."""
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DepthwiseBranch(nn.Module):
    """One half of the high mixer: 1x1 convolution, then depthwise 3x3.

    Args:
        dim: Channels in; twice as many go out, as in the released weights.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(dim, 2 * dim, 1, bias=False)
        self.depthwise = nn.Conv2d(
            2 * dim, 2 * dim, 3, padding=1, groups=2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, dim, H, W)
        return F.gelu(self.depthwise(self.pointwise(x)))  # (B, 2 dim, H, W)


class MaxPoolBranch(nn.Module):
    """The other half of the high mixer: 3x3 max-pooling, then 1x1 convolution.

    Args:
        dim: Channels in; twice as many go out.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(dim, 2 * dim, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, dim, H, W)
        x = F.max_pool2d(x, 3, stride=1, padding=1)
        return F.gelu(self.pointwise(x))  # (B, 2 dim, H, W)


class LowMixer(nn.Module):
    """Global multi-head self-attention, on a pooled map in the early stages.

    Any map size works: the pooled grid is the ceiling of ``H / pool_stride``,
    averages ignore what lies outside the map, and the upsampled result is
    cropped to the incoming ``(H, W)``.

    Args:
        dim: Channels in and out.
        num_heads: Attention heads; ``dim`` is a multiple of it.
        pool_stride: Side of the average-pooling window; 1 pools nothing.
    """

    def __init__(self, dim: int, num_heads: int, pool_stride: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool_stride = pool_stride
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, dim, H, W)
        height, width = x.shape[2:]
        if self.pool_stride > 1:
            x = F.avg_pool2d(x, self.pool_stride, ceil_mode=True,
                             count_include_pad=False)
        x = self.attend(x)
        if self.pool_stride > 1:
            x = F.interpolate(x, scale_factor=float(self.pool_stride))
            x = x[:, :, :height, :width]
        return x

    def attend(self, x: Tensor) -> Tensor:  # (B, dim, h, w)
        batch, dim, h, w = x.shape
        qkv = self.qkv(x.flatten(2).transpose(1, 2))  # (B, h w, 3 dim)
        q, k, v = qkv.view(batch, h * w, 3, self.num_heads, -1).permute(
            2, 0, 3, 1, 4)  # each (B, heads, h w, head dim)
        # The fused kernels never hold an (h w, h w) map. There is no output
        # projection: the mixer's 1x1 convolution follows.
        x = F.scaled_dot_product_attention(q, k, v)
        return x.transpose(2, 3).reshape(batch, dim, h, w)


class InceptionMixer(nn.Module):
    """Splits the channels over the branches, joins and fuses their outputs.

    Args:
        dim: Channels in and out.
        low_dim: Channels that go to attention; the rest, an even number, is
            shared by the two branches of the high mixer.
        num_heads: Attention heads of the low mixer.
        pool_stride: Average pooling before attention.
    """

    def __init__(self, dim: int, low_dim: int, num_heads: int,
                 pool_stride: int) -> None:
        super().__init__()
        half = (dim - low_dim) // 2
        # High part first, low part last, as in the released weights.
        self.split_dims = (half, half, low_dim)
        self.depthwise_branch = DepthwiseBranch(half)
        self.max_pool_branch = MaxPoolBranch(half)
        self.low_mixer = LowMixer(low_dim, num_heads, pool_stride)
        width = 4 * half + low_dim
        self.fuse = nn.Conv2d(
            width, width, 3, padding=1, groups=width, bias=False)
        self.proj = nn.Conv2d(width, dim, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim)
        x = x.permute(0, 3, 1, 2)  # (B, dim, H, W), a view
        depthwise, max_pool, low = x.split(self.split_dims, dim=1)
        x = torch.cat([
            self.depthwise_branch(depthwise),
            self.max_pool_branch(max_pool),
            self.low_mixer(low),
        ], dim=1)  # (B, width, H, W)
        x = x + self.fuse(x)
        return self.proj(x).permute(0, 2, 3, 1)  # (B, H, W, dim)
