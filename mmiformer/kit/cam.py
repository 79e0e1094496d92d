"""Class activation maps: where in an image a model sees a class.

The maps are those of the library grad-cam. Added here is what it needs to know
about OpenMMLab's models: how each kind is run on one image, and which number
in its output is the score of a class.
"""
import copy
from contextlib import contextmanager, nullcontext
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .layers import find_layer, last_tensor, to_maps

# Names on the command line, and those of the library's classes. Grad-CAM++ and
# XGrad-CAM are missing: they assume maps after a ReLU, without negative
# values, which none of these backbones has.
METHODS = {'gradcam': 'GradCAM', 'hirescam': 'HiResCAM',
           'layercam': 'LayerCAM'}
LAST_MAP = ('backbone', 'NCHW')  # every mm model has one


class NotSeenError(ValueError):
    """The model finds nothing of the class in the image."""


class Classifier(nn.Module):
    """A classifier as the library runs one: an image in, one output per image
    out, here logits ``(K,)``.

    Args:
        model: The model.
        data_samples: What its ``data_preprocessor`` says about the image.
    """
    method = 'gradcam'  # the default

    def __init__(self, model: nn.Module, data_samples: List) -> None:
        super().__init__()
        self.model = model
        self.data_samples = data_samples

    def prepare(self, image: Tensor) -> None:
        """Called once, before anything is hooked."""

    def forward(self, image: Tensor):
        return self.model(image, mode='tensor')

    def score(self, logits: Tensor, category: int) -> Tensor:
        """The score of a class, a scalar with a graph."""
        return logits[_checked(category, len(logits))]

    def votes(self, logits: Tensor) -> Tensor:
        """How much of each class is seen, ``(K,)``; 0 is nothing."""
        return logits.softmax(0)


class Segmentor(Classifier):
    """Its output: logits ``(K, H, W)``. Run on the whole image, also if it is
    tested in windows, since a layer must return one map of the image."""
    method = 'hirescam'

    def forward(self, image: Tensor) -> Tensor:
        return self.model.encode_decode(
            image, [sample.metainfo for sample in self.data_samples])

    def score(self, logits: Tensor, category: int) -> Tensor:
        inside = logits.argmax(0) == _checked(category, len(logits))
        if not inside.any():
            raise NotSeenError(f'no pixel is given to class {category}')
        return logits[category][inside].sum()

    def votes(self, logits: Tensor) -> Tensor:
        return logits.argmax(0).flatten().bincount(minlength=len(logits))


class Detector(Classifier):
    """Its output: instances, whose scores have a graph."""
    method = 'hirescam'
    detaches = False

    def prepare(self, image: Tensor) -> None:
        # KeepGraph only where it is needed: some networks detach on purpose.
        instances, = self(image)
        self.detaches = not instances.scores.requires_grad

    def forward(self, image: Tensor) -> List:
        with KeepGraph() if self.detaches else nullcontext():
            # A copy, as predict() writes into the samples.
            sample, = self.model.predict(
                image, copy.deepcopy(self.data_samples), rescale=False)
        return [sample.pred_instances]

    def score(self, instances, category: int) -> Tensor:
        """Sum of -log(1 - score) over the class's instances. By its slope an
        instance counts as much as its score says; in the sum of the scores
        themselves those near 1 would have no slope."""
        scores = instances.scores[instances.labels == category]
        if not len(scores):
            raise NotSeenError(f'no instance of class {category} is found')
        slopes = 1 / (1 - scores.detach()).clamp_min(1e-6)
        return (slopes * scores).sum()

    def votes(self, instances) -> Tensor:
        scores, labels = instances.scores, instances.labels
        votes = scores.new_zeros(1 + max(labels.tolist(), default=0))
        return votes.scatter_reduce(0, labels, scores, 'amax')


