from .hooks import LoadBackboneHook
from .runner import ResumableRunner
from .sharding import wrap_blocks

__all__ = ['LoadBackboneHook', 'ResumableRunner', 'wrap_blocks']
