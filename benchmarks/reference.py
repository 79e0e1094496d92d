"""The plain reference: iFormer as its definition reads, with no thought of
speed.

Everything is NCHW in memory, as OpenMMLab's own ports have it: each LayerNorm
and linear layer permutes to channels-last and back. Attention is a softmax of
written-out products. It is the oracle of the property tests and the baseline
of `backbones.py`; the sizes and the order of operations come from the
published description of the network, none of them from `mmiformer`. Only the
names are its, so that `reference.load_state_dict(ours.state_dict())` fits.
"""
import zlib

import torch
import torch.nn.functional as F
from torch import nn

SIZES = {  # embed dims, depths, heads, attention heads of every block
    'small': ((96, 192, 320, 384), (3, 3, 9, 3), (3, 6, 10, 12),
              ([1] * 3, [3] * 3, [7] * 4 + [9] * 5, [11] * 3)),
    'base': ((96, 192, 384, 512), (4, 6, 14, 6), (3, 6, 12, 16),
             ([1] * 4, [3] * 6, [8] * 7 + [10] * 7, [15] * 6)),
    'large': ((96, 192, 448, 640), (4, 6, 18, 8), (3, 6, 14, 20),
              ([1] * 4, [3] * 6, [10] * 9 + [12] * 9, [19] * 8)),
}


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of an NCHW map."""

    def forward(self, x):
        x = super().forward(x.permute(0, 2, 3, 1))
        return x.permute(0, 3, 1, 2).contiguous()


class PatchEmbed(nn.Module):

    def __init__(self, in_dim, dim, first):
        super().__init__()
        self.first = first
        if first:
            self.proj1 = nn.Conv2d(in_dim, dim // 2, 3, 2, 1)
            self.norm1 = nn.BatchNorm2d(dim // 2)
            self.proj2 = nn.Conv2d(dim // 2, dim, 3, 2, 1)
            self.norm2 = nn.BatchNorm2d(dim)
        else:
            self.proj = nn.Conv2d(in_dim, dim, 3, 2, 1)
            self.norm = nn.BatchNorm2d(dim)

    def forward(self, x):
        if not self.first:
            return self.norm(self.proj(x))
        x = F.gelu(self.norm1(self.proj1(x)))
        return self.norm2(self.proj2(x))


class LowMixer(nn.Module):

    def __init__(self, dim, heads, pool):
        super().__init__()
        self.heads, self.pool = heads, pool
        self.qkv = nn.Linear(dim, 3 * dim)

    def forward(self, x):
        height, width = x.shape[2:]
        if self.pool:
            # A repeated last row or column leaves the averages of an odd map
            # as if they ignored what lies outside.
            if height % 2 or width % 2:
                x = F.pad(x, (0, width % 2, 0, height % 2), mode='replicate')
            x = F.avg_pool2d(x, 2)
        B, C, h, w = x.shape
        x = x.permute(0, 2, 3, 1).reshape(B, h * w, C)
        x = self.qkv(x).reshape(B, h * w, 3, self.heads, C // self.heads)
        q, k, v = x.permute(2, 0, 3, 1, 4)  # each (B, heads, h w, head dim)
        attention = (q @ k.transpose(-2, -1)) * (C // self.heads) ** -0.5
        x = attention.softmax(dim=-1) @ v
        x = x.transpose(1, 2).reshape(B, h, w, C)
        x = x.permute(0, 3, 1, 2).contiguous()
        if self.pool:
            x = F.interpolate(x, scale_factor=2, mode='nearest')
        return x[:, :, :height, :width]


class Mixer(nn.Module):

    def __init__(self, dim, low_dim, heads, pool):
        super().__init__()
        self.half, self.low_dim = (dim - low_dim) // 2, low_dim
        half, width = self.half, 2 * (dim - low_dim) + low_dim
        self.depthwise_branch = nn.ModuleDict(dict(
            pointwise=nn.Conv2d(half, 2 * half, 1, bias=False),
            depthwise=nn.Conv2d(2 * half, 2 * half, 3, 1, 1, groups=2 * half,
                                bias=False)))
        self.max_pool_branch = nn.ModuleDict(dict(
            pointwise=nn.Conv2d(half, 2 * half, 1)))
        self.low_mixer = LowMixer(low_dim, heads, pool)
        self.fuse = nn.Conv2d(width, width, 3, 1, 1, groups=width, bias=False)
        self.proj = nn.Conv2d(width, dim, 1)

    def forward(self, x):
        conv, pool = x[:, :self.half], x[:, self.half:2 * self.half]
        low = x[:, 2 * self.half:]
        conv = self.depthwise_branch.pointwise(conv)
        conv = F.gelu(self.depthwise_branch.depthwise(conv))
        pool = F.max_pool2d(pool, 3, 1, 1)
        pool = F.gelu(self.max_pool_branch.pointwise(pool))
        x = torch.cat([conv, pool, self.low_mixer(low)], dim=1)
        return self.proj(x + self.fuse(x))


class Mlp(nn.Module):

    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        x = self.fc2(F.gelu(self.fc1(x.permute(0, 2, 3, 1))))
        return x.permute(0, 3, 1, 2).contiguous()


class Scale(nn.Module):

    def __init__(self, dim):
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((dim, ), 1e-6))

    def forward(self, x):
        return x * self.layer_scale.view(1, -1, 1, 1)


class Block(nn.Module):

    def __init__(self, dim, low_dim, heads, pool, scaled, mlp_ratio):
        super().__init__()
        self.norm1 = ChannelNorm(dim, eps=1e-6)
        self.mixer = Mixer(dim, low_dim, heads, pool)
        self.norm2 = ChannelNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale1 = Scale(dim) if scaled else nn.Identity()
        self.scale2 = Scale(dim) if scaled else nn.Identity()

    def forward(self, x):
        x = x + self.scale1(self.mixer(self.norm1(x)))
        return x + self.scale2(self.mlp(self.norm2(x)))


class Stage(nn.Module):

    def __init__(self, patch_embed, dim, grid, blocks, out_norm):
        super().__init__()
        self.patch_embed = patch_embed
        self.pos_embed = nn.Parameter(torch.zeros(1, *grid, dim))
        self.blocks = nn.ModuleList(blocks)
        if out_norm:
            self.out_norm = ChannelNorm(dim, eps=1e-6)

    def forward(self, x):
        x = self.patch_embed(x)
        position = self.pos_embed.permute(0, 3, 1, 2)
        if position.shape[2:] != x.shape[2:]:
            position = F.interpolate(position, x.shape[2:], mode='bilinear',
                                     align_corners=False)
        x = x + position
        for block in self.blocks:
            x = block(x)
        return x


class Reference(nn.Module):
    """iFormer without drop path.

    Args:
        arch: ``'small'``, ``'base'``, ``'large'``, or a dict with
            ``embed_dims``, ``depths``, ``num_heads`` and ``attention_heads``
            (per stage, an int or one per block).
        pretrain_img_size: Side in pixels that the position maps are for.
        out_norms: LayerNorm on every emitted map.

    Shape:
        ``(B, 3, H, W)`` to four NCHW maps at strides 4, 8, 16, 32.
    """

    def __init__(self, arch='small', pretrain_img_size=224, out_norms=True):
        super().__init__()
        dims, depths, heads, low_heads = (
            SIZES[arch] if isinstance(arch, str) else
            (arch['embed_dims'], arch['depths'], arch['num_heads'],
             arch['attention_heads']))
        self.out_norms = out_norms
        self.stages = nn.ModuleList()
        for i, dim in enumerate(dims):
            stride, low = 4 * 2 ** i, low_heads[i]
            blocks = [
                Block(dim, count * (dim // heads[i]), count, pool=i < 2,
                      scaled=i >= 2, mlp_ratio=4)
                for count in ([low] * depths[i] if isinstance(low, int)
                              else low)]
            self.stages.append(Stage(
                PatchEmbed(dims[i - 1] if i else 3, dim, first=i == 0), dim,
                [-(-pretrain_img_size // stride)] * 2, blocks, out_norms))

    def forward(self, x):
        outs = []
        for stage in self.stages:
            x = stage(x)
            outs.append(stage.out_norm(x) if self.out_norms else x)
        return tuple(outs)


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Gives every parameter and statistic a value that depends on its name
    alone, none of them trivial.

    Networks with the same names get the same weights, folding has statistics
    to fold, and layer scale does not hide the blocks that it would hide as
    initialised. Kernels are scaled by their fan-in, so that maps keep a
    moderate deviation.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue  # indices and counters
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        value = torch.randn(tensor.shape, generator=generator)
        if name.endswith('running_var'):
            value = 0.5 + 0.5 * value.abs()
        elif name.endswith('running_mean'):
            value = 0.1 * value
        elif 'layer_scale' in name or name.endswith('gamma'):
            value = 0.1 + 0.2 * value.abs()
        elif 'pos_embed' in name:
            value = 0.2 * value
        elif tensor.dim() > 1:
            value = value / tensor[0].numel() ** 0.5
        elif name.endswith('weight'):  # of a norm
            value = 1 + 0.1 * value
        else:
            value = 0.05 * value
        tensor.copy_(value)
