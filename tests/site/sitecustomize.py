"""Every Python that the tests start imports this first, where torchvision is
of another build than torch (conftest.py sees to it): other tools than ours,
which do not call make_importable, are to run there too."""
import sys


class Schemas:
    """Finds nothing, but defines what torchvision's import lacks before it."""

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == 'torchvision' and self.library is None:
            import torch
            Schemas.library = torch.library.Library('torchvision', 'FRAGMENT')
            for operator in ('nms', 'qnms'):
                self.library.define(
                    operator + '(Tensor dets, Tensor scores, float '
                    'iou_threshold) -> Tensor')


sys.meta_path.insert(0, Schemas())
