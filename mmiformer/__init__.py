"""The iFormer backbone (Inception Transformer, NeurIPS 2022) for OpenMMLab."""
from .backbone import IFormer
from .backbone.load_hook import LoadBackboneHook
from .kit.inference import inferencer
from .kit.non_finite import NonFiniteHook
from .kit.resume import ResumableRunner
from .version import __version__
from .zoo import config_path, list_models

__all__ = ['IFormer', 'LoadBackboneHook', 'NonFiniteHook', 'ResumableRunner',
           'config_path', 'inferencer', 'list_models', '__version__']
