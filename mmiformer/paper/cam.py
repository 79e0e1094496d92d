"""Class activation maps: where in an image a model sees a class.

The library grad-cam computes them. Here is what it needs to know about the
models of mmpretrain and mmseg: how one is run on an image, and which number of
its output is the score of a class.
"""
import copy
from types import ModuleType
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn


class Logits(nn.Module):
    """A copy of a model that returns logits: ``(1, K)`` of a classifier,
    ``(1, K, H, W)`` of a segmentor, which sees the whole image, also if it is
    tested in windows."""

    def __init__(self, model: nn.Module, data_samples: List) -> None:
        super().__init__()
        # By name, since a user may have one of the packages alone.
        bases = {base.__name__ for base in type(model).__mro__}
        if not bases & {'BaseClassifier', 'BaseSegmentor'}:
            raise ValueError(f'{type(model).__name__} is neither a classifier '
                             'of mmpretrain nor a segmentor of mmseg')
        self.dense = 'BaseSegmentor' in bases
        self.metas = [x.metainfo for x in data_samples] if self.dense else []
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    def forward(self, image: Tensor) -> Tensor:
        if self.dense:
            return self.model.encode_decode(image, self.metas)
        return self.model(image, mode='tensor')


def explain(model: nn.Module, shown: np.ndarray, data: Dict[str, Any],
            classes: Sequence[str], category: Optional[int] = None,
            part: str = 'backbone', level: int = -1
            ) -> Tuple[Optional[np.ndarray], str]:
    """Where a model sees a class, by default its top prediction.

    By HiResCAM (Draelos and Carin, 2020): gradient times map, summed over
    channels. Behind an average and a linear layer, as in a classifier, that
    is Grad-CAM, which in a dense model would light up other classes, as it
    averages gradients over the map. What is explained is a classifier's logit
    of the class, or the sum of a segmentor's over the pixels that it gives to
    the class (Vinogradova et al., AAAI 2020).

    Args:
        model: A classifier or a segmentor with any backbone.
        shown: The image before padding, ``(h, w, 3)``.
        data: The image as the model's ``data_preprocessor`` returns it:
            ``inputs`` ``(1, 3, H, W)`` and ``data_samples``.
        classes: Their names; the top prediction is never ``background``.
        category: The index of a class.
        part: ``'backbone'`` or ``'neck'``, which returns maps
            ``(1, C, h, w)``.
        level: Which of these maps is looked at.

    Returns:
        The activation ``(h, w)``, from 0 to 1, where 1 speaks most for the
        class, and the name of the class; or None and ``no cat is seen``.

    Raises:
        ValueError: The model is of another kind, has no such map, or the class
            does not depend on it.
        ImportError: The library is missing.
    """
    logits, image = Logits(model, data['data_samples']), data['inputs']
    cam_class = find_library().HiResCAM
    with torch.no_grad():
        class_logits = logits(image)[0]
    labels = class_logits.argmax(0)  # (H, W), or one for the image
    if category is None:
        class_scores = (
            labels.flatten().bincount(minlength=len(class_logits))
            if logits.dense else class_logits.softmax(0))
        if 'background' in classes:
            class_scores[classes.index('background')] = 0
        if not class_scores.any():
            return None, 'no class is seen'
        category = int(class_scores.argmax())
    inside = labels == category if logits.dense else torch.tensor(True)
    if not inside.any():
        return None, f'no {classes[category]} is seen'
    source = getattr(logits.model, part, None)
    if source is None:
        raise ValueError(f'{type(model).__name__} has no {part}')
    tap, maps = nn.Identity(), []

    def look(module: nn.Module, args: tuple, outs: Any) -> None:
        outs = outs if isinstance(outs, (tuple, list)) else (outs, )
        if not -len(outs) <= level < len(outs) or outs[level].dim() != 4:
            raise ValueError(f'the {part} gives no map {level}, but tensors of '
                             f'shapes {[tuple(x.shape) for x in outs]}')
        # The library hooks a layer that returns one tensor: it hooks the tap.
        maps.append(tap(outs[level]))

    def target(output: Tensor) -> Tensor:
        score = output[category][inside].sum()
        gradient, = torch.autograd.grad(
            score, maps[-1:], retain_graph=True, allow_unused=True)
        if gradient is None or not gradient.any():
            raise ValueError(
                f'the class does not depend on map {level} of the {part}')
        return score

    source.register_forward_hook(look)
    # A copy of the maps, as the next layer may work in place.
    with torch.enable_grad(), cam_class(
            logits, [tap], reshape_transform=torch.clone) as cam:
        heat, = cam(image.detach().clone().requires_grad_(), [target])
    return heat[:shown.shape[0], :shown.shape[1]], classes[category]


def find_library() -> ModuleType:
    """The library grad-cam.

    Raises:
        ImportError: It is missing.
    """
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise ImportError(
            f'class activation maps need the library grad-cam ({error}): '
            'in the checkout, pip install ".[cam]" '  # its OpenCV would move
            f'"numpy<{int(np.__version__[0]) + 1}"') from error  # NumPy 1
    return pytorch_grad_cam
