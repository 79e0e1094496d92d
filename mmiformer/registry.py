"""The registry of this package.

mmengine imports this module by itself for ``type='mmiformer.IFormer'`` and
hides every ImportError that it meets here, so nothing else belongs in it.
"""
from mmengine.registry import MODELS, Registry

BACKBONES = Registry(
    'backbone',
    parent=MODELS,
    scope='mmiformer',
    locations=['mmiformer.backbone'])