class KeepGraph(TorchFunctionMode):
    """Ignores ``detach()``, which mmdet's single-stage heads call on what they
    predict."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.detach:
            return args[0]
        return func(*args, **(kwargs or {}))


# By the name of the base class, since a user may have one of the packages.
KINDS = {'BaseClassifier': Classifier, 'BaseSegmentor': Segmentor,
         'BaseDetector': Detector}


def adapt(model: nn.Module, data_samples: List) -> Classifier:
    """The model as the library runs one.

    Raises:
        ValueError: It is no model of OpenMMLab of a known kind.
    """
    for base in type(model).__mro__:
        if base.__name__ in KINDS:
            return KINDS[base.__name__](model, data_samples)
    raise ValueError(f'{type(model).__name__} is no classifier, segmentor or '
                     'detector of OpenMMLab')


def class_activation(model: nn.Module, data: Dict[str, Any], category: int,
                     layer: Tuple[str, str] = LAST_MAP,
                     method: Optional[str] = None) -> np.ndarray:
    """Where in an image a model sees a class.

    The score that is explained is, for a classifier, the logit of the class;
    for a segmentor, the sum of the class's logits over the pixels that it
    gives to the class (Vinogradova et al., "Towards Interpretable Semantic
    Segmentation via Gradient-weighted Class Activation Mapping", AAAI 2020);
    for a detector, see :meth:`Detector.score`.

    Args:
        model: A classifier of mmpretrain, a segmentor of mmseg or a detector
            of mmdet, with any backbone. It is left as it was.
        data: One image, as the model's ``data_preprocessor`` returns it:
            ``inputs`` ``(1, 3, H, W)`` and ``data_samples``.
        category: The index of the class.
        layer: The dotted name of a layer, as in ``model.named_modules()``, and
            the layout of its (last) output, see :data:`~.layers.LAYOUTS`.
        method: One of :data:`METHODS`; by default Grad-CAM for a classifier
            and HiResCAM for the others. Grad-CAM weights a channel by its mean
            gradient, as if a class looked for the same at all positions, and
            lights up other classes in a dense model. Behind an average and a
            linear layer both are the same.

    Returns:
        ``(H, W)``, from 0 to 1, where 1 speaks most for the class. All 0
        where nothing speaks for it.

    Raises:
        NotSeenError: The model finds nothing of the class in the image.
        ValueError: There is no such class, method or layer, the layout does
            not fit, or the class does not depend on the layer.
        ImportError: The library is missing.
    """
    adapter = adapt(model, data['data_samples'])
    cam_class = find_method(method or adapter.method)
    (name, layout), size = layer, tuple(data['inputs'].shape[2:])
    module = find_layer(model, name)
    image = data['inputs'].detach().clone().requires_grad_()
    # The library can hook only a layer that returns one tensor: this one gets
    # the last of several.
    tap, returned = nn.Identity(), []

    def hook(module, args, out) -> None:
        returned.append(tap(last_tensor(out)))

    def score(output) -> Tensor:
        if len(returned) != 1:
            raise ValueError(f'layer {name} runs {len(returned)} times for an '
                             'image, not once: choose another layer')
        if not returned[0].requires_grad:
            raise ValueError(f'layer {name} does not depend on the image: '
                             'choose another layer')
        # In the graph in any case: the library fails without a gradient.
        return adapter.score(output, category) + 0 * returned[0].sum()

    with unchanged(model), torch.enable_grad():
        adapter.eval().prepare(image)
        # A copy of the maps, as the next layer may work in place.
        with cam_class(adapter, [tap], reshape_transform=lambda x: to_maps(
                x, layout, size).clone()) as cam:
            handle = module.register_forward_hook(hook)
            try:
                heat, = cam(image, [score])
                gradient, = cam.activations_and_grads.gradients
            finally:
                handle.remove()
    if not gradient.any():
        raise ValueError(f'class {category} does not depend on the output of '
                         f'layer {name}: choose another layer')
    return heat


def see(model: nn.Module, seen: np.ndarray, data: Dict[str, Any],
        classes: Sequence[str], category: Optional[int] = None,
        layer: Tuple[str, str] = LAST_MAP, method: Optional[str] = None
        ) -> Tuple[Optional[np.ndarray], str]:
    """Where a model sees a class, by default its top prediction.

    Args:
        model, data, category, layer, method: As in :func:`class_activation`.
        seen: The image before padding, ``(h, w, 3)``.
        classes: Their names; the top prediction is never ``background``.

    Returns:
        The activation ``(h, w)`` and the name of the class; or None and
        ``no cat is seen``.
    """
    try:
        if category is None:
            background = (classes.index('background')
                          if 'background' in classes else None)
            category = predicted_class(model, data, background)
        heat = class_activation(model, data, category, layer, method)
    except NotSeenError:
        name = 'class' if category is None else classes[category]
        return None, f'no {name} is seen'
    return heat[:seen.shape[0], :seen.shape[1]], classes[category]


def predicted_class(model: nn.Module, data: Dict[str, Any],
                    background: Optional[int] = None) -> int:
    """The model's top prediction.

    Args:
        model: As in :func:`class_activation`, and left as it was.
        data: As in :func:`class_activation`.
        background: The index of the background class, never returned.

    Returns:
        The class with the highest logit of a classifier, with most pixels of
        a segmentor, with the highest score of a detector.

    Raises:
        NotSeenError: There is none but the background.
    """
    adapter = adapt(model, data['data_samples'])
    with unchanged(model), torch.no_grad():
        votes = adapter.eval().votes(adapter(data['inputs'])[0])
    if background is not None:
        votes[background] = 0
    if not votes.any():
        raise NotSeenError('nothing is seen')
    return int(votes.argmax())


def find_method(method: str) -> type:
    """The library's class of a method.

    Raises:
        ValueError: The method is unknown.
        ImportError: The library is missing.
    """
    if method not in METHODS:
        raise ValueError(f'unknown method {method!r}: choose from '
                         f'{list(METHODS)}')
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ImportError(
            f'class activation maps need the library grad-cam ({error}): '
            'in the checkout, pip install ".[cam]" '  # its OpenCV would move
            f'"numpy<{int(np.__version__[0]) + 1}"') from error  # NumPy 1
    return getattr(pytorch_grad_cam, METHODS[method])


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restores modes and gradients. Meanwhile parameters have no gradient: only
    that of a layer's output is needed."""
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
