"""The iFormer backbone (Inception Transformer, NeurIPS 2022) for OpenMMLab."""
from .apis.inference import inferencer
from .backbone import IFormer
from .engine import LoadBackboneHook, NonFiniteHook, ResumableRunner
from .version import __version__
from .zoo import config_path

__all__ = ['IFormer', 'LoadBackboneHook', 'NonFiniteHook', 'ResumableRunner',
           'config_path', 'inferencer', '__version__']
