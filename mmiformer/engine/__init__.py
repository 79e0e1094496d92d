from .hooks import LoadBackboneHook
from .sharding import wrap_blocks

__all__ = ['LoadBackboneHook', 'wrap_blocks']
