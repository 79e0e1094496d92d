"""A page in the browser that tries a model, for this machine alone."""
import json
import os
import tempfile
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import cv2
import gradio as gr
import mmcv
import numpy as np
from mmengine.config import Config

from .cam import find_method, see
from .inference import inferencer, read_image
from .predict import refuse_panoptic
from .results import (
    best_classes,
    count_pixels,
    dataset_meta,
    label_map,
    list_objects,
    run,
)

HOST = '127.0.0.1'
SIDES = (640, 1280)  # pixels, of a picture as it is shown
TOP = 'top prediction'

Annotation = Tuple[np.ndarray, str]


class Result(NamedTuple):
    """What a model has found in a picture.

    Args:
        shown: The picture as the page shows it, ``(h, w, 3)`` RGB.
        found: To be downloaded: JSON types.
        labels: The label map of a segmentor, ``(H, W)``.
    """
    shown: np.ndarray
    found: Dict[str, Any]
    labels: Optional[np.ndarray] = None


class View(ABC):
    """A model with what the page shows of its results."""
    has_scores = False
    is_dense = True

    def __init__(self, model: Any) -> None:
        self.model = model
        meta = dataset_meta(model)
        self.classes: List[str] = list(meta['classes'])
        palette = meta.get('palette')
        self.colours = dict(zip(self.classes, (
            '#{:02x}{:02x}{:02x}'.format(*colour) for colour in palette))
        ) if isinstance(palette, list) else {}

    def run(self, path: str) -> Result:
        """The result for an image file, at any threshold.

        Raises:
            ValueError: It cannot be read.
        """
        try:
            image = mmcv.imread(path, channel_order='rgb')
        except Exception as error:  # of many types, by format and backend
            raise ValueError(f'no image that can be read: {error}') from error
        height, width = image.shape[:2]
        found, labels = self.read(run(self.model, path))
        return Result(_fit(image), dict(file=Path(path).name, width=width,
                                  height=height, **found), labels)

    @abstractmethod
    def read(self, sample: Any) -> Tuple[Dict, Optional[np.ndarray]]:
        """``found`` and ``labels`` of :class:`Result`."""

    @abstractmethod
    def annotate(self, result: Result, threshold: float, classes: List[str]
                 ) -> List[Tuple[str, Annotation]]:
        """Class, mask of the picture as shown, and label of what is shown."""


class Detections(View):
    """Boxes and masks of mmdet's DetInferencer."""
    has_scores = True

    def read(self, sample: Any) -> Tuple[Dict, None]:
        return list_objects(self.model, self.classes, sample), None

    def annotate(self, result: Result, threshold: float, classes: List[str]
                 ) -> List[Tuple[str, Annotation]]:
        height, width = result.shown.shape[:2]
        found = result.found
        annotations = []
        for i, (name, score) in enumerate(zip(found['names'],
                                              found['scores'])):
            if score < threshold or (classes and name not in classes):
                continue
            if 'masks' in found:
                from pycocotools.mask import decode
                mask = cv2.resize(decode(found['masks'][i]), (width, height),
                                  interpolation=cv2.INTER_NEAREST)
            else:
                left, top, right, bottom = (
                    round(side * width / found['width'])
                    for side in found['bboxes'][i])
                mask = np.zeros((height, width), np.uint8)
                mask[max(top, 0):bottom, max(left, 0):right] = 1
            annotations.append((name, (_outlined(mask), f'{name} {score:.2f}')))
        return annotations


class Segments(View):
    """The label map of mmseg's MMSegInferencer."""

    def read(self, sample: Any) -> Tuple[Dict, np.ndarray]:
        labels = label_map(self.classes, sample)
        return dict(classes=count_pixels(self.classes, labels)), labels

    def annotate(self, result: Result, threshold: float, classes: List[str]
                 ) -> List[Tuple[str, Annotation]]:
        height, width = result.shown.shape[:2]
        small = cv2.resize(result.labels, (width, height),
                           interpolation=cv2.INTER_NEAREST)
        return [(item['name'], (
            _outlined(small == self.classes.index(item['name'])),
            f'{item["name"]} {item["pixels"] / result.labels.size:.0%}'))
            for item in sorted(result.found['classes'],
                               key=lambda item: -item['pixels'])
            if not classes or item['name'] in classes]


class Scores(View):
    """The classes of mmpretrain's ImageClassificationInferencer."""
    is_dense = False

    def read(self, sample: Any) -> Tuple[Dict, None]:
        return dict(classes=best_classes(
            self.classes, sample.pred_score.numpy())), None

    def annotate(self, result: Result, threshold: float, classes: List[str]
                 ) -> List[Tuple[str, Annotation]]:
        return []


VIEWS = dict(DetInferencer=Detections, MMSegInferencer=Segments,
             ImageClassificationInferencer=Scores)


