"""Predicts images and videos: what is found is counted, drawn and stored."""
import json
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union
from urllib.parse import urlparse

import cv2
import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

from ..config import load_config, type_name
from .inference import inferencer

IMAGES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}
VIDEOS = {'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm'}

Found = Union[Dict[str, Any], np.ndarray]  # JSON types, or a label map (H, W)


class Source(NamedTuple):
    """An input, and the name of what is written for it, without suffix."""
    path: str
    name: str


class Summary(NamedTuple):
    """What was found in an input; text is ``3 circle, 1 square``, of a video
    the mean of its frames."""
    width: int
    height: int
    frames: int
    text: str
    seconds: float


# The result of an inferencer is a data sample, that of an exported file an
# array. Pictures are (H, W, 3) uint8 RGB.
def find_objects(model: Any, classes: List[str], result: Any) -> Found:
    found = model.pred2dict(result)  # labels, scores, bboxes, masks (RLE)
    return dict(found, names=[classes[label] for label in found['labels']])


def count_objects(classes: List[str], found: Found, threshold: float
                  ) -> Counter:
    return Counter(name for name, score in zip(found['names'], found['scores'])
                   if score >= threshold)


def draw_objects(model: Any, classes: List[str], picture: np.ndarray,
                 result: Any, threshold: float) -> np.ndarray:
    return model.visualize([picture], [result], return_vis=True,
                           pred_score_thr=threshold)[0]


def find_labels(model: Any, classes: List[str], result: Any) -> Found:
    if not isinstance(result, np.ndarray):
        result = result.pred_sem_seg.data[0].numpy()
    return result.astype(np.uint8 if len(classes) <= 256 else np.uint16)


def count_labels(classes: List[str], found: Found, threshold: float
                 ) -> Counter:
    return Counter({
        classes[label]: pixels / found.size for label, pixels
        in zip(*np.unique(found, return_counts=True))
        if pixels * 200 >= found.size})


def draw_labels(model: Any, classes: List[str], picture: np.ndarray,
                result: Any, threshold: float) -> np.ndarray:
    if isinstance(result, np.ndarray):
        palette = model.palette or np.random.RandomState(0).randint(
            0, 256, (len(classes), 3))
        colours = np.array(palette, np.uint8)[result]
        return cv2.addWeighted(picture, 0.2, colours, 0.8, 0)
    model.visualizer.alpha = 0.8  # mmseg's own opacity of a prediction
    model.visualizer.add_datasample('', picture, result, draw_gt=False)
    return model.visualizer.get_image()


def find_classes(model: Any, classes: List[str], result: Any) -> Found:
    if not isinstance(result, np.ndarray):
        result = result.pred_score.numpy()
    return dict(classes=[dict(name=classes[i], score=float(result[i]))
                         for i in np.argsort(-result, kind='stable')[:5]])


def count_classes(classes: List[str], found: Found, threshold: float
                  ) -> Counter:
    return Counter({found['classes'][0]['name']: found['classes'][0]['score']})


def draw_classes(model: Any, classes: List[str], picture: np.ndarray,
                 result: Any, threshold: float) -> np.ndarray:
    if isinstance(result, np.ndarray):
        text = f'{result.max():.2f} {classes[result.argmax()]}'
        return cv2.putText(picture.copy(), text, (5, 20),
                           cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1,
                           cv2.LINE_AA)
    from mmpretrain.visualization import UniversalVisualizer
    return UniversalVisualizer().visualize_cls(
        picture, result, classes=classes, draw_gt=False)


class Task(NamedTuple):
    """What is made of a model's result: what is written (a dict as JSON, a
    label map as PNG), how much there is of each class, a picture."""
    find: Callable[..., Found]
    count: Callable[..., Counter]
    draw: Callable[..., np.ndarray]
    line: str  # of a class and its count


