from .fsdp import wrap_blocks
from .hooks import LoadBackboneHook
from .runner import ResumableRunner

__all__ = ['LoadBackboneHook', 'ResumableRunner', 'wrap_blocks']
