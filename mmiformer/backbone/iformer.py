"""iFormer, the Inception Transformer, as an OpenMMLab backbone."""
from typing import List, Optional, Sequence, Tuple, Union

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..config import as_list
from ..registry import BACKBONES
from .arch import resolve_arch
from .arguments import PRETRAINED, RULES, check, compile_cfg, per_stage
from .hub import load_pretrained, resolve_release
from .layers import Block, PatchEmbed, Stage, Stem
from .mixer import InceptionMixer
from .weights import adapt_state_dict


# The root registry too, so that plain `type='IFormer'` is found from mmdet,
# mmseg and mmpretrain, which look in their own registry and in the root.
@MODELS.register_module(force=True)  # a notebook may reload this module
@BACKBONES.register_module(force=True)
class IFormer(BaseModule):
    """The iFormer backbone: every block splits its channels between
    attention, pooling and convolution.

    Source: Si et al., "Inception Transformer", NeurIPS 2022, and the released
    weights. The stage outputs equal the authors' network wherever that is
    defined; for other sizes of maps see :class:`LowMixer`.

    Args:
        arch: ``'small'``, ``'base'``, ``'large'`` or a dict, see
            :func:`~mmiformer.backbone.arch.resolve_arch`.
        pretrain_img_size: Input size in pixels, an int or ``(H, W)``, of the
            stored position maps; 384 for the ``_384`` weights. For other
            inputs the maps are resized bilinearly.
        in_channels: Channels of the input.
        out_indices: The stages whose maps are returned, increasing, of 0 to 3.
            Stages after the last of them are not built.
        out_norms: A LayerNorm on each emitted map. Dense heads need it: the
            residual stream leaves the stages with a deviation of 2 to 5.
        frozen_stages: -1 freezes nothing, 0 the first patch embedding and
            position map, k the first k stages with their output norms.
            Frozen modules also stay in eval mode.
        norm_eval: Keep every BatchNorm in eval mode while training.
        norm_cfg: The BatchNorms: ``type`` ``'BN'`` or ``'SyncBN'``, and
            optionally ``requires_grad``, ``eps``, ``momentum``.
        drop_path_rate: Of the last block of ``arch``; it rises linearly from
            0 at the first block.
        with_cp: Recompute activations in backward to save memory; a bool, or
            one per stage.
        window_size: Restricts attention to windows, for large inputs. The
            side in positions of the map that attends (stride 8, 16, 16 and 32
            of the image in the presets); an int or None, or one per stage.
            None, as in the paper: global attention. A window that covers the
            map is the same as None.
        compile: Compiles ``forward`` by torch.compile at its first call:
            True, or a dict of torch.compile's arguments. With
            ``dict(dynamic=True)`` one graph serves images of any size; with
            windows every size has its own.
        init_cfg: ``dict(type='Pretrained', checkpoint=<path, URL or name>)``
            loads released weights (``'mmiformer://iformer_small'``) or those
            of a trained model with an iFormer backbone; every tensor must
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
        check(RULES, dict(
            pretrain_img_size=pretrain_img_size, in_channels=in_channels,
            out_indices=out_indices, out_norms=out_norms,
            frozen_stages=frozen_stages, norm_eval=norm_eval,
            norm_cfg=norm_cfg, drop_path_rate=drop_path_rate, with_cp=with_cp,
            window_size=window_size, compile=compile, init_cfg=init_cfg))
        super().__init__(init_cfg)
        arch = resolve_arch(arch)
        if isinstance(pretrain_img_size, int):
            pretrain_img_size = (pretrain_img_size, ) * 2
        norm_cfg = norm_cfg or dict(type='BN')
        with_cp, window_size = per_stage(with_cp), per_stage(window_size)
        compile_args = compile_cfg(compile, window_size)

        self.arch = arch
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.deployed = False

        last = max(sum(arch['depths']) - 1, 1)
        drop_paths = [drop_path_rate * i / last for i in range(last + 1)]
        grid = tuple(_halve(_halve(side)) for side in pretrain_img_size)
        dims = (in_channels, *arch['embed_dims'])
        self.stages = nn.ModuleList()
        for i, dim in enumerate(arch['embed_dims'][:out_indices[-1] + 1]):
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
        if compile_args is not None:
            self.compile(**compile_args)

    @classmethod
    def from_pretrained(cls, checkpoint: str, **settings) -> 'IFormer':
        """Builds a backbone with trained weights, in eval mode.

        ::

            backbone = IFormer.from_pretrained('iformer_small')

        The mode is that of the function of the same name in transformers; for
        training call ``.train()``. Released weights have no output norms but
        the last: the others start as plain normalisation, and
        ``out_norms=False`` leaves all of them out.

        Args:
            checkpoint: One of the authors' files, ``'iformer_small'``,
                ``'iformer_small_384'`` and so on, which also sets ``arch``
                and ``pretrain_img_size``. Or a path or URL of any other.
            settings: Further arguments of :class:`IFormer`.

        Raises:
            FileNotFoundError, ConnectionError, ValueError: As of
                :func:`~mmiformer.backbone.hub.load_pretrained`.
        """
        source, defaults = resolve_release(checkpoint)
        model = cls(init_cfg=None, **{**defaults, **settings})
        load_pretrained(model, source)
        return model.eval()

    @property
    def feature_info(self) -> List[dict]:
        """Of each output its channels (``num_chs``), stride in pixels
        (``reduction``) and ``module``; the names are timm's."""
        return [dict(num_chs=self.arch['embed_dims'][i],
                     reduction=4 * 2 ** i, module=f'stages.{i}')
                for i in self.out_indices]

    def get_layer_depth(self, param_name: str, prefix: str = ''
                        ) -> Tuple[int, int]:
        """The depth of a parameter, for layer-wise decay of learning rates.

        As in mmpretrain's Swin: the stem is 0, block k (from 1, over all
        stages) is k, a later patch embedding and position map are of the depth
        of the block before them. What follows the blocks (output norms, and
        the modules after the backbone) comes last.

        Args:
            param_name: The parameter's name.
            prefix: Where the backbone is in it, ``'backbone.'`` for that of a
                detector; a name without it is not the backbone's.

        Returns:
            The depth, and the number of depths.
        """
        depths = [len(stage.blocks) for stage in self.stages]
        last = sum(depths) + 1
        if not param_name.startswith(prefix):
            return last, last + 1
        _, stage, part, *rest = param_name[len(prefix):].split('.')
        if part == 'out_norm':
            return last, last + 1
        block = int(rest[0]) + 1 if part == 'blocks' else 0
        return sum(depths[:int(stage)]) + block, last + 1

    def forward(self, x: Tensor) -> Tuple[Tensor, ...]:
        """``(B, C_in, H, W)`` to one ``(B, C_i, H_i, W_i)`` for each of
        ``out_indices``."""
        outs = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in self.out_indices:
                outs.append(stage.output_map(x))
        return tuple(outs)

    def init_weights(self) -> None:
        """Loads the ``Pretrained`` checkpoint of ``init_cfg``, if any.

        Unlike mmengine's lenient initialiser, this raises if the checkpoint
        is missing, damaged or does not fit, see
        :func:`~mmiformer.backbone.hub.load_pretrained`.
        """
        done, init_cfg = self.is_init, self.init_cfg
        cfgs = as_list(init_cfg)
        pretrained = [cfg for cfg in cfgs if cfg['type'] in PRETRAINED]
        self.init_cfg = [cfg for cfg in cfgs if cfg not in pretrained]
        super().init_weights()
        self.init_cfg = init_cfg
        for cfg in pretrained if not done else ():
            load_pretrained(self, cfg['checkpoint'], cfg.get('prefix'))

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Folds the network for faster inference; cannot be undone.

        Every step is an identity: BatchNorm is folded into the convolution
        before it, layer scale into the layer before it, and the fusion's
        addition into its kernel. Outputs stay the same to 3e-5 of a map's
        deviation. A folded network can neither be trained nor load weights.
        """
        if self.deployed:
            return
        self.eval()
        # Parts first: a stem, too, copies its convolutions.
        for module in reversed(list(self.modules())[1:]):
            if hasattr(module, 'switch_to_deploy'):
                module.switch_to_deploy()
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # the kernels of 3x3, once
        self.deployed = True

    def train(self, mode: bool = True) -> 'IFormer':
        """Sets the mode; frozen modules stay in eval mode.

        Raises:
            RuntimeError: Training after :meth:`switch_to_deploy`.
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
                if hasattr(module, 'running_mean'):  # of any BatchNorm
                    module.eval()
        return self

    def _frozen_parts(self) -> List[nn.Module]:
        if self.frozen_stages == 0:
            return [self.stages[0].patch_embed]
        return list(self.stages[:max(self.frozen_stages, 0)])

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        # Every load ends here: load_state_dict of this module or of a
        # detector or segmentor, and mmengine's load_from and resume.
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
