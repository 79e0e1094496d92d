"""Exports a model as an ONNX file that gives the same numbers.

    tools/export.py CONFIG CHECKPOINT --out model.onnx
    tools/export.py CONFIG CHECKPOINT --out model.onnx --size 800 1280
    tools/export.py CONFIG CHECKPOINT --out backbone.onnx --part backbone

For classifiers, segmentors and the backbone of any model. Nothing is written
unless the file gives the model's numbers: docs/export.md.
"""
import argparse
import logging

from mmiformer.config import add_cfg_options, load_config, output_file
from mmiformer.front import new_parser, run
from mmiformer.kit.export import export


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--out', type=output_file, required=True,
                        help='the .onnx file')
    parser.add_argument('--size', type=int, nargs=2, metavar=('H', 'W'),
                        help="of the input; by default the config's: the crop "
                        'of a classifier, 512x512 of a segmentor for ADE20K')
    parser.add_argument('--dynamic', action='store_true',
                        help='any number of images of any size')
    parser.add_argument('--part', choices=['model', 'backbone'],
                        default='model', help='default: the whole model')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    differences = export(
        load_config(args.config, args.cfg_options), args.checkpoint, args.out,
        args.size, args.dynamic, args.part)
    for size, difference in differences.items():
        print(f'proved at {size}: differs by {difference:.1e} of a deviation')
    print(f'written: {args.out}, {args.out.stat().st_size / 2 ** 20:.1f} MiB, '
          f'largest difference {max(differences.values()):.1e} of a deviation')


if __name__ == '__main__':
    run(main, parse_args(), logging.WARNING)
