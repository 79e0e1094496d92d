"""Learning rates that fall with the distance from the head."""
from typing import Dict, List, Optional, Union

from mmengine.logging import print_log
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ..backbone.arguments import is_number, require
from ..registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with layer-wise decay of the learning rate.

    ::

        optim_wrapper = dict(
            constructor='mmiformer.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.8, norm_decay_mult=0.))

    A parameter of the backbone at depth d of n learns at the rate times
    ``layer_decay_rate ** (n - 1 - d)``, see :meth:`IFormer.get_layer_depth`;
    neck and heads at the full rate. It works for a detector, a segmentor, a
    classifier or a backbone alone, and for any backbone that has
    ``get_layer_depth`` (mmpretrain's Swin, ViT, BEiT).

    Every other option of ``paramwise_cfg`` is mmengine's and means the same,
    multipliers of the rate (``lr_mult``) included. Frozen parameters are
    skipped.

    Args:
        optim_wrapper_cfg: As mmengine's constructor takes it; its optimizer
            needs an ``lr``.
        paramwise_cfg: ``layer_decay_rate``, over 0 and up to 1, and mmengine's
            options.

    Raises:
        ValueError: There is no ``layer_decay_rate``, or it does not fit; when
            it is called, no backbone of the model tells depths.

    Source: Clark et al., "ELECTRA", ICLR 2020, for layers of transformers;
    mmpretrain's ``LearningRateDecayOptimWrapperConstructor``, which is for
    classifiers.
    """

    def __init__(self, optim_wrapper_cfg: dict,
                 paramwise_cfg: Optional[dict] = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        rate = self.paramwise_cfg.get('layer_decay_rate')
        require(is_number(rate) and 0 < rate <= 1,
                "paramwise_cfg['layer_decay_rate']", rate,
                'a number over 0 and up to 1')
        require(is_number(self.base_lr), "optimizer['lr']", self.base_lr,
                'a number: the rate of the heads')

    def add_params(self, params: List[dict], module: nn.Module,
                   prefix: str = '',
                   is_dcn_module: Union[int, float, None] = None) -> None:
        """Adds a group for each parameter; mmengine calls it for every module
        in turn, with an empty prefix for the whole model."""
        super().add_params(params, module, prefix, is_dcn_module)
        if prefix:
            return
        scales = self._scales(module)
        for group in params:
            parameter, = group['params']
            group['lr'] = group.get('lr', self.base_lr) * scales.get(
                parameter, 1)
        rates = [group['lr'] for group in params]
        print_log(f'{type(self).__name__}: learning rates from '
                  f'{min(rates):.3g} to {max(rates):.3g}', logger='current')

    def _scales(self, model: nn.Module) -> Dict[nn.Parameter, float]:
        """The factor of the rate of every parameter that has a depth."""
        scales, rate = {}, self.paramwise_cfg['layer_decay_rate']
        for part in model.modules():
            if not hasattr(part, 'get_layer_depth'):
                continue
            for name, parameter in part.named_parameters():
                depth, count = part.get_layer_depth(name)
                scales[parameter] = rate ** (count - 1 - depth)
        if not scales:
            backbone = getattr(model, 'backbone', model)
            raise ValueError(
                f'layer_decay_rate: {type(backbone).__name__} must be a '
                'backbone that has get_layer_depth, as IFormer has')
        return scales
