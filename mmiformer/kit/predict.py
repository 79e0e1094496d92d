"""Predictions of images and videos: run, counted, drawn and stored."""
import csv
import json
import time
from abc import ABC, abstractmethod
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from ..config import load_config, type_name
from .inference import inferencer
from .results import (
    best_classes,
    count_pixels,
    dataset_meta,
    label_map,
    list_objects,
    run,
)
from .sources import IMAGES, VIDEOS, Source, suffix

FORMATS = ('json', 'png', 'csv', 'coco')


class NotReadError(Exception):
    """An input that is no image and no video."""


class Summary(NamedTuple):
    """What was found in an input; text is ``3 circle, 1 square``."""
    width: int
    height: int
    frames: int
    text: str
    seconds: float


class Predictor(ABC):
    """Runs a model on images and writes what it found.

    Args:
        model: An inferencer or an exported model.
        classes: Names of the classes.
        out: The folder to write to: pictures to ``vis``, results to
            ``preds``, or to one file of it if ``form`` is csv or coco.
        form: One of ``self.forms``; the first by default.
        threshold: The score from which on an object is counted and drawn.
        draw: Write pictures and videos.

    Raises:
        ValueError: The model's results have no such format.
    """
    forms: Tuple[str, ...]
    columns: Tuple[str, ...]

    def __init__(self, model: Any, classes: List[str], out: Path,
                 form: Optional[str] = None, threshold: float = 0.3,
                 draw: bool = True) -> None:
        self.model = model
        self.classes = classes
        self.out = out
        self.form = form or self.forms[0]
        if self.form not in self.forms:
            raise ValueError(f'--format {form}: the results of this model are '
                             f'written as {", ".join(self.forms)}')
        self.threshold = threshold
        self.draw = draw
        self._load = _loader(model)
        self._rows: List[tuple] = []

    def predict(self, source: Source, stride: int = 1) -> Summary:
        """Runs the model on an input and writes its results.

        Args:
            source: One of :func:`find_sources`.
            stride: Of a video every so many frames are used.

        Raises:
            NotReadError: It is neither an image nor a video.
        """
        start = time.time()
        kind = suffix(source.path)
        if kind in VIDEOS:
            return self._predict_video(source, stride, start)
        image = self._read(source.path)
        result = self._run(image)
        if self.draw:
            # Of formats that cannot be written, the picture is a PNG.
            self._write_image(
                f'vis/{source.name}{kind if kind in IMAGES else ".png"}',
                self._picture(image, result))
        self._store(source.path, source.name, image, result)
        height, width = image.shape[:2]
        return Summary(width, height, 1, self._describe(self._count(result), 1),
                       time.time() - start)

    def _predict_video(self, source: Source, stride: int, start: float
                       ) -> Summary:
        import supervision as sv
        if not cv2.VideoCapture(source.path).isOpened():
            raise NotReadError(f'{source.path}: no video that OpenCV can read')
        info = sv.VideoInfo.from_video_path(source.path)
        info.fps = info.fps / stride
        target = self.out / 'vis' / f'{source.name}.mp4'
        if self.draw:
            target.parent.mkdir(parents=True, exist_ok=True)
        total: Counter = Counter()
        count = 0
        with (sv.VideoSink(str(target), info) if self.draw else nullcontext()
              ) as sink:
            for image in sv.get_video_frames_generator(
                    source.path, stride=stride):
                result = self._run(image)
                number = f'{count * stride:06d}'
                self._store(f'{source.path}/{number}',
                            f'{source.name}/{number}', image, result)
                total += self._count(result)
                if sink:
                    sink.write_frame(self._picture(image, result))
                count += 1
        return Summary(info.width, info.height, count,
                       self._describe(total, count), time.time() - start)

    def close(self) -> None:
        """Writes what is one file for all inputs."""
        if self.form == 'csv':
            self.out.mkdir(parents=True, exist_ok=True)
            with open(self.out / 'predictions.csv', 'w', newline='',
                      encoding='utf-8') as file:
                csv.writer(file).writerows([self.columns, *self._rows])

    def _read(self, path: str) -> np.ndarray:
        """``(H, W, 3)`` BGR, by the loader of the model's pipeline."""
        try:
            return self._load(dict(img_path=path))['img']
        except Exception as error:  # of many types, by format and backend
            reason = str(error).splitlines() or [type(error).__name__]
            raise NotReadError(f'{path}: no image that can be read '
                               f'({reason[0]})') from error

    def _write_image(self, name: str, image: np.ndarray) -> None:
        mmcv.imwrite(image, str(self.out / name))

    def _write_json(self, name: str, content: Any) -> None:
        target = self.out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(content), encoding='utf-8')

    def _store(self, path: str, name: str, image: np.ndarray, result: Any
               ) -> None:
        if self.form == 'csv':
            self._rows += [(path, *row) for row in self._table(result)]
        elif self.form == 'json':
            height, width = image.shape[:2]
            self._write_json(f'preds/{name}.json', dict(
                file=path, width=width, height=height, **self._json(result)))

    def _run(self, image: np.ndarray) -> Any:
        """The result for a ``(H, W, 3)`` BGR image."""
        return run(self.model, image)

    @abstractmethod
    def _picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        """The result drawn on its image, ``(H, W, 3)`` uint8 BGR."""

    @abstractmethod
    def _count(self, result: Any) -> Counter:
        """How much there is of each class."""

    @abstractmethod
    def _table(self, result: Any) -> Iterator[tuple]:
        """Rows of ``columns``, but for the file."""

    def _json(self, result: Any) -> Dict[str, Any]:
        raise NotImplementedError

    def _describe(self, total: Counter, frames: int) -> str:
        return ', '.join(f'{number} {name}' for name, number
                         in total.most_common()) or 'nothing'


