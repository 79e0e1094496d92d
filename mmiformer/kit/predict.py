"""Predicts images and videos: counts, draws and stores what is found."""
import json
from collections import Counter
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union
from urllib.parse import urlparse

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS, VISUALIZERS, DefaultScope
from mmengine.structures import BaseDataElement, PixelData

from ..checkpoint import written_whole
from ..config import find_datasets, load_config, type_name
from .exported import ExportedModel
from .inference import inferencer

IMAGES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}
VIDEOS = {'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm'}

# How a class and its amount are printed: the number of a detector's objects,
# the share of a segmentor's pixels, the score of a classifier's top class.
LINES = dict(detection='{:.3g} {}', segmentation='{:.0%} {}',
             classification='{:.2f} {}')
TASKS = dict(mmdet='detection', mmseg='segmentation',
             mmpretrain='classification')
DRAWN_BY = dict(segmentation='mmseg.SegLocalVisualizer',
                classification='mmpretrain.UniversalVisualizer')

Found = Union[Dict[str, Any], np.ndarray]  # JSON types, or a label map (H, W)


class Predictor:
    """Runs a model on images and writes what it finds.

    Args:
        model: An inferencer or an exported model.
        task: A name in ``LINES``.
        meta: The names of the ``classes`` and their ``palette``.
        loader: The transform that reads an image file.
        out: The folder to write to: pictures to ``vis``, results to ``preds``.
        threshold: The score from which on an object is counted and drawn.
        draw: Whether to write pictures and videos.
    """

    def __init__(self, model: Any, task: str, meta: Dict[str, Any],
                 loader: Any, out: Path = Path('outputs'),
                 threshold: float = 0.3, draw: bool = True) -> None:
        self.model, self.task, self.meta = model, task, meta
        self.out, self.threshold, self.draw = out, threshold, draw
        self._load = loader
        if draw:
            self._visualizer = getattr(model, 'visualizer', None)
            if self._visualizer is None:
                self._visualizer = build_visualizer(DRAWN_BY[task])
            self._visualizer.dataset_meta = meta
            self._visualizer.alpha = 0.8  # mmseg's own opacity

    def predict(self, path: str, name: str) -> str:
        """Runs the model on an input of :func:`find_sources`, and writes what
        it finds. Errors are of many types: those of the libraries that read
        files and run models.

        Returns:
            ``640x480: 3 circle, 1 square``; the mean of a video's frames.
        """
        counts: List[Counter] = []
        with (open_writer(path, self.out / 'vis' / name) if self.draw
              else nullcontext()) as draw:
            for image_name, image in self._read_images(path, name):
                height, width = image.shape[:2]
                sample, found = self.run(image)
                target = str(self.out / 'preds' / image_name)
                if isinstance(found, dict):
                    write(f'{target}.json', dict(
                        file=path, width=width, height=height, **found))
                else:
                    write(f'{target}.png', found)
                counts.append(self.count(found, self.threshold))
                if self.draw:
                    draw(self.picture(image, sample, self.threshold))
            if not counts:
                raise ValueError('no frame that can be read')
        frames = f', {len(counts)} frames' if len(counts) > 1 else ''
        return f'{width}x{height}{frames}: {self.describe(counts)}'

    def read(self, path: str) -> np.ndarray:
        """``(H, W, 3)`` uint8 BGR, by the loader of the model's pipeline."""
        return self._load(dict(img_path=path))['img']

    def run(self, image: np.ndarray) -> Tuple[BaseDataElement, Found]:
        """The model's data sample for an image in BGR, and what is written of
        it: a label map, or lists of ``labels``, ``scores`` and ``names``."""
        if isinstance(self.model, ExportedModel):
            sample = to_sample(self.model(image))
        else:
            data = next(self.model.preprocess([image]))
            if not isinstance(data, dict):  # DetInferencer adds the image
                _, data = data
            sample = self.model.forward(data)[0].cpu()
        if self.task == 'segmentation':
            found = sample.pred_sem_seg.data[0].numpy()
            self._name_spare_classes(found.max())
            return sample, found.astype(
                np.uint8 if len(self.meta['classes']) <= 256 else np.uint16)
        if self.task == 'detection':
            found = self.model.pred2dict(sample)  # also bboxes, masks (RLE)
        else:
            scores, labels = sample.pred_score.sort(
                descending=True, stable=True)
            found = dict(labels=labels[:5].tolist(), scores=scores[:5].tolist())
        self._name_spare_classes(max(found['labels'], default=0))
        return sample, dict(found, names=[
            self.meta['classes'][label] for label in found['labels']])

    def count(self, found: Found, threshold: float) -> Counter:
        """The amount of each class, as :data:`LINES` prints it."""
        if self.task == 'segmentation':
            return Counter({
                self.meta['classes'][label]: pixels / found.size
                for label, pixels in zip(*np.unique(found, return_counts=True))
                if pixels * 200 >= found.size})
        if self.task == 'classification':
            return Counter({found['names'][0]: found['scores'][0]})
        return Counter(name for name, score in zip(
            found['names'], found['scores']) if score >= threshold)

    def picture(self, image: np.ndarray, sample: BaseDataElement,
                threshold: float) -> np.ndarray:
        """A result drawn on its image; both are ``(H, W, 3)`` uint8 BGR."""
        rgb = np.ascontiguousarray(image[..., ::-1], np.uint8)
        if self.task == 'classification':
            self._visualizer.visualize_cls(
                rgb, sample, classes=self.meta['classes'], draw_gt=False)
        else:
            options = (dict(pred_score_thr=threshold)
                       if self.task == 'detection' else {})
            self._visualizer.add_datasample(
                '', rgb, sample, draw_gt=False, **options)
        return self._visualizer.get_image()[..., ::-1]

    def describe(self, counts: List[Counter]) -> str:
        """The mean of some counts in words, the largest number first."""
        total = sum(counts, Counter())
        return ', '.join(LINES[self.task].format(value / len(counts), name)
                         for name, value in total.most_common()) or 'nothing'

    def _name_spare_classes(self, label: int) -> None:
        """A head may have more outputs than the data set has names."""
        for number in range(len(self.meta['classes']), label + 1):
            self.meta['classes'].append(f'class {number}')
            if isinstance(self.meta.get('palette'), list):
                self.meta['palette'].append((128, 128, 128))

    def _read_images(self, path: str, name: str
                     ) -> Iterator[Tuple[str, np.ndarray]]:
        """The images of an input, each with the name of its result."""
        if find_suffix(path) not in VIDEOS:
            yield name, self.read(path)
            return
        import supervision as sv
        for number, image in enumerate(sv.get_video_frames_generator(path)):
            yield f'{name}/{number:06d}', image


