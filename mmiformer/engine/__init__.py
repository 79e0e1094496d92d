from .hooks import LoadBackboneHook
from .runner import ResumableRunner

__all__ = ['LoadBackboneHook', 'ResumableRunner']
