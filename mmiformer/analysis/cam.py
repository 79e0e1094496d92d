"""Where in an image a model sees a class: class activation maps.

The maps are those of the library grad-cam; what is added here is what it needs
to know about OpenMMLab's models: how each kind of them is run, which number of
theirs speaks for a class, and what their layers emit.
"""
import copy
import difflib
from contextlib import contextmanager, nullcontext
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..engine.torchvision import make_importable
from .spectrum import to_maps

# Names on the command line, and those of the library's classes. Grad-CAM++ and
# XGrad-CAM are not among them: they are made for maps that a ReLU has left
# without a sign, which none of these backbones emits.
METHODS = {'gradcam': 'GradCAM', 'hirescam': 'HiResCAM',
           'layercam': 'LayerCAM'}
LAST_MAP = ('backbone', 'NCHW')  # every mm model has one


class NotSeenError(ValueError):
    """The model finds nothing of the class in the image."""


def class_activation(model: nn.Module, data: Dict[str, Any], category: int,
                     layer: Tuple[str, str] = LAST_MAP,
                     method: Optional[str] = None) -> np.ndarray:
    """Where in an image a model sees a class.

    What the map explains is, of a classifier, the logit of the class; of a
    segmentor, the sum of the class's logits over the pixels that it gives to
    the class (Vinogradova et al., "Towards Interpretable Semantic Segmentation
    via Gradient-weighted Class Activation Mapping", AAAI 2020); of a detector,
    what :meth:`Detector.evidence` says of the class's instances.

    Args:
        model: A classifier of mmpretrain, a segmentor of mmseg or a detector
            of mmdet, with any backbone. It is left as it was.
        data: One image, as the model's ``data_preprocessor`` returns it:
            ``inputs`` ``(1, 3, H, W)`` and ``data_samples``.
        category: The class, as the model counts them.
        layer: The dotted name of a layer, as in ``model.named_modules()``,
            and the layout, of :data:`~.spectrum.LAYOUTS`, of what it emits
            (of the last tensor, if several). By default the backbone.
        method: Of :data:`METHODS`; by default Grad-CAM of a classifier, and
            HiResCAM of the others. Grad-CAM weights a channel by its mean
            gradient, as if a class looked for the same at all places; where
            an output has a place of its own it lights up other classes, too.
            After the map of a network that ends in an average and a linear
            layer, both are the same.

    Returns:
        ``(H, W)``, from 0 to 1, where 1 speaks most for the class. All 0
        where nothing speaks for it.

    Raises:
        NotSeenError: The model finds nothing of the class in the image.
        ValueError: There is no such class, method or layer, the layer's
            layout does not fit, or the class does not depend on the layer.
        ImportError: The library is missing.
    """
    explained = explain(model, data['data_samples'])
    cam_class = library_class(method or explained.method)
    module = find_layer(model, layer[0])
    image = data['inputs'].detach().clone().requires_grad_()
    tap = Tap(*layer, size=tuple(image.shape[2:]))

    with unchanged(model), torch.enable_grad():
        explained.eval().prepare(image)
        cam = cam_class(explained, [tap], reshape_transform=tap.maps)
        handle = module.register_forward_hook(tap.hook)
        try:
            heat, = cam(image, [
                lambda output: tap.anchor(explained.evidence(output, category))
            ])
            reached = bool(cam.activations_and_grads.gradients[0].any())
        finally:
            handle.remove()
            # The library's hooks on the tensor know the tap: a ring through
            # the graph, which Python does not see and would never free.
            tap.emitted.clear()
            cam.activations_and_grads.release()
    if not reached:
        raise ValueError(
            f'class {category} does not depend on what layer {layer[0]} '
            'emits: choose another layer')
    return heat