DETECTION = Task(find_objects, count_objects, draw_objects, '{:.3g} {}')
SEGMENTATION = Task(find_labels, count_labels, draw_labels, '{:.0%} {}')
CLASSIFICATION = Task(find_classes, count_classes, draw_classes, '{:.2f} {}')
TASKS = dict(
    DetInferencer=DETECTION, MMSegInferencer=SEGMENTATION,
    ImageClassificationInferencer=CLASSIFICATION, segmentation=SEGMENTATION,
    classification=CLASSIFICATION)


class Predictor:
    """Runs a model on images and writes what it found.

    Args:
        model: An inferencer or an exported model.
        task: A name in ``TASKS``.
        classes: The names of the classes.
        out: The folder to write to: pictures to ``vis``, results to ``preds``.
        threshold: The score from which on an object is counted and drawn.
        draw: Whether to write pictures and videos.
    """

    def __init__(self, model: Any, task: str, classes: List[str],
                 out: Path = Path('outputs'), threshold: float = 0.3,
                 draw: bool = True) -> None:
        self.model, self.task, self.classes = model, TASKS[task], classes
        self.out, self.threshold, self.draw = out, threshold, draw
        self._load = _build_loader(model)

    def predict(self, source: Source) -> Summary:
        """Runs the model on one of :func:`find_sources`, and writes what it
        found.

        Raises:
            ValueError: An image cannot be read. The libraries that read
                videos and run models raise errors of other types.
        """
        start = time.time()
        counts: List[Counter] = []
        size = 0, 0

        def process(image: np.ndarray, name: str) -> Optional[np.ndarray]:
            nonlocal size
            size = image.shape[1::-1]
            result, found = self.run(image)
            self._store(source.path, name, size, found)
            counts.append(
                self.task.count(self.classes, found, self.threshold))
            return self.picture(image, result) if self.draw else None

        vis, suffix = self.out / 'vis', find_suffix(source.path)
        if suffix in VIDEOS:
            import supervision as sv

            def process_frame(image: np.ndarray, number: int):
                return process(image, f'{source.name}/{number:06d}')

            target = vis / f'{source.name}.mp4'
            if self.draw:
                target.parent.mkdir(parents=True, exist_ok=True)
                sv.process_video(source.path, str(target), process_frame)
            else:
                for number, image in enumerate(
                        sv.get_video_frames_generator(source.path)):
                    process_frame(image, number)
        else:
            picture = process(self.read(source.path), source.name)
            if picture is not None:
                # OpenCV writes no other formats than these.
                kind = suffix if suffix in IMAGES else '.png'
                mmcv.imwrite(picture, str(vis / f'{source.name}{kind}'))
        return Summary(*size, len(counts), self.describe(counts),
                       time.time() - start)

    def read(self, path: str) -> np.ndarray:
        """``(H, W, 3)`` uint8 BGR, by the loader of the model's pipeline.

        Raises:
            ValueError: It cannot be read.
        """
        try:
            return self._load(dict(img_path=path))['img']
        except Exception as error:  # of many types, by format and backend
            reason = str(error).splitlines() or [type(error).__name__]
            raise ValueError(
                f'no image that can be read ({reason[0]})') from error

    def run(self, image: np.ndarray) -> Tuple[Any, Found]:
        """The model's result for an image in BGR, and what it says."""
        if hasattr(self.model, 'preprocess'):
            data = next(self.model.preprocess([image]))
            if not isinstance(data, dict):  # DetInferencer adds the image
                _, data = data
            result = self.model.forward(data)[0].cpu()
        else:
            result = self.model(image)
        return result, self.task.find(self.model, self.classes, result)

    def picture(self, image: np.ndarray, result: Any,
                threshold: Optional[float] = None) -> np.ndarray:
        """A result drawn on its image; both are ``(H, W, 3)`` uint8 BGR."""
        return self.task.draw(
            self.model, self.classes,
            np.ascontiguousarray(image[..., ::-1], np.uint8), result,
            self.threshold if threshold is None else threshold)[..., ::-1]

    def describe(self, counts: List[Counter]) -> str:
        """The mean of some counts in words, the largest number first."""
        total = sum(counts, Counter())
        return ', '.join(self.task.line.format(value / len(counts), name)
                         for name, value in total.most_common()) or 'nothing'

    def _store(self, path: str, name: str, size: Tuple[int, int],
               found: Found) -> None:
        target = self.out / 'preds' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(found, np.ndarray):
            mmcv.imwrite(found, f'{target}.png')
        else:
            content = dict(file=path, width=size[0], height=size[1], **found)
            Path(f'{target}.json').write_text(json.dumps(content))


