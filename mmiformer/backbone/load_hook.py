"""Hooks that the configs use."""
from collections import OrderedDict

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from ..registry import HOOKS
from .iformer import IFormer
from .weights import check_fit, fit_weights, unwrap

HEAD = 'head.'  # of the released checkpoints: one linear layer


@HOOKS.register_module()
class LoadBackboneHook(Hook):
    """Makes ``load_from`` accept a checkpoint of a backbone alone.

    mmengine gives each module the names of a checkpoint that begin with the
    module's own name. A released checkpoint has no ``backbone.`` prefix, so
    mmengine would skip all of it; this hook adds the prefix. The classifier
    of the checkpoint goes to mmpretrain's ``LinearClsHead`` if that has as
    many classes. Of a whole model's checkpoint nothing is renamed.

    Raises:
        ValueError: The checkpoint has an iFormer backbone that fits the
            model's in part, or weights alone that do not fit at all. A whole
            model with another backbone gives its heads.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if not isinstance(getattr(model, 'backbone', None), IFormer):
            return
        # Of a whole model saved by DistributedDataParallel, too: mmengine
        # strips `module.` only after this hook.
        names = checkpoint.get('state_dict', checkpoint)
        weights = unwrap(checkpoint)
        if any('backbone.' in name for name in names):
            own = model.backbone.state_dict()
            if own.keys() & fit_weights(weights, own)[0]:
                check_fit(model.backbone, weights)
            return
        check_fit(model.backbone, weights)
        linear = getattr(getattr(model, 'head', None), 'fc', None)
        renamed = OrderedDict()
        for name, value in weights.items():
            is_head = name.startswith(HEAD) and isinstance(linear, nn.Linear)
            renamed[f'{HEAD}fc.{name[len(HEAD):]}' if is_head else
                    f'backbone.{name}'] = value
        weight = renamed.get(f'{HEAD}fc.weight')
        if weight is not None and weight.shape != linear.weight.shape:
            print_log(f'dropped the head of {len(weight)} classes: the model '
                      f'has {linear.out_features}', logger='current')
            for name in ('weight', 'bias'):
                renamed.pop(f'{HEAD}fc.{name}', None)
        checkpoint['state_dict'] = renamed
