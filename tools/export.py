"""Exports a model as an ONNX file that gives the same numbers.

    tools/export.py CONFIG CHECKPOINT --out model.onnx
    tools/export.py CONFIG CHECKPOINT --out model.onnx --size 800 1280
    tools/export.py CONFIG CHECKPOINT --out backbone.onnx --part backbone

For classifiers, segmentors and the backbone of any model. Nothing is written
unless the file gives the model's numbers: docs/export.md.
"""
import argparse
import logging
import time

from mmiformer.config import add_cfg_options, load_config, output_file
from mmiformer.front import new_parser, run
from mmiformer.kit.export import OPSET, export


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
    parser.add_argument('--opset', type=int, help='version of the operators '
                        f'of ONNX; default: {OPSET}')
    add_cfg_options(parser)
    args = parser.parse_args()
    if args.size and min(args.size) < 1:
        parser.error(f'--size {args.size}: expected positive numbers')
    return args


def main(args: argparse.Namespace) -> None:
    start = time.time()
    logging.getLogger('onnxscript').setLevel(logging.ERROR)
    worst = export(
        load_config(args.config, args.cfg_options), args.checkpoint, args.out,
        args.size, args.dynamic, args.part, args.opset,
        report=lambda line: print(line, flush=True))
    print(f'written: {args.out}, {args.out.stat().st_size / 2 ** 20:.1f} MiB, '
          f'largest difference {worst:.1e} of a deviation, '
          f'{time.time() - start:.0f} s')


if __name__ == '__main__':
    run(main, parse_args(), logging.WARNING)