class Detector(Predictor):
    """Objects, by mmdet's DetInferencer."""
    forms = ('json', 'csv', 'coco')
    columns = ('file', 'class', 'score', 'x1', 'y1', 'x2', 'y2')

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._coco: Dict[str, list] = dict(
            images=[], annotations=[], categories=[
                dict(id=i, name=name)
                for i, name in enumerate(self.classes, 1)])

    def _picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        return self.model.visualize(
            [_rgb(image)], [result], return_vis=True,
            pred_score_thr=self.threshold)[0][..., ::-1]

    def _count(self, result: Any) -> Counter:
        found = result.pred_instances
        return Counter(self.classes[label] for label in found.labels[
            found.scores >= self.threshold])

    def _json(self, result: Any) -> Dict[str, Any]:
        return list_objects(self.model, self.classes, result)

    def _table(self, result: Any) -> Iterator[tuple]:
        content = self._json(result)
        for name, score, box in zip(
                content['names'], content['scores'], content['bboxes']):
            yield (name, round(score, 4), *(round(side, 2) for side in box))

    def _store(self, path: str, name: str, image: np.ndarray, result: Any
               ) -> None:
        if self.form != 'coco':
            super()._store(path, name, image, result)
            return
        number = len(self._coco['images']) + 1
        height, width = image.shape[:2]
        self._coco['images'].append(
            dict(id=number, file_name=path, height=height, width=width))
        content = self.model.pred2dict(result)
        for i, (x1, y1, x2, y2) in enumerate(content['bboxes']):
            item = dict(
                id=len(self._coco['annotations']) + 1, image_id=number,
                category_id=content['labels'][i] + 1, iscrowd=0,
                bbox=[x1, y1, x2 - x1, y2 - y1],
                area=(x2 - x1) * (y2 - y1), score=content['scores'][i])
            if 'masks' in content:
                item['segmentation'] = content['masks'][i]
            self._coco['annotations'].append(item)

    def close(self) -> None:
        super().close()
        if self.form == 'coco':
            self._write_json('predictions.json', self._coco)


class Segmentor(Predictor):
    """Label maps, by mmseg's MMSegInferencer."""
    forms = ('png', 'csv')
    columns = ('file', 'class', 'pixels')

    def _labels(self, result: Any) -> np.ndarray:
        return label_map(self.classes, result)

    def _picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        visualizer = self.model.visualizer
        visualizer.alpha = 0.8  # mmseg's own opacity of a prediction
        visualizer.add_datasample('', _rgb(image), result, draw_gt=False)
        return visualizer.get_image()[..., ::-1]

    def _count(self, result: Any) -> Counter:
        return Counter({item['name']: item['pixels'] for item in count_pixels(
            self.classes, self._labels(result))})

    def _describe(self, total: Counter, frames: int) -> str:
        pixels = max(sum(total.values()), 1)
        return ', '.join(f'{number / pixels:.0%} {name}' for name, number
                         in total.most_common(5) if number * 200 >= pixels)

    def _table(self, result: Any) -> Iterator[tuple]:
        yield from self._count(result).most_common()

    def _store(self, path: str, name: str, image: np.ndarray, result: Any
               ) -> None:
        super()._store(path, name, image, result)
        if self.form == 'png':
            self._write_image(f'preds/{name}.png', self._labels(result))


