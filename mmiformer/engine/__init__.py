from .hooks import LoadBackboneHook
from .non_finite import NonFiniteHook
from .resume import ResumableRunner

__all__ = ['LoadBackboneHook', 'NonFiniteHook', 'ResumableRunner']
