"""The iFormer backbone (Inception Transformer, NeurIPS 2022) for OpenMMLab."""
from .backbone import IFormer
from .version import __version__

__all__ = ['IFormer', '__version__']
