from .iformer import IFormer

__all__ = ['IFormer']