def load_predictor(config: str, checkpoint: Optional[str],
                   cfg_options: Optional[dict] = None, **options: Any
                   ) -> Predictor:
    """The predictor of a model.

    Args:
        config: A config, see :func:`~.inference.inferencer`, or an exported
            file.
        checkpoint: Its weights; None for an exported file.
        cfg_options: Overrides of the config by dotted key.
        **options: Those of :class:`Predictor`.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: As ``inferencer`` and
            ``ExportedModel`` say, and if the file holds a backbone alone or
            the results are panoptic.
    """
    if checkpoint is None:
        from .exported import ExportedModel
        model = ExportedModel(config)
        if model.task not in TASKS:
            raise ValueError(f'{config}: a {model.task} predicts no classes')
        return Predictor(model, model.task, model.classes, **options)
    cfg = load_config(config, cfg_options)
    refuse_panoptic(cfg)
    model = inferencer(cfg, checkpoint)
    meta = getattr(model.model, 'dataset_meta', None) or (
        model.model._dataset_meta)
    return Predictor(model, type(model).__name__, meta['classes'], **options)


def refuse_panoptic(cfg: Config) -> None:
    """Only boxes and masks of a detector's objects are drawn and written.

    Raises:
        ValueError: The config's detector gives panoptic segments.
    """
    if 'panoptic_fusion_head' in cfg.model and (
            cfg.model.get('test_cfg') or {}).get('panoptic_on', True):
        raise ValueError(
            f'{type_name(cfg.model)} gives panoptic segments, which are not '
            'supported here, only boxes and masks of objects; mmiformer test '
            'measures it')


def find_sources(inputs: List[str]) -> List[Source]:
    """The images and videos that are meant, each with a name of its own.

    Args:
        inputs: Paths of files and folders, URLs of images. Folders are
            searched with their sub-folders; hidden files are skipped.

    Raises:
        ImportError: There are videos, and supervision is missing.
    """
    found: List[Tuple[str, Path]] = []
    for text in inputs:
        path = Path(text)
        if '://' in text:
            found.append((text, Path(Path(urlparse(text).path).name)))
        elif path.is_dir():
            found += [(str(file), file.relative_to(path))
                      for file in sorted(path.rglob('*'))
                      if file.suffix.lower() in IMAGES | VIDEOS
                      and not file.name.startswith('.')]
        else:
            found.append((text, Path(path.name)))
    names: Dict[str, str] = {}
    for path, relative in found:
        stem = name = str(relative.with_suffix(''))
        number = 1
        while name in names:
            number += 1
            name = f'{stem}_{number}'
        names[name] = path
    if find_spec('supervision') is None and any(
            find_suffix(path) in VIDEOS for path in names.values()):
        raise ImportError('videos need supervision: in the checkout, '
                          'pip install ".[predict]"')
    return [Source(path, name) for name, path in names.items()]


def find_suffix(path: str) -> str:
    """The suffix of a path or a URL, in lower case."""
    return Path(urlparse(path).path).suffix.lower()


def _build_loader(model: Any) -> Any:
    """The first step of a model's test pipeline; the usual one for an exported
    file."""
    cfg = getattr(model, 'cfg', None) or getattr(model, 'config', None)
    step = dict(type='LoadImageFromFile')
    if cfg:
        step = dict(cfg.test_dataloader.dataset.pipeline[0], **step)
    with DefaultScope.overwrite_default_scope(
            cfg.get('default_scope') if cfg else None):
        return TRANSFORMS.build(step)