class Classifier(Predictor):
    """Scores of classes, by mmpretrain's ImageClassificationInferencer."""
    forms = ('json', 'csv')
    columns = ('file', 'class', 'score')

    def _scores(self, result: Any) -> np.ndarray:
        """``(K, )``"""
        return result.pred_score.numpy()

    def _picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        from mmpretrain.visualization import UniversalVisualizer
        return UniversalVisualizer().visualize_cls(
            _rgb(image), result, classes=self.classes, draw_gt=False
        )[..., ::-1]

    def _count(self, result: Any) -> Counter:
        first = self._json(result)['classes'][0]
        return Counter({first['name']: first['score']})

    def _describe(self, total: Counter, frames: int) -> str:
        return ', '.join(f'{score / frames:.2f} {name}' for name, score
                         in total.most_common(5))

    def _table(self, result: Any) -> Iterator[tuple]:
        for item in self._json(result)['classes']:
            yield item['name'], round(item['score'], 4)

    def _json(self, result: Any) -> Dict[str, Any]:
        return dict(classes=best_classes(self.classes, self._scores(result)))


class ExportedSegmentor(Segmentor):
    """Label maps, by an exported file."""

    def _run(self, image: np.ndarray) -> Any:
        return self.model(image)

    def _labels(self, result: Any) -> np.ndarray:
        return result

    def _picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        colours = np.array(self.model.palette, np.uint8)[:, ::-1]
        return cv2.addWeighted(image, 0.2, colours[result], 0.8, 0)


class ExportedClassifier(Classifier):
    """Scores of classes, by an exported file."""

    def _run(self, image: np.ndarray) -> Any:
        return self.model(image)

    def _scores(self, result: Any) -> np.ndarray:
        return result

    def _picture(self, image: np.ndarray, result: Any) -> np.ndarray:
        return cv2.putText(
            image.copy(), self._describe(self._count(result), 1), (5, 20),
            cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)


def load_predictor(config: str, checkpoint: Optional[str],
                   cfg_options: Optional[dict] = None, **options: Any
                   ) -> Predictor:
    """The predictor of a model.

    Args:
        config: A config, see :func:`~.inference.inferencer`, or an exported
            file.
        checkpoint: Its weights; None for an exported file.
        cfg_options: Overrides of the config by dotted key.
        **options: Of :class:`Predictor`.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As of the functions
            above, and if the file holds a backbone alone or the results are
            panoptic.
    """
    if checkpoint is None:
        from .exported import ExportedModel
        model = ExportedModel(config)
        kinds: Dict[str, type] = dict(segmentation=ExportedSegmentor,
                                      classification=ExportedClassifier)
        if model.task not in kinds:
            raise ValueError(f'{config}: a {model.task} predicts no classes')
        return kinds[model.task](model, model.classes, **options)
    cfg = load_config(config, cfg_options)
    refuse_panoptic(cfg)
    model = inferencer(cfg, checkpoint)
    kind = dict(DetInferencer=Detector, MMSegInferencer=Segmentor,
                ImageClassificationInferencer=Classifier)[type(model).__name__]
    return kind(model, dataset_meta(model)['classes'], **options)


def refuse_panoptic(cfg: Config) -> None:
    """Of detectors only boxes and masks of objects are shown and written.

    Raises:
        ValueError: The config's detector gives panoptic segments.
    """
    if 'panoptic_fusion_head' in cfg.model and (
            cfg.model.get('test_cfg') or {}).get('panoptic_on', True):
        raise ValueError(
            f'{type_name(cfg.model)} gives panoptic segments, which are not '
            'supported here, only boxes and masks of objects; mmiformer test '
            'measures it')


def _loader(model: Any) -> Any:
    """The first step of a model's pipeline, or that of most."""
    cfg = getattr(model, 'cfg', None) or getattr(model, 'config', None)
    scope = cfg.get('default_scope') if cfg else None
    step = dict(type='LoadImageFromFile')
    if cfg:
        step = dict(cfg.test_dataloader.dataset.pipeline[0], **step)
    with DefaultScope.overwrite_default_scope(scope):
        return TRANSFORMS.build(step)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image[..., ::-1], np.uint8)
