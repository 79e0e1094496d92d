"""Predicts images and videos: counts, draws and stores what is found."""
import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional, Tuple
from urllib.parse import urlparse

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS, VISUALIZERS, DefaultScope
from mmengine.structures import BaseDataElement, PixelData

from ..checkpoint import written_whole
from ..config import find_datasets, load_config
from .exported import ExportedModel
from .inference import inferencer

IMAGES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}
VIDEOS = {'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm'}

TASKS = dict(mmdet='detection', mmseg='segmentation',
             mmpretrain='classification')
DRAWN_BY = dict(segmentation='mmseg.SegLocalVisualizer',
                classification='mmpretrain.UniversalVisualizer')


class Predictor:
    """Runs a model on images and writes what it finds.

    Args:
        config: A config, see :func:`~.inference.inferencer`, or an exported
            file.
        checkpoint: Its weights; None for an exported file.
        cfg_options: Overrides of the config by dotted key.
        out: The folder to write to: pictures to ``vis``, results to ``preds``.
        threshold: The score from which on an object is counted and drawn.
        draw: Whether to write pictures and videos.

    Raises:
        ValueError: The file holds a backbone alone. ``inferencer`` and
            ``ExportedModel`` raise others.
    """

    def __init__(self, config: str, checkpoint: Optional[str],
                 cfg_options: Optional[dict] = None,
                 out: Path = Path('outputs'), threshold: float = 0.3,
                 draw: bool = True) -> None:
        self.out, self.threshold, self.draw = out, threshold, draw
        scope, step = 'mmengine', dict(type='LoadImageFromFile')
        if checkpoint is None:
            self.model: Any = ExportedModel(config)
            self.task = self.model.task
            self.meta = dict(classes=self.model.classes,
                             palette=self.model.palette)
            if self.task == 'backbone':
                raise ValueError(f'{config}: a backbone predicts no classes')
        else:
            cfg = load_config(config, cfg_options)
            self.model = inferencer(cfg, checkpoint)
            self.task = TASKS[cfg.default_scope]
            self.meta = self.model.model.dataset_meta
            scope, dataset = cfg.default_scope, next(
                find_datasets(cfg.test_dataloader.dataset))
            step = dict(dataset.pipeline[0], **step)
        with DefaultScope.overwrite_default_scope(scope):
            self._load = TRANSFORMS.build(step)
        if draw:
            self._visualizer = getattr(
                self.model, 'visualizer', None) or VISUALIZERS.build(
                    dict(type=DRAWN_BY[self.task], name='mmiformer'))
            self._visualizer.alpha = 0.8  # mmseg's own opacity

    def predict(self, path: str, name: str) -> str:
        """Runs the model on an input of :func:`find_sources`, and writes what
        it finds. Errors are of many types: those of the libraries that read
        files and run models.

        Returns:
            ``640x480: 3 circle, 1 square``, or how many frames a video has.
        """
        suffix = to_path(path).suffix.lower()
        if suffix in VIDEOS:
            return self._predict_video(path, name)
        image = self.read(path)
        height, width = image.shape[:2]
        sample, found = self.run(image)
        with self._new_file('preds', f'{name}.json') as file:
            file.write_text(json.dumps(
                dict(file=path, width=width, height=height, **found)))
        if self.task == 'segmentation':
            labels = sample.pred_sem_seg.data[0].numpy()
            self._write_image('preds', f'{name}.png', labels.astype(
                np.uint8 if len(self.meta['classes']) <= 256 else np.uint16))
        if self.draw:
            if suffix not in IMAGES:  # OpenCV may not write it
                suffix = '.png'
            self._write_image(
                'vis', f'{name}{suffix}', self.picture(image, sample))
        return f'{width}x{height}: {self.describe(found)}'

    def _predict_video(self, path: str, name: str) -> str:
        """Writes a line of JSON for each frame, and a video."""
        import supervision as sv
        info = sv.VideoInfo.from_video_path(path)
        # MPEG-4 divides a second into no more than 65,535 parts.
        info.fps = round(info.fps, 2 if info.fps < 655 else None)
        number = 0
        with ExitStack() as stack:
            lines = stack.enter_context(open(stack.enter_context(
                self._new_file('preds', f'{name}.jsonl')), 'w'))
            if self.draw:
                video = stack.enter_context(sv.VideoSink(
                    str(stack.enter_context(
                        self._new_file('vis', f'{name}.mp4'))), info))
            for image in sv.get_video_frames_generator(path):
                sample, found = self.run(image)
                lines.write(json.dumps(found) + '\n')
                if self.draw:
                    video.write_frame(self.picture(image, sample))
                number += 1
            if number == 0:
                raise ValueError('no frame that can be read')
        return f'{info.width}x{info.height}: {number} frames'

    def _new_file(self, folder: str, name: str) -> ContextManager[Path]:
        """A file of results, which appears when it is complete."""
        path = self.out / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return written_whole(path)

    def _write_image(self, folder: str, name: str, image: np.ndarray) -> None:
        with self._new_file(folder, name) as file:
            file.write_bytes(cv2.imencode(file.suffix, image)[1].tobytes())

    def read(self, path: str) -> np.ndarray:
        """``(H, W, 3)`` uint8 BGR, by the loader of the model's pipeline."""
        return self._load(dict(img_path=path))['img']

    def run(self, image: np.ndarray
            ) -> Tuple[BaseDataElement, Dict[str, Any]]:
        """The model's data sample for an image in BGR, and what is written of
        it: lists of ``labels`` and ``names``, with the ``scores`` of objects
        and of the best classes, or the classes' ``shares`` of the pixels."""
        if isinstance(self.model, ExportedModel):
            sample = to_sample(self.model(image))
        else:
            data = next(self.model.preprocess([image]))
            if not isinstance(data, dict):  # DetInferencer adds the image
                _, data = data
            sample = self.model.forward(data)[0].cpu()
        if 'pred_panoptic_seg' in sample:
            raise ValueError('panoptic segments are not supported')
        if self.task == 'detection':
            found = self.model.pred2dict(sample)  # also bboxes, masks (RLE)
        elif self.task == 'segmentation':
            labels, pixels = sample.pred_sem_seg.data.unique(
                return_counts=True)
            shares, order = (pixels / pixels.sum()).sort(descending=True)
            found = dict(labels=labels[order].tolist(), shares=shares.tolist())
        else:
            scores, labels = sample.pred_score.sort(
                descending=True, stable=True)
            found = dict(labels=labels[:5].tolist(), scores=scores[:5].tolist())
        classes = self.meta['classes']
        if max(found['labels'], default=0) >= len(classes):
            raise ValueError(f'class {max(found["labels"])} is found, but the '
                             f'data set names only {len(classes)} classes')
        return sample, dict(
            found, names=[classes[label] for label in found['labels']])

    def picture(self, image: np.ndarray, sample: BaseDataElement
                ) -> np.ndarray:
        """A result drawn on its image, ``(H, W, 3)`` uint8 BGR. An image of
        one channel is grey, of one of more than 8 bits the range is fitted."""
        if image.dtype != np.uint8:
            image = cv2.normalize(
                image, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
        rgb = np.atleast_3d(image)[..., 2::-1]
        rgb = np.ascontiguousarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)))
        self._visualizer.dataset_meta = self.meta  # others may share it
        if self.task == 'classification':
            self._visualizer.visualize_cls(
                rgb, sample, classes=self.meta['classes'], draw_gt=False)
        else:
            options = (dict(pred_score_thr=self.threshold)
                       if self.task == 'detection' else {})
            self._visualizer.add_datasample(
                '', rgb, sample, draw_gt=False, **options)
        return self._visualizer.get_image()[..., ::-1]

    def describe(self, found: Dict[str, Any]) -> str:
        """The number of a detector's objects, the shares of a segmentor's
        classes, the score of a classifier's top class."""
        names, scores = found['names'], found.get('scores')
        if self.task == 'detection':
            parts = [f'{number} {name}' for name, number in Counter(
                name for name, score in zip(names, scores)
                if score >= self.threshold).most_common()]
        elif self.task == 'segmentation':
            parts = [f'{share:.0%} {name}' for name, share
                     in zip(names, found['shares']) if share >= 0.005]
        else:
            parts = [f'{scores[0]:.2f} {names[0]}']
        return ', '.join(parts) or 'nothing'


