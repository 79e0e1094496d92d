"""What an inferencer finds in an image: as JSON types, or as a label map."""
from typing import Any, Dict, List, Sequence, Union

import numpy as np


def run(model: Any, image: Union[str, np.ndarray]) -> Any:
    """The data sample of an image.

    Args:
        model: Of :func:`~.inference.inferencer`.
        image: A path, or ``(H, W, 3)`` BGR.
    """
    data = next(model.preprocess([image]))
    if not isinstance(data, dict):  # DetInferencer's, behind the image
        _, data = data
    return model.forward(data)[0].cpu()


def dataset_meta(model: Any) -> Dict[str, Any]:
    """Names and colours of an inferencer's classes."""
    return getattr(model.model, 'dataset_meta', None) or (
        model.model._dataset_meta)


def list_objects(model: Any, classes: Sequence[str], sample: Any
                 ) -> Dict[str, list]:
    """``labels``, ``names``, ``scores``, ``bboxes`` and ``masks`` (RLE)."""
    found = model.pred2dict(sample)
    return dict(found, names=[classes[label] for label in found['labels']])


def label_map(classes: Sequence[str], sample: Any) -> np.ndarray:
    """``(H, W)``, of the smallest type that holds every class."""
    return sample.pred_sem_seg.data[0].numpy().astype(
        np.uint8 if len(classes) <= 256 else np.uint16)


def count_pixels(classes: Sequence[str], labels: np.ndarray) -> List[dict]:
    """``name`` and ``pixels`` of each class of a label map."""
    return [dict(name=classes[label], pixels=int(pixels))
            for label, pixels in zip(*np.unique(labels, return_counts=True))]


def best_classes(classes: Sequence[str], scores: np.ndarray) -> List[dict]:
    """``name`` and ``score`` of the five highest of the scores ``(K, )``."""
    return [dict(name=classes[i], score=float(scores[i]))
            for i in np.argsort(-scores, kind='stable')[:5]]
