from .hooks import LoadBackboneHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .non_finite import NonFiniteHook
from .resume import ResumableRunner

__all__ = ['LayerDecayOptimWrapperConstructor', 'LoadBackboneHook',
           'NonFiniteHook', 'ResumableRunner']