def to_sample(result: np.ndarray) -> BaseDataElement:
    """The label map or the scores of an exported file as a data sample."""
    values = torch.from_numpy(
        result.astype(np.int64 if result.ndim == 2 else np.float32))
    if result.ndim == 2:
        return BaseDataElement(pred_sem_seg=PixelData(data=values[None]))
    return BaseDataElement(pred_score=values,
                           pred_label=values.argmax(0, keepdim=True))


def find_sources(inputs: List[str], out: Path = Path('outputs')
                 ) -> Tuple[List[Tuple[str, str]], Counter]:
    """The images and videos to predict, and what is left out.

    Args:
        inputs: Paths of files and folders, URLs of images. Folders are
            searched with their sub-folders; hidden files, and what was
            written to ``out`` before, are skipped.
        out: See :class:`Predictor`.

    Returns:
        The path of each, with the name of what is written for it, without
        suffix; and how many files of other suffixes the folders hold.
    """
    found: List[Tuple[str, Path]] = []
    left_out: Counter = Counter()
    written = {(out / name).resolve() for name in ('vis', 'preds')}
    for text in inputs:
        folder = Path(text)
        if '://' in text or not folder.is_dir():
            found.append((text, Path(to_path(text).name or 'url')))
            continue
        for file in sorted(folder.rglob('*')):
            if (file.name.startswith('.') or not file.is_file()
                    or written & {*file.resolve().parents}):
                continue
            if file.suffix.lower() in IMAGES | VIDEOS:
                found.append((str(file), file.relative_to(folder)))
            else:
                left_out[file.suffix or file.name] += 1
    names: Dict[str, str] = {}
    for source, relative in found:
        stem = name = str(relative.with_suffix(''))
        number = 1
        while name in names:
            number += 1
            name = f'{stem}_{number}'
        names[name] = source
    return [(source, name) for name, source in names.items()], left_out


def to_path(text: str) -> Path:
    """A path, or the path of a URL."""
    return Path(urlparse(text).path if '://' in text else text)