def build_visualizer(name: str) -> Any:
    kind = VISUALIZERS.get(name)
    if kind is None:  # an exported file may be where the framework is not
        raise ImportError(f'pictures need {name}, which is not installed: '
                          'give --no-vis')
    return kind()


@contextmanager
def open_writer(path: str, target: Path
                ) -> Iterator[Callable[[np.ndarray], None]]:
    """Gives a function that writes what is drawn of an input: a picture, or
    the frames of a video, which appears when it is complete."""
    suffix = find_suffix(path)
    if suffix not in VIDEOS:  # formats that OpenCV cannot write become PNG
        yield partial(
            write, f'{target}{suffix if suffix in IMAGES else ".png"}')
        return
    import supervision as sv
    info = sv.VideoInfo.from_video_path(path)
    # MPEG-4 divides a second into no more than 65,535 parts.
    info.fps = round(info.fps, 2 if info.fps < 655 else None)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix='.', dir=target.parent) as scratch:
        with sv.VideoSink(f'{scratch}/video.mp4', info) as sink:
            yield sink.write_frame
        Path(scratch, 'video.mp4').replace(f'{target}.mp4')


def to_sample(result: np.ndarray) -> BaseDataElement:
    """The label map or the scores of an exported file as a data sample."""
    values = torch.from_numpy(
        result.astype(np.int64 if result.ndim == 2 else np.float32))
    if result.ndim == 2:
        return BaseDataElement(pred_sem_seg=PixelData(data=values[None]))
    return BaseDataElement(pred_score=values,
                           pred_label=values.argmax(0, keepdim=True))


