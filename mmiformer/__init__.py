"""The iFormer backbone (Inception Transformer, NeurIPS 2022) for OpenMMLab."""
from .backbone import IFormer
from .backbone.safe_load import allow_history_buffer
from .engine import LoadBackboneHook, ResumableRunner, wrap_blocks
from .version import __version__
from .zoo import config_path

allow_history_buffer()

__all__ = ['IFormer', 'LoadBackboneHook', 'ResumableRunner', 'config_path',
           'wrap_blocks',
           '__version__']
