"""The synthetic shapes. The class of each framework is imported by
mmiformer.registry when a config names it, since none is required."""
from .shapes import CLASSES, PALETTE, make_shapes

__all__ = ['CLASSES', 'PALETTE', 'make_shapes']
