"""Lets torchvision's Python parts be imported beside another build of torch.

Its wheel may be compiled for CUDA where torch is a CPU build. Then its
compiled operators do not load, and the import fails for want of the schemas
of two of them, although mmpretrain needs neither.
"""
import importlib
import importlib.util
import sys

import torch

SCHEMAS = ('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor',
           'qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
_libraries = []  # what they define lasts as long as they do


def make_importable() -> bool:
    """Defines what is missing, only where the import fails without it.

    Returns:
        Whether it had to, now or before.
    """
    if importlib.util.find_spec('torchvision') is None:
        return False
    try:
        importlib.import_module('torchvision')
    except ImportError:
        pass  # whoever needs it will say so
    except RuntimeError as error:
        if 'operator torchvision::' not in str(error):
            raise
        library = torch.library.Library('torchvision', 'FRAGMENT')
        for schema in SCHEMAS:
            library.define(schema)
        _libraries.append(library)
        for name in [name for name in sys.modules
                     if name.split('.')[0] == 'torchvision']:
            del sys.modules[name]
        importlib.import_module('torchvision')
    return bool(_libraries)
