from .hooks import LoadBackboneHook

__all__ = ['LoadBackboneHook']
