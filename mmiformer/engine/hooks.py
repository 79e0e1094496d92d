"""Hooks that the configs use."""
from collections import OrderedDict

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from ..backbone import IFormer
from ..backbone.weights import unwrap

HEAD = 'head.'  # of the released checkpoints: one linear layer


class LoadBackboneHook(Hook):
    """Lets ``load_from`` take the weights of a backbone alone.

    mmengine hands a module only those names of a checkpoint that begin with
    the module's own. A released checkpoint has no ``backbone.`` before its
    names, so they would all be left out; this hook puts it there. Its head
    goes to the linear layer of mmpretrain's ``LinearClsHead``, where there is
    one of as many classes. Other checkpoints pass unchanged.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        if not isinstance(getattr(model, 'backbone', None), IFormer):
            return
        weights = checkpoint.get('state_dict', checkpoint)
        if any(name.startswith('backbone.') for name in weights):
            return
        linear = getattr(getattr(model, 'head', None), 'fc', None)
        renamed = OrderedDict()
        for name, value in unwrap(checkpoint).items():
            own = name.startswith(HEAD) and isinstance(linear, nn.Linear)
            renamed[(f'{HEAD}fc.{name[len(HEAD):]}' if own else
                     f'backbone.{name}')] = value
        weight = renamed.get(f'{HEAD}fc.weight')
        if weight is not None and weight.shape != linear.weight.shape:
            print_log(f'the head of {len(weight)} classes is left out, the '
                      f'model has {linear.out_features}', logger='current')
            for name in ('weight', 'bias'):
                renamed.pop(f'{HEAD}fc.{name}', None)
        checkpoint['state_dict'] = renamed
