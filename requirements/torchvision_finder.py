"""Lets torchvision be imported beside another build of torch.

`make setup` puts this into a venv of its own whose torchvision was compiled for
CUDA and whose torch is a CPU build, with a .pth file that imports it when
Python starts. There torchvision's compiled operators do not load, and its
import fails for want of two of their schemas, though mmpretrain and grad-cam
need only its Python parts.
"""
import importlib.util
import sys
from pathlib import Path


class Finder:
    """Finds nothing itself; declares the schemas before torchvision runs."""

    def find_spec(self, name, path=None, target=None):
        if name != 'torchvision':
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin:
            declare(Path(spec.origin).parent)
        return spec


def declare(folder):
    """Declares what the libraries in a folder would, if they do not load."""
    import torch
    try:
        for library in folder.glob('_C*.so'):
            torch.ops.load_library(library)
    except OSError:
        # The schemas last as long as the object that declared them.
        global schemas
        schemas = torch.library.Library('torchvision', 'FRAGMENT')
        for operator in ('nms', 'qnms'):
            schemas.define(operator + '(Tensor dets, Tensor scores, '
                           'float iou_threshold) -> Tensor')


sys.meta_path.insert(0, Finder())
