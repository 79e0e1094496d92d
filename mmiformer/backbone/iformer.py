"""iFormer, the Inception Transformer, as an OpenMMLab backbone."""
from typing import List, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..registry import BACKBONES
from . import checks
from .arch import NUM_STAGES, resolve_arch
from .hub import load_pretrained
from .layers import BATCH_NORMS, Block, PatchEmbed, Stage, Stem
from .mixer import InceptionMixer
from .weights import adapt_state_dict


# The root registry too, so that plain `type='IFormer'` is found from mmdet,
# mmseg and mmpretrain, which look in their own registry and in the root.
@MODELS.register_module()
@BACKBONES.register_module()
class IFormer(BaseModule):
    """iFormer backbone: channels split between attention, pooling and
    convolution in every block.

    Source: Si et al., "Inception Transformer", NeurIPS 2022, and the released
    weights. The stage outputs equal the authors' network wherever that is
    defined; maps of any other size are handled as :class:`LowMixer` says.

    Args:
        arch: ``'small'``, ``'base'``, ``'large'`` or a dict, see
            :func:`~mmiformer.backbone.arch.resolve_arch`.
        pretrain_img_size: Input size in pixels, an int or ``(H, W)``, that
            the position maps are stored for; 384 for the ``_384`` weights.
            Other inputs resize the maps bilinearly.
        in_channels: Channels of the input.
        out_indices: The stages to emit, increasing, of 0 to 3.
        out_norms: A LayerNorm on each emitted map. Dense heads need it: the
            residual stream leaves the stages with a deviation of 2 to 5.
        frozen_stages: -1 freezes nothing, 0 the first patch embedding and
            position map, k these and the first k stages (their output norms
            included); what is frozen also stays in eval mode.
        norm_eval: Keep every BatchNorm in eval mode while training.
        norm_cfg: The BatchNorms: ``type`` ``'BN'`` or ``'SyncBN'``, and
            optionally ``requires_grad``, ``eps``, ``momentum``.
        drop_path_rate: Of the last block; it rises linearly from 0.
        with_cp: Recompute activations in backward to save memory, for all
            stages or one bool per stage.
        window_size: Side of the windows that attention is cut to, for large
            inputs: in positions of the map that attends (stride 8, 16, 16 and
            32 of the image in the presets), an int for all stages or one per
            stage. None, as in the paper: every position sees all others. A
            window that covers the map is the same as None.
        compile: Compiles ``forward`` by torch.compile at its first call:
            True, or a dict of torch.compile's arguments. With
            ``dict(dynamic=True)`` one graph serves images of any size. With
            windows every size has its own.
        init_cfg: ``dict(type='Pretrained', checkpoint=<path, URL or name>)``
            loads released weights (``'mmiformer://iformer_small'``) or those
            of a trained model that has an iFormer backbone; every tensor must
            fit. None: truncated normal.

    Shape:
        ``(B, in_channels, H, W)``, any H, W >= 1, to a tuple with one
        ``(B, C_i, H_i, W_i)`` per index; H_i and W_i are H and W divided by
        4, 8, 16, 32, rounded up at each halving.

    Raises:
        ValueError: An argument does not fit; the message names it.
    """

    def __init__(self,
                 arch: Union[str, dict] = 'small',
                 pretrain_img_size: Union[int, Tuple[int, int]] = 224,
                 in_channels: int = 3,
                 out_indices: Sequence[int] = (0, 1, 2, 3),
                 out_norms: bool = True,
                 frozen_stages: int = -1,
                 norm_eval: bool = False,
                 norm_cfg: Optional[dict] = None,
                 drop_path_rate: float = 0.,
                 with_cp: Union[bool, Sequence[bool]] = False,
                 window_size: Union[None, int, Sequence[Optional[int]]] = None,
                 compile: Union[bool, dict] = False,
                 init_cfg: Union[dict, List[dict], None] = None) -> None:
        arch = resolve_arch(arch)
        img_size = checks.img_size('pretrain_img_size', pretrain_img_size)
        checks.positive_int('in_channels', in_channels)
        checks.out_indices(out_indices, NUM_STAGES)
        checks.boolean('out_norms', out_norms)
        checks.frozen_stages(frozen_stages, NUM_STAGES)
        checks.boolean('norm_eval', norm_eval)
        norm_cfg = checks.norm_cfg(norm_cfg, BATCH_NORMS)
        checks.drop_path_rate(drop_path_rate)
        with_cp = checks.with_cp(with_cp, NUM_STAGES)
        window_size = checks.window_size(window_size, NUM_STAGES)
        compile_cfg = checks.compile_cfg(compile, window_size)
        checks.init_cfg(init_cfg)
        super().__init__(init_cfg)
        self.deployed = False

        self.arch = arch
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval

        last = max(sum(arch['depths']) - 1, 1)
        drop_paths = [drop_path_rate * i / last for i in range(last + 1)]
        grid = tuple(_halve(_halve(side)) for side in img_size)
        dims = (in_channels, *arch['embed_dims'])
        self.stages = nn.ModuleList()
        for i, dim in enumerate(arch['embed_dims']):
            blocks = nn.ModuleList()
            for heads in arch['attention_heads'][i]:
                mixer = InceptionMixer(
                    dim=dim,
                    low_dim=heads * (dim // arch['num_heads'][i]),
                    num_heads=heads,
                    pool_stride=arch['pool_strides'][i],
                    window_size=window_size[i],
                    branches=arch['branches'],
                    kernel_size=arch['kernel_size'],
                    fusion=arch['fusion'])
                blocks.append(Block(
                    dim=dim,
                    mixer=mixer,
                    mlp_ratio=arch['mlp_ratio'],
                    drop_path=drop_paths.pop(0),
                    layer_scale_init_value=arch['layer_scale_init_values'][i]))
            self.stages.append(Stage(
                patch_embed=(Stem if i == 0 else PatchEmbed)(
                    dims[i], dim, norm_cfg),
                dim=dim,
                pos_embed_size=grid,
                blocks=blocks,
                out_norm=out_norms and i in self.out_indices,
                with_cp=with_cp[i]))
            grid = tuple(_halve(side) for side in grid)
        self.apply(_init_weights)
        for module in self._frozen_parts():
            module.requires_grad_(False)
        if frozen_stages >= 0:
            self.stages[0].pos_embed.requires_grad_(False)
        if compile_cfg is not None:
            self.compile(**compile_cfg)

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:  # (B, C_in, H, W)
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(stage.emit(x))
        return tuple(outs)  # of (B, C_i, H_i, W_i)

    def init_weights(self) -> None:
        """Loads the ``Pretrained`` checkpoint of ``init_cfg``, if any.

        Unlike mmengine's lenient initialiser, a checkpoint that is missing,
        damaged or does not fit raises, see
        :func:`~mmiformer.backbone.hub.load_pretrained`.
        """
        done, init_cfg = self.is_init, self.init_cfg
        cfgs = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
        pretrained = [cfg for cfg in cfgs
                      if cfg['type'] in ('Pretrained', PretrainedInit)]
        self.init_cfg = [cfg for cfg in cfgs if cfg not in pretrained]
        super().init_weights()
        self.init_cfg = init_cfg
        for cfg in pretrained if not done else ():
            load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Makes the network faster for inference, for good.

        Every change is an identity: BatchNorm goes into the convolution
        before it, layer scale into the product before it, the fusion's
        addition into its kernel, and on a CPU products take GELU and the
        residual along. Outputs stay the same to 3e-5 of a map's deviation.
        What is folded cannot be trained, nor loaded anew.
        """
        if self.deployed:
            return
        self.eval()
        for module in list(self.modules())[1:]:
            if hasattr(module, 'switch_to_deploy'):
                module.switch_to_deploy()
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # the kernels of 3x3, once
        self.deployed = True

    def train(self, mode: bool = True) -> 'IFormer':
        """Sets the mode; what is frozen stays in eval mode.

        Raises:
            RuntimeError: It is to train after :meth:`switch_to_deploy`.
        """
        if mode and self.deployed:
            raise RuntimeError(
                'switch_to_deploy() has folded norms and scales into other '
                'weights: train a model on which it has not been called')
        super().train(mode)
        for module in self._frozen_parts():
            module.eval()
        if self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _frozen_parts(self) -> List[nn.Module]:
        if self.frozen_stages == 0:
            return [self.stages[0].patch_embed]
        return list(self.stages[:max(self.frozen_stages, 0)])

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # Every road of loading comes through here: load_state_dict, the
        # detector's or segmentor's, and mmengine's load_from and resume.
        if self.deployed:
            raise RuntimeError(
                'switch_to_deploy() has folded norms and scales into other '
                'weights: load before it is called')
        adapt_state_dict(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Conv2d)):
        nn.init.trunc_normal_(module.weight, std=.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Stage):
        nn.init.trunc_normal_(module.pos_embed, std=.02)


def _halve(side: int) -> int:
    return (side + 1) // 2
