"""Draws where models see a class in images, side by side.

    tools/cam.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out cam.png
    tools/cam.py CONFIG CHECKPOINT PEERS_CONFIG PEERS_CHECKPOINT \\
        --images a.jpg --category dog --out cam.png \\
        --layer neck.fpn_convs.0:NCHW

For classifiers, detectors and segmentors with any backbone. By default each
model shows its top prediction, in the last map of its backbone, which is
coarse: in a model with an FPN, neck.fpn_convs.0 shows small things. Layers are
named as in `model.named_modules()`, with the layout of their output; for
models that differ give one for each.
"""
import argparse
import sys
from pathlib import Path
from typing import List, Optional

import cv2
import numpy as np

from mmiformer.config import load_config
from mmiformer.kit.cam import (
    LAST_MAP,
    METHODS,
    find_method,
    see,
)
from mmiformer.kit.inference import class_names, load_model, read_image
from mmiformer.kit.layers import LAYOUTS, find_layer, suggest
from mmiformer.paper import arguments, pictures


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_model_arguments(parser)
    parser.add_argument('--category', help='the name of a class; default: '
                        'the top prediction of each model')
    parser.add_argument('--layer', nargs='+', metavar='NAME:LAYOUT',
                        type=arguments.layer, default=[LAST_MAP],
                        help='one, or one per model; default: the backbone; '
                        f'LAYOUT: {", ".join(LAYOUTS)}')
    parser.add_argument('--method', choices=list(METHODS), help='default: '
                        'gradcam for a classifier, hirescam for others')
    args = parser.parse_args()
    count = len(args.models)
    if len(args.layer) == 1:
        args.layer *= count
    if len(args.layer) != count:
        parser.error(f'--layer: {len(args.layer)} for {count} models: give '
                     'one, or one per model')
    return args


def number_of(category: Optional[str], classes: List[str], config: str
              ) -> Optional[int]:
    """The index of a class by its name, or by one of several with commas."""
    if category is None:
        return None
    for number, name in enumerate(classes):
        if category in (name, *map(str.strip, name.split(','))):
            return number
    raise ValueError(f'--category {category}: unknown to {config}, '
                     f'{suggest(category, classes)}')


def main() -> None:
    args = parse_args()
    paths = [path for path, _ in args.models]
    try:
        find_method(args.method or 'gradcam')
        configs = [load_config(path) for path in paths]
        classes = [class_names(cfg) for cfg in configs]
        categories = [number_of(args.category, names, path)
                      for names, path in zip(classes, paths)]
        models = [load_model(cfg, checkpoint)
                  for cfg, (_, checkpoint) in zip(configs, args.models)]
        for model, (name, _) in zip(models, args.layer):
            find_layer(model, name)
        rows = []
        for image in args.images:
            rows.append([])
            for cfg, model, names, category, layer in zip(
                    configs, models, classes, categories, args.layer):
                seen, data = read_image(cfg, model, str(image))
                heat, title = see(model, seen, data, names, category, layer,
                                  args.method)
                rows[-1].append((seen, heat, title))
        if all(heat is None for row in rows for _, heat, _ in row):
            raise ValueError(f'{rows[0][0][2]} in any of the images')
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        sys.exit(f'error: {error}')
    images: List[np.ndarray] = [
        cv2.imread(str(path))[..., ::-1] for path in args.images]
    names = ['/'.join(Path(path).with_suffix('').parts[-2:])
             for path in paths]
    pictures.draw_activations(args.out, names, images, rows)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
