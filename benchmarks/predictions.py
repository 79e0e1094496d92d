"""Draws predictions beside the truth, from the best image to the worst.

    tools/test.py CONFIG CHECKPOINT --out PREDICTIONS
    benchmarks/predictions.py CONFIG PREDICTIONS --out picture.png

PREDICTIONS is the folder of label maps of a segmentor, or the .pkl file of a
detector with masks. The images are spread evenly over all that were tested,
sorted by their score, so that nobody chooses them.
"""
import argparse
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import cv2
import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmiformer.config import add_cfg_options, load_config, output_file
from mmiformer.paper import pictures

MIN_SCORE = 0.5  # of a drawn and scored instance


class Result(NamedTuple):
    """An image, what is true of it, what was predicted, and how well."""
    path: str
    truth: object
    prediction: object
    score: float  # 0 to 1


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('predictions', type=Path)
    parser.add_argument('--out', type=output_file, required=True,
                        help='file of the picture')
    parser.add_argument('--number', type=int, default=8,
                        help='of images (default: 8)')
    parser.add_argument('--title', default='')
    add_cfg_options(parser)
    return parser.parse_args()


def mean_iou(truth: np.ndarray, prediction: np.ndarray, ignored: int) -> float:
    """The mean IoU of the classes of an image, of two label maps (H, W)."""
    prediction = np.where(truth == ignored, ignored, prediction)
    labels = (set(truth.flat) | set(prediction.flat)) - {ignored}
    return float(np.mean([
        ((truth == label) & (prediction == label)).sum() /
        ((truth == label) | (prediction == label)).sum()
        for label in labels])) if labels else 1.


def mean_overlap(truth: List[Dict], prediction: List[Dict]) -> float:
    """The mean IoU of each mask, true or predicted, with the mask of the
    other kind that it overlaps most."""
    if not truth or not prediction:
        return float(not truth and not prediction)
    codes = [[coco_mask.encode(np.asfortranarray(item['mask'], np.uint8))
              for item in items] for items in (truth, prediction)]
    overlaps = np.asarray(coco_mask.iou(*codes, [0] * len(prediction)))
    return float(np.concatenate(
        [overlaps.max(axis) for axis in (0, 1)]).mean())


def read_segments(cfg: Config, folder: Path) -> List[Result]:
    """Of a data set of mmseg, with the label maps of ``tools/test.py``."""
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, pipeline=[]))
    results = []
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        file = folder / f'{Path(info["img_path"]).stem}.png'
        truth, prediction = (
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            for path in (info['seg_map_path'], file))
        if prediction is None:
            raise ValueError(f'{file} cannot be read')
        results.append(Result(
            info['img_path'], truth, prediction,
            mean_iou(truth, prediction, dataset.ignore_index)))
    return results


def read_instances(cfg: Config, file: Path) -> List[Result]:
    """Of a data set in COCO's format, with the file of ``tools/test.py``."""
    dataset = DATASETS.build(dict(cfg.test_dataloader.dataset, pipeline=[]))
    coco = COCO(dataset.ann_file)
    results = []
    for found in pickle.loads(file.read_bytes()):
        truth = []
        for annotation in coco.imgToAnns[found['img_id']]:
            x, y, width, height = annotation['bbox']
            truth.append(dict(
                mask=coco.annToMask(annotation).astype(bool),
                box=(x, y, x + width, y + height),
                label=dataset.cat2label[annotation['category_id']]))
        instances = found['pred_instances']
        prediction = [
            dict(mask=coco_mask.decode(mask).astype(bool), box=box.tolist(),
                 label=int(label))
            for mask, box, label, score in zip(
                instances['masks'], instances['bboxes'], instances['labels'],
                instances['scores']) if score >= MIN_SCORE]
        results.append(Result(found['img_path'], truth, prediction,
                              mean_overlap(truth, prediction)))
    return results


def spread(results: List[Result], number: int) -> List[Result]:
    """Some results, from the best to the worst, at equal ranks apart."""
    ranked = sorted(results, key=lambda result: -result.score)
    ranks = np.linspace(0, len(ranked) - 1, min(number, len(ranked)))
    return [ranked[rank] for rank in ranks.round().astype(int)]


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
        init_default_scope(cfg.default_scope)
        segments = cfg.default_scope == 'mmseg'
        results = spread(
            (read_segments if segments else read_instances)(
                cfg, args.predictions), args.number)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    classes, palette = class_colours(cfg)
    if segments:  # the first colour is never painted
        draw = partial(pictures.draw_segments, palette=[(0, 0, 0), *palette])
    else:
        draw = partial(pictures.draw_instances, palette=palette)
    rows = [[cv2.imread(result.path)[..., ::-1], result.truth,
             result.prediction] for result in results]
    if segments:
        rows = [[image, truth.astype(int) + 1, prediction.astype(int) + 1]
                for image, truth, prediction in rows]
    pictures.draw_pairs(args.out, args.title, rows, draw, classes, palette)
    for result in results:
        print(f'{Path(result.path).name}: {100 * result.score:.1f}')


def class_colours(cfg: Config) -> Tuple[tuple, list]:
    """Names and colours of the classes that are tested."""
    info = DATASETS.build(dict(
        cfg.test_dataloader.dataset, pipeline=[], lazy_init=True)).metainfo
    return info['classes'], [tuple(colour) for colour in info['palette']]


if __name__ == '__main__':
    main()
