"""Where in an image a model sees a class: class activation maps.

The maps are those of the library grad-cam; what is added here is what it needs
to know about OpenMMLab's models: what their layers emit, and, in
``explained.py``, how each kind of them is run and which number of theirs
speaks for a class.
"""
import difflib
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from .explained import NotSeenError, explain
from .spectrum import to_maps

# Names on the command line, and those of the library's classes. Grad-CAM++ and
# XGrad-CAM are not among them: they are made for maps that a ReLU has left
# without a sign, which none of these backbones emits.
METHODS = {'gradcam': 'GradCAM', 'hirescam': 'HiResCAM',
           'layercam': 'LayerCAM'}
LAST_MAP = ('backbone', 'NCHW')  # every mm model has one


def class_activation(model: nn.Module, data: Dict[str, Any], category: int,
                     layer: Tuple[str, str] = LAST_MAP,
                     method: Optional[str] = None) -> np.ndarray:
    """Where in an image a model sees a class.

    What the map explains is, of a classifier, the logit of the class; of a
    segmentor, the sum of the class's logits over the pixels that it gives to
    the class (Vinogradova et al., "Towards Interpretable Semantic Segmentation
    via Gradient-weighted Class Activation Mapping", AAAI 2020); of a detector,
    what :meth:`.explained.Detector.evidence` says of the class's instances.

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