def predicted_class(model: nn.Module, data: Dict[str, Any],
                    background: Optional[int] = None) -> int:
    """The class that a model sees first of all in an image.

    Args:
        model: As of :func:`class_activation`, and left as it was.
        data: As of :func:`class_activation`.
        background: A class that is none.

    Returns:
        Of a classifier, the class of the highest logit; of a segmentor, the
        one of most pixels; of a detector, that of the highest score.

    Raises:
        NotSeenError: There is none but the background.
    """
    explained = explain(model, data['data_samples'])
    with unchanged(model), torch.no_grad():
        model.eval()
        votes = explained.votes(explained(data['inputs'])[0])
    if background is not None:
        votes[background] = 0
    if not votes.any():
        raise NotSeenError('nothing is seen')
    return int(votes.argmax())


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


class Tap(nn.Module):
    """Stands beside a layer, for the library to hook: it wants one tensor,
    where a layer may emit several.

    Args:
        name: The layer's, for messages.
        layout: Of what it emits.
        size: ``(H, W)`` of the image.
    """

    def __init__(self, name: str, layout: str, size: Tuple[int, int]) -> None:
        super().__init__()
        self.name, self.layout, self.size = name, layout, size
        self.emitted: List[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        return x  # the very tensor that goes on, so its gradient is seen

    def hook(self, module: nn.Module, args: Any, out: Any) -> None:
        tensors = [x for x in (out if isinstance(out, (tuple, list))
                               else (out, )) if isinstance(x, Tensor)]
        if not tensors:
            raise ValueError(f'layer {self.name} emits no tensor: choose '
                             'another layer')
        self.emitted.append(self(tensors[-1]))

    def maps(self, x: Tensor) -> Tensor:
        """``(B, C, h, w)``, a copy: the next layer may work in place."""
        try:
            return to_maps(x, self.layout, self.size).clone()
        except ValueError as error:
            raise ValueError(f'layer {self.name}: {error}, or another layer'
                             ) from None

    def anchor(self, value: Tensor) -> Tensor:
        """The value, with a graph that the layer is part of in any case: the
        library would fail without a gradient.

        Raises:
            ValueError: There is no one map to speak of.
        """
        if len(self.emitted) != 1 or not self.emitted[0].requires_grad:
            runs = len(self.emitted)
            raise ValueError(
                f'layer {self.name} ' + (
                    'does not depend on the image' if runs == 1 else
                    f'runs {runs} times for an image, not once') +
                ': choose another layer')
        return value + 0 * self.emitted[0].sum()


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer of that dotted name.

    Raises:
        ValueError: There is none.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        raise ValueError(f'no layer {name!r}: {suggest(name, modules)}')
    return modules[name]


def suggest(name: str, choices: Iterable[str], most: int = 12) -> str:
    """For a message: what to choose from, or of many what is most alike."""
    choices = [choice for choice in choices if choice]
    if len(choices) <= most:
        return f'choose from {choices}'
    alike = difflib.get_close_matches(name, choices, most, cutoff=0.)
    return f'alike of {len(choices)} are {alike}'


def library_class(method: str) -> type:
    """The library's class of a method.

    Raises:
        ValueError: The method is unknown.
        ImportError: The library is missing.
    """
    if method not in METHODS:
        raise ValueError(f'unknown method {method!r}: choose from '
                         f'{list(METHODS)}')
    make_importable()  # the library imports torchvision
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ImportError(
            f'class activation maps need the library grad-cam ({error}): '
            'pip install mmiformer[cam]') from error
    return getattr(pytorch_grad_cam, METHODS[method])


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Puts back modes and gradients. Meanwhile no parameter has one: the map
    needs those of a layer alone."""
    modes = {module: module.training for module in model.modules()}
    gradients = {parameter: (parameter.requires_grad, parameter.grad)
                 for parameter in model.parameters()}
    for parameter in gradients:
        parameter.requires_grad_(False).grad = None
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, (required, gradient) in gradients.items():
            parameter.requires_grad_(required).grad = gradient


def _checked(category: int, classes: int) -> int:
    if not 0 <= category < classes:
        raise ValueError(f'no class {category}: the model has {classes}')
    return category
