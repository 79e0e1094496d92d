"""The parts of a stage around the mixer."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils.checkpoint import checkpoint

from .channels_last import Linear
from .mixer import InceptionMixer

LAYER_NORM_EPS = 1e-6  # as in the released network
BATCH_NORMS = {'BN': nn.BatchNorm2d, 'SyncBN': nn.SyncBatchNorm}


def build_batch_norm(norm_cfg: dict, dim: int) -> nn.Module:
    """Builds the BatchNorm of a patch embedding.

    Args:
        norm_cfg: ``type``, a key of :data:`BATCH_NORMS`, and optionally
            ``requires_grad``, ``eps`` and ``momentum``.
        dim: Channels.
    """
    cfg = dict(norm_cfg)
    requires_grad = cfg.pop('requires_grad', True)
    norm = BATCH_NORMS[cfg.pop('type')](dim, **cfg)
    return norm.requires_grad_(requires_grad)


class Stem(nn.Module):
    """Patch embedding of the first stage: stride 4 in two steps."""

    def __init__(self, in_channels: int, dim: int, norm_cfg: dict) -> None:
        super().__init__()
        self.proj1 = nn.Conv2d(in_channels, dim // 2, 3, stride=2, padding=1)
        self.norm1 = build_batch_norm(norm_cfg, dim // 2)
        self.proj2 = nn.Conv2d(dim // 2, dim, 3, stride=2, padding=1)
        self.norm2 = build_batch_norm(norm_cfg, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` to ``(B, dim, H / 4, W / 4)``, rounded up at
        each step."""
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.gelu(self.norm1(self.proj1(x)))
        return self.norm2(self.proj2(x))

    def switch_to_deploy(self) -> None:
        """Folds the norms into the convolutions before them."""
        self.proj1 = fuse_conv_bn_eval(self.proj1, self.norm1)
        self.proj2 = fuse_conv_bn_eval(self.proj2, self.norm2)
        self.norm1 = self.norm2 = nn.Identity()


class PatchEmbed(nn.Module):
    """Patch embedding of the later stages: stride 2.

    The kernel is 3x3 as in the released weights; the paper's table says 2x2.
    """

    def __init__(self, in_channels: int, dim: int, norm_cfg: dict) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, 3, stride=2, padding=1)
        self.norm = build_batch_norm(norm_cfg, dim)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` to ``(B, dim, H / 2, W / 2)``, rounded up."""
        return self.norm(self.proj(x))

    def switch_to_deploy(self) -> None:
        """Folds the norm into the convolution before it."""
        self.proj = fuse_conv_bn_eval(self.proj, self.norm)
        self.norm = nn.Identity()


def resize_pos_embed(pos_embed: Tensor, size: Tuple[int, int]) -> Tensor:
    """Fits a position map to another grid, as the authors do.

    Args:
        pos_embed: ``(1, h, w, C)``.
        size: The new grid, ``(H, W)``.

    Returns:
        ``(1, H, W, C)``, bilinear between cell centres; ``pos_embed`` itself
        if it has this grid.
    """
    if tuple(pos_embed.shape[1:3]) == tuple(size):
        return pos_embed
    x = F.interpolate(
        pos_embed.permute(0, 3, 1, 2), size=size, mode='bilinear',
        align_corners=False)
    return x.permute(0, 2, 3, 1)


class DropPath(nn.Module):
    """Drops a residual branch for whole samples while training.

    Source: Huang et al., "Deep Networks with Stochastic Depth", ECCV 2016;
    the samples that are kept are scaled by ``1 / (1 - rate)``.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:  # (B, ...)
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        shape = (x.shape[0], ) + (1, ) * (x.dim() - 1)
        return x * (torch.rand(shape, device=x.device) < keep).to(x) / keep

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3f}'


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, H, W, dim), in and out
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned scale per channel of a residual branch."""

    def __init__(self, dim: int, init_value: float) -> None:
        super().__init__()
        self.layer_scale = nn.Parameter(torch.full((dim, ), init_value))

    def forward(self, x: Tensor) -> Tensor:  # (..., dim)
        return x * self.layer_scale


class Block(nn.Module):
    """``x + mixer(norm(x))``, then ``x + mlp(norm(x))``, each branch with
    layer scale (if the stage has it) and drop path."""

    def __init__(self, dim: int, mixer: InceptionMixer, mlp_ratio: float,
                 drop_path: float,
                 layer_scale_init_value: Optional[float]) -> None:
        super().__init__()

        def scale() -> nn.Module:
            if layer_scale_init_value is None:
                return nn.Identity()
            return LayerScale(dim, layer_scale_init_value)

        self.norm1 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mixer = mixer
        self.scale1 = scale()
        self.norm2 = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.scale2 = scale()
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, H, W, dim)``, in and out."""
        x = x + self.drop_path(self.scale1(self.mixer(self.norm1(x))))
        return x + self.drop_path(self.scale2(self.mlp(self.norm2(x))))

    def switch_to_deploy(self) -> None:
        """Folds layer scale into the product before it."""
        for scale, layer in ((self.scale1, self.mixer.proj),
                             (self.scale2, self.mlp.fc2)):
            if isinstance(scale, LayerScale):
                layer.weight.mul_(scale.layer_scale.view(
                    -1, *[1] * (layer.weight.dim() - 1)))
                layer.bias.mul_(scale.layer_scale)
        self.scale1 = self.scale2 = nn.Identity()


class Stage(nn.Module):
    """Patch embedding, position map, blocks and output norm.

    Args:
        patch_embed: ``(B, C_in, H, W)`` to ``(B, dim, h, w)``.
        dim: Channels of the stage.
        pos_embed_size: Grid ``(h, w)`` of the position map.
        blocks: Of :class:`Block`.
        out_norm: Whether :meth:`output_map` applies a LayerNorm.
        with_cp: Whether the blocks recompute their activations in backward.
    """

    def __init__(self, patch_embed: nn.Module, dim: int,
                 pos_embed_size: Tuple[int, int], blocks: nn.ModuleList,
                 out_norm: bool, with_cp: bool) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.pos_embed = nn.Parameter(torch.zeros(1, *pos_embed_size, dim))
        self.blocks = blocks
        self.out_norm = (
            nn.LayerNorm(dim, eps=LAYER_NORM_EPS) if out_norm else None)
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C_in, H, W)`` to ``(B, dim, h, w)``, without the norm."""
        x = self.patch_embed(x).permute(0, 2, 3, 1)  # (B, h, w, dim)
        x = x + resize_pos_embed(self.pos_embed, x.shape[1:3])
        for block in self.blocks:
            if self.with_cp and x.requires_grad:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x.permute(0, 3, 1, 2)

    def output_map(self, x: Tensor) -> Tensor:
        """The map as the backbone returns it, ``(B, dim, h, w)``: normalised,
        and contiguous since mmcv's operators (RoIAlign) read NCHW memory."""
        if self.out_norm is not None:
            x = self.out_norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x.contiguous()
