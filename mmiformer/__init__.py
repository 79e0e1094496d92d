"""The iFormer backbone (Inception Transformer, NeurIPS 2022) for OpenMMLab."""
from .apis.inference import inferencer
from .backbone import IFormer
from .engine import (
    LayerDecayOptimWrapperConstructor,
    LoadBackboneHook,
    NonFiniteHook,
    ResumableRunner,
)
from .version import __version__
from .zoo import config_path, list_models

__all__ = ['IFormer', 'LayerDecayOptimWrapperConstructor', 'LoadBackboneHook',
           'NonFiniteHook', 'ResumableRunner', 'config_path', 'inferencer',
           'list_models', '__version__']
