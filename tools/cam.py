"""Draws where models see a class in images, side by side.

    tools/cam.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out cam.png
    tools/cam.py CONFIG CHECKPOINT PEERS_CONFIG PEERS_CHECKPOINT \\
        --images a.jpg --category dog --out cam.png --part neck --level 0

For classifiers and segmentors with any backbone. By default each model shows
its top prediction, in the last map of its backbone, which is coarse: in a model
with an FPN, --part neck --level 0 shows small things.
"""
import argparse
from difflib import get_close_matches
from pathlib import Path

import cv2

from mmiformer.config import load_config
from mmiformer.front import new_parser, run
from mmiformer.kit.inference import load_model, read_image, read_meta
from mmiformer.paper.cam import explain, find_library
from mmiformer.paper.pictures import (
    draw_activations,
    image_file,
    picture_file,
)


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT',
                        help='of one model or more')
    parser.add_argument('--images', nargs='+', required=True, type=image_file)
    parser.add_argument('--out', required=True, type=picture_file,
                        help='file of the picture: .png, .jpg, .svg, ...')
    parser.add_argument('--category', help='the name of a class; default: '
                        'the top prediction of each model')
    parser.add_argument('--part', choices=['backbone', 'neck'],
                        default='backbone', help='whose maps are looked at')
    parser.add_argument('--level', type=int, default=-1, help='which of its '
                        'maps, the finest is 0; default: the last')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error(f'{args.models[-1]}: give CONFIG CHECKPOINT of each model')
    return args


def main(args: argparse.Namespace) -> None:
    find_library()  # before models are loaded
    rows = [[] for _ in args.images]
    configs = args.models[::2]
    for path, checkpoint in zip(configs, args.models[1::2]):
        cfg, category = load_config(path), None
        classes = read_meta(cfg)['classes']
        if args.category:  # ImageNet's are several with commas
            category = next((number for number, name in enumerate(classes)
                             if args.category in (name, *name.split(', '))),
                            None)
            if category is None:
                near = get_close_matches(args.category, classes, 9, 0.)
                raise ValueError(f'--category {args.category}: unknown to '
                                 f'{path}, choose from {near}')
        model = load_model(cfg, checkpoint)
        for row, image in zip(rows, args.images):
            shown, data = read_image(cfg, model, str(image))
            row.append((shown, *explain(model, shown, data, classes, category,
                                        args.part, args.level)))
    if all(heat is None for row in rows for _, heat, _ in row):
        raise ValueError(f'{rows[0][0][2]} in any of the images')
    draw_activations(
        args.out, ['/'.join(Path(path).with_suffix('').parts[-2:])
                   for path in configs],
        [cv2.imread(str(path))[..., ::-1] for path in args.images], rows)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run(main, parse_args())
