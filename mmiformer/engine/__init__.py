from .hooks import LoadBackboneHook
from .safe_load import allow_history_buffer

__all__ = ['LoadBackboneHook', 'allow_history_buffer']