def build_page(cfg: Config, checkpoint: str, title: str, folder: str
               ) -> gr.Blocks:
    """The page of a model.

    Args:
        cfg: The model's config.
        checkpoint: Its weights, see :func:`~.apis.inference.inferencer`.
        title: What stands above.
        folder: For what is uploaded and downloaded, to be removed afterwards.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As of ``inferencer``,
            and if the results are panoptic.
    """
    refuse_panoptic(cfg)
    model = inferencer(cfg, checkpoint)
    view = VIEWS[type(model).__name__](model)
    lock = threading.Lock()  # hooks for activation are seen by any run
    os.environ['GRADIO_TEMP_DIR'] = folder  # by default one that all can read

    def predict(path: Optional[str], threshold: float, classes: List[str]):
        if path is None:
            return None, None, None
        try:
            with lock:
                result = view.run(path)
        except ValueError as error:
            raise gr.Error(f'{Path(path).name}: {error}') from error
        return result, draw(result, threshold, classes), store(path, result)

    def draw(result: Optional[Result], threshold: float, classes: List[str]):
        if result is None:
            return None
        if not view.is_dense:
            return {item['name']: item['score']
                    for item in result.found['classes']}
        annotations = view.annotate(result, threshold, classes)
        return gr.AnnotatedImage(
            (result.shown, [item for _, item in annotations]),
            color_map={label: view.colours[name]
                       for name, (_, label) in annotations
                       if name in view.colours})

    def store(path: str, result: Result) -> List[str]:
        target = Path(tempfile.mkdtemp(dir=folder), Path(path).stem)
        files = [target.with_suffix('.json')]
        files[0].write_text(json.dumps(result.found), encoding='utf-8')
        if result.labels is not None:
            files.append(target.with_suffix('.png'))
            mmcv.imwrite(result.labels, str(files[1]))
        return list(map(str, files))

    def show_activation(path: Optional[str], name: str):
        if path is None:
            return gr.Image(None, label='Class activation')
        with lock:
            shown, text = activate(cfg, view, path, name)
        return gr.Image(shown, label=text)

    with gr.Blocks(title=title, analytics_enabled=False,
                   delete_cache=(3600, 86400)) as page:
        gr.Markdown(f'# {title}')
        result = gr.State()
        with gr.Row():
            with gr.Column(scale=1):
                picture = gr.Image(
                    label='Picture', type='filepath', image_mode=None,
                    sources=['upload', 'clipboard'], height=300)
                threshold = gr.Slider(
                    0, 1, 0.3, step=0.01, label='Score from',
                    visible=view.has_scores)
                classes = gr.Dropdown(
                    view.classes, multiselect=True, value=[],
                    label='Classes to show', info='all, if none is chosen',
                    visible=view.is_dense)
                category = gr.Dropdown(
                    [TOP, *view.classes], value=TOP,
                    label='Class activation of')
            with gr.Column(scale=2):
                output = (gr.AnnotatedImage if view.is_dense else gr.Label)(
                    label='Result')
                files = gr.File(label='Download', interactive=False)
            with gr.Column(scale=2):
                activation = gr.Image(  # without its button for sharing
                    label='Class activation', elem_id='activation',
                    interactive=False, buttons=['download', 'fullscreen'])
        settings = [threshold, classes]
        picture.change(
            predict, [picture, *settings], [result, output, files]
        ).then(show_activation, [picture, category], activation)
        for setting in settings:
            setting.change(draw, [result, *settings], output,
                           trigger_mode='always_last')
        category.input(show_activation, [picture, category], activation)
    return page


def activate(cfg: Config, view: View, path: str, name: str
             ) -> Tuple[np.ndarray, str]:
    """Where a model sees a class, by its name or TOP: the picture,
    ``(h, w, 3)`` RGB, with the activation if there is one, and what it is."""
    seen, data = read_image(cfg, view.model.model, path)
    try:
        find_method('gradcam')
        heat, text = see(view.model.model, seen, data, view.classes, (
            None if name == TOP else view.classes.index(name)))
    except (ValueError, ImportError) as error:
        heat, text = None, str(error)
    if heat is None:
        return _fit(seen), text
    return _overlay(seen, heat), f'Class activation of {text}'


def serve(page: gr.Blocks, port: Optional[int] = None) -> str:
    """Serves a page on this machine, in a thread, until ``page.close()``.

    Args:
        page: Of :func:`build_page`.
        port: By default the first free one from 7860 on.

    Returns:
        Its address.

    Raises:
        OSError: The port is in use.
    """
    _, address, _ = page.launch(
        server_name=HOST, server_port=port, share=False, footer_links=[],
        run_history=False, enable_monitoring=False, ssr_mode=False,
        mcp_server=False, show_error=True, quiet=True,
        prevent_thread_lock=True)
    return address


def _fit(image: np.ndarray) -> np.ndarray:
    """An image with a long side within SIDES, in its proportions."""
    side = int(np.clip(max(image.shape[:2]), *SIDES))
    return mmcv.imrescale(image, (side, side))


def _outlined(mask: np.ndarray) -> np.ndarray:
    """A mask, ``(h, w)``, as opacity: its inside lets the picture through."""
    mask = mask.astype(np.uint8)
    inside = cv2.erode(mask, np.ones((5, 5), np.uint8), borderValue=0)
    return mask - 0.6 * inside


def _overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    from pytorch_grad_cam.utils.image import show_cam_on_image
    return _fit(show_cam_on_image(image / np.float32(255), heat, use_rgb=True))
