"""Classifiers, segmentors and detectors as class activation maps need them."""
import copy
from contextlib import nullcontext
from typing import List

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class NotSeenError(ValueError):
    """The model finds nothing of the class in the image."""


class Explained(nn.Module):
    """A model as the library runs one: an image in, an output per image out.

    Args:
        model: The model.
        data_samples: What its ``data_preprocessor`` says about the image.

    Subclasses say what the number is that speaks for a class (``evidence``, a
    scalar that has a graph), and how much each class is seen (``votes``,
    ``(K,)``, 0 where it is not).
    """
    method = 'hirescam'

    def __init__(self, model: nn.Module, data_samples: List) -> None:
        super().__init__()
        self.model = model
        self.data_samples = data_samples

    def prepare(self, image: Tensor) -> None:
        """Called once, before anything is hooked."""


class Classifier(Explained):
    """The output of an image: logits ``(K,)``."""
    method = 'gradcam'

    def forward(self, image: Tensor) -> Tensor:
        return self.model(image, mode='tensor')

    def evidence(self, logits: Tensor, category: int) -> Tensor:
        return logits[_checked(category, len(logits))]

    def votes(self, logits: Tensor) -> Tensor:
        return logits.softmax(0)


class Segmentor(Explained):
    """The output of an image: logits ``(K, H, W)``, also of a model that is
    tested in overlapping windows: the layers emit one map of the image."""

    def forward(self, image: Tensor) -> Tensor:
        return self.model.encode_decode(
            image, [sample.metainfo for sample in self.data_samples])

    def evidence(self, logits: Tensor, category: int) -> Tensor:
        inside = logits.argmax(0) == _checked(category, len(logits))
        if not inside.any():
            raise NotSeenError(f'no pixel is given to class {category}')
        return logits[category][inside].sum()

    def votes(self, logits: Tensor) -> Tensor:
        return logits.argmax(0).flatten().bincount(minlength=len(logits))


class Detector(Explained):
    """The output of an image: its instances, with scores that have a graph."""

    detaches = False  # the heads cut the scores' graph

    def prepare(self, image: Tensor) -> None:
        # Tried out, not known by type; where it can be spared nothing is kept
        # that was detached: some networks mean it.
        instances, = self(image)
        self.detaches = not instances.scores.requires_grad

    def forward(self, image: Tensor) -> List:
        with KeepGraph() if self.detaches else nullcontext():
            # A copy, as the predictions are added to it.
            sample, = self.model.predict(
                image, copy.deepcopy(self.data_samples), rescale=False)
        return [sample.pred_instances]

    def evidence(self, instances, category: int) -> Tensor:
        """Sum of -log(1 - score): the slope is that of the logits, weighted
        by the scores. Of the scores themselves the sure ones, which are near
        1, would have none, and the doubtful would outweigh them."""
        scores = instances.scores[instances.labels == category]
        if not len(scores):
            raise NotSeenError(f'no instance of class {category} is found')
        slopes = 1 / (1 - scores.detach()).clamp_min(1e-6)
        return (slopes * scores).sum()

    def votes(self, instances) -> Tensor:
        scores, labels = instances.scores, instances.labels
        votes = scores.new_zeros(1 + max(labels.tolist(), default=0))
        return votes.scatter_reduce(0, labels, scores, 'amax')


# By the class of OpenMMLab that a model derives from: known without an import
# of packages of which a user may have only one.
KINDS = {'BaseClassifier': Classifier, 'BaseSegmentor': Segmentor,
         'BaseDetector': Detector}


def explain(model: nn.Module, data_samples: List) -> Explained:
    """The model as the library runs one.

    Raises:
        ValueError: It is of no kind that is known.
    """
    for base in type(model).__mro__:
        if base.__name__ in KINDS:
            return KINDS[base.__name__](model, data_samples)
    raise ValueError(f'{type(model).__name__} is no classifier, segmentor or '
                     'detector of OpenMMLab')


class KeepGraph(TorchFunctionMode):
    """Lets gradients pass where mmdet's single-stage heads detach what they
    predict: they never need one there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.detach:
            return args[0]
        return func(*args, **(kwargs or {}))


def _checked(category: int, classes: int) -> int:
    if not 0 <= category < classes:
        raise ValueError(f'no class {category}: the model has {classes}')
    return category
