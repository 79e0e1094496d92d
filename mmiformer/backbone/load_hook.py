"""Hooks that the configs use."""
import re
from collections import OrderedDict
from collections.abc import Mapping

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from torch import nn

from ..registry import HOOKS
from .iformer import IFormer
from .weights import STEM, check_fit, rename, strip_prefix, unwrap

# Also in the names of a model that DistributedDataParallel or another model
# was around: mmengine strips `module.` only after the hook.
PREFIX = re.compile(r'(?:^|.*?\.)backbone\.')
HEAD = 'head.'  # of the released checkpoints: one linear layer


@HOOKS.register_module(force=True)
class LoadBackboneHook(Hook):
    """Makes ``load_from`` accept a checkpoint of a backbone alone.

    mmengine gives each module the names of a checkpoint that begin with the
    module's own name. A released checkpoint has no ``backbone.`` prefix, so
    mmengine would skip all of it; this hook adds the prefix. The classifier
    of the checkpoint goes to mmpretrain's ``LinearClsHead`` if that has as
    many classes. Of a whole model's checkpoint nothing is renamed; if its
    backbone is no iFormer, none of that is loaded.

    Raises:
        ValueError: Weights of a backbone alone, or the iFormer of a whole
            model, do not fit or fit only in part.
    """

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        backbone = getattr(model, 'backbone', None)
        if not isinstance(backbone, IFormer):
            return
        if isinstance(checkpoint.get('model'), Mapping):  # as timm writes it
            checkpoint.setdefault('state_dict', checkpoint['model'])
        state = checkpoint.get('state_dict', checkpoint)
        names = {PREFIX.sub('', name, 1): name for name in state
                 if PREFIX.match(name)}
        if names and STEM not in map(rename, names):
            # Swin, for one, has norms of the same names and shapes.
            for name in names.keys() & backbone.state_dict():
                del state[names[name]]
            return
        if names:
            check_fit(backbone, {name: state[names[name]] for name in names})
            return
        weights = unwrap(checkpoint)
        check_fit(backbone, weights)
        checkpoint['state_dict'] = renamed = OrderedDict(
            (f'backbone.{name}', value) for name, value in weights.items())
        linear = getattr(getattr(model, 'head', None), 'fc', None)
        weight = weights.get(f'{HEAD}weight')
        if weight is None or not isinstance(linear, nn.Linear):
            return
        if weight.shape == linear.weight.shape:
            for name, value in strip_prefix(weights, HEAD).items():
                renamed[f'{HEAD}fc.{name}'] = value
        else:
            print_log(f'dropped the head of {len(weight)} classes: the model '
                      f'has {linear.out_features}', 'current')
