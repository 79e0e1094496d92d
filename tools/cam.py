"""Draws where models see a class in images, side by side.

    tools/cam.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out cam.png
    tools/cam.py CONFIG CHECKPOINT PEERS_CONFIG PEERS_CHECKPOINT \\
        --images a.jpg --category dog --out cam.png \\
        --layer neck.fpn_convs.0:NCHW

For classifiers and segmentors with any backbone. By default each model shows
its top prediction, in the last map of its backbone, which is coarse: in a model
with an FPN, neck.fpn_convs.0 shows small things. Layers are named as in
`model.named_modules()`, with the layout of their output; for models that differ
give one for each.
"""
import argparse
from pathlib import Path

import cv2

from mmiformer.config import load_config
from mmiformer.front import new_parser, run
from mmiformer.kit.inference import load_model, read_image, read_meta
from mmiformer.paper import look, pictures
from mmiformer.paper.cam import LAST_MAP, METHODS, explain, find_method
from mmiformer.paper.layer_maps import LAYOUTS, suggest


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    look.add_model_arguments(parser)
    parser.add_argument('--category', help='the name of a class; default: '
                        'the top prediction of each model')
    parser.add_argument('--layer', nargs='+', metavar='NAME:LAYOUT',
                        type=look.layer, default=[LAST_MAP],
                        help='one, or one per model; default: the backbone; '
                        f'LAYOUT: {", ".join(LAYOUTS)}')
    parser.add_argument('--method', choices=list(METHODS), help='default: '
                        'gradcam for a classifier, hirescam for a segmentor')
    args = parser.parse_args()
    if len(args.layer) == 1:
        args.layer *= len(args.models)
    if len(args.layer) != len(args.models):
        parser.error(f'--layer: {len(args.layer)} for {len(args.models)} '
                     'models: give one, or one per model')
    return args


def main(args: argparse.Namespace) -> None:
    find_method(args.method or 'gradcam')
    rows = [[] for _ in args.images]
    for (path, checkpoint), layer in zip(args.models, args.layer):
        cfg, category = load_config(path), None
        classes = read_meta(cfg)['classes']
        if args.category:  # ImageNet's are several with commas
            category = next((number for number, name in enumerate(classes)
                             if args.category in (name, *name.split(', '))),
                            None)
            if category is None:
                raise ValueError(f'--category {args.category}: unknown to '
                                 f'{path}, {suggest(args.category, classes)}')
        model = load_model(cfg, checkpoint)
        for row, image in zip(rows, args.images):
            shown, data = read_image(cfg, model, str(image))
            row.append((shown, *explain(model, shown, data, classes, category,
                                        layer, args.method)))
    if all(heat is None for row in rows for _, heat, _ in row):
        raise ValueError(f'{rows[0][0][2]} in any of the images')
    pictures.draw_activations(
        args.out, ['/'.join(Path(path).with_suffix('').parts[-2:])
                   for path, _ in args.models],
        [cv2.imread(str(path))[..., ::-1] for path in args.images], rows)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run(main, parse_args())
