"""Hooks that the configs use."""
from collections import OrderedDict

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from ..backbone import IFormer
from ..backbone.checkpoint import unwrap


class LoadBackboneHook(Hook):
    """Lets ``load_from`` take the weights of a backbone alone.

    mmengine hands a module only those names of a checkpoint that begin with
    the module's own. A classification checkpoint has no ``backbone.`` before
    its names, so they would all be left out; this hook puts it there. Other
    checkpoints pass unchanged.
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
        checkpoint['state_dict'] = OrderedDict(
            (f'backbone.{name}', value)
            for name, value in unwrap(checkpoint).items())