def write(path: str, content: Found) -> None:
    """Writes a picture or a label map in the format of the path's suffix, or
    JSON."""
    data = (json.dumps(content).encode() if isinstance(content, dict)
            else cv2.imencode(Path(path).suffix, content)[1].tobytes())
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(Path(path)) as scratch:
        scratch.write_bytes(data)


def load_predictor(config: str, checkpoint: Optional[str],
                   cfg_options: Optional[dict] = None, **options: Any
                   ) -> Predictor:
    """The predictor of a model.

    Args:
        config: A config, see :func:`~.inference.inferencer`, or an exported
            file.
        checkpoint: Its weights; None for an exported file.
        cfg_options: Overrides of the config by dotted key.
        **options: ``out``, ``threshold`` and ``draw`` of :class:`Predictor`.

    Raises:
        ValueError: The file holds a backbone alone, or the results are
            panoptic. ``inferencer`` and ``ExportedModel`` raise others.
    """
    step = dict(type='LoadImageFromFile')
    if checkpoint is None:
        model = ExportedModel(config)
        if model.task not in LINES:
            raise ValueError(f'{config}: a {model.task} predicts no classes')
        palette = model.palette or np.random.RandomState(0).randint(
            0, 256, (len(model.classes), 3)).tolist()
        meta = dict(classes=model.classes, palette=palette)
        return Predictor(
            model, model.task, meta, TRANSFORMS.build(step), **options)
    cfg = load_config(config, cfg_options)
    if 'panoptic_fusion_head' in cfg.model and (
            cfg.model.get('test_cfg') or {}).get('panoptic_on', True):
        raise ValueError(
            f'{type_name(cfg.model)} gives panoptic segments, which are not '
            'supported here; mmiformer test measures it')
    model = inferencer(cfg, checkpoint)
    step = dict(next(find_datasets(
        cfg.test_dataloader.dataset)).pipeline[0], **step)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = TRANSFORMS.build(step)
    return Predictor(model, TASKS[cfg.default_scope], model.model.dataset_meta,
                     loader, **options)


def find_sources(inputs: List[str], out: Path = Path('outputs')
                 ) -> List[Tuple[str, str]]:
    """The paths of the images and then of the videos, each with the name of
    what is written for it, without suffix.

    Args:
        inputs: Paths of files and folders, URLs of images. Folders are
            searched with their sub-folders; hidden files, and what was
            written to ``out`` before, are skipped.
        out: See :class:`Predictor`.

    Raises:
        ImportError: There are videos, and supervision is missing.
    """
    found: List[Tuple[str, Path]] = []
    written = {(out / name).resolve() for name in ('vis', 'preds')}
    for text in inputs:
        path = Path(text)
        if '://' in text:
            found.append((text, Path(Path(urlparse(text).path).name or 'url')))
        elif path.is_dir():
            found += [(str(file), file.relative_to(path))
                      for file in sorted(path.rglob('*'))
                      if file.suffix.lower() in IMAGES | VIDEOS
                      and not file.name.startswith('.')
                      and not written & {*file.resolve().parents}]
        else:
            found.append((text, Path(path.name)))
    names: Dict[str, str] = {}
    for path, relative in sorted(
            found, key=lambda item: find_suffix(item[0]) in VIDEOS):
        stem = name = str(relative.with_suffix(''))
        number = 1
        # The results of a video's frames need a folder of their own.
        while name in names or (find_suffix(path) in VIDEOS and any(
                other.startswith(f'{name}/') for other in names)):
            number += 1
            name = f'{stem}_{number}'
        names[name] = path
    if find_spec('supervision') is None and any(
            find_suffix(path) in VIDEOS for path in names.values()):
        raise ImportError('videos need supervision: in the checkout, '
                          'pip install ".[predict]"')
    return [(path, name) for name, path in names.items()]


def find_suffix(path: str) -> str:
    """The suffix of a path or a URL, in lower case."""
    return Path(urlparse(path).path if '://' in path else path).suffix.lower()
