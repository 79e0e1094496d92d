"""Counts parameters and FLOPs; needs no data set and no weights.

    tools/get_flops.py configs/mask_rcnn/iformer_s_1x.py [--shape 800 1280]
    tools/get_flops.py --table coco

FLOPs are given in both of the paper's conventions: its COCO and ADE20K tables
exclude the products inside attention, its ImageNet table counts them.
"""
import argparse
import time
from pathlib import Path

from mmengine.registry import MODELS, DefaultScope

from mmiformer.config import add_cfg_options, load_config
from mmiformer.front import new_parser, run
from mmiformer.paper import count
from mmiformer.paper.peers import build_row
from mmiformer.paper.tables import SHAPES, TABLES, find_row

CONFIGS = Path(__file__).parents[1] / 'configs'
TABLE_CONFIGS = {'coco': 'mask_rcnn/iformer_s_1x.py',
                 'ade20k': 'fpn_ade20k/iformer_s_80k.py'}
LINE = '{:<16} {:>10} {:>10} {:>12} {:>12} {:>16}'
TITLES = ('', 'params M', 'published', 'FLOPs G', 'published',
          'with attention')


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', nargs='?')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help="by default that of the paper's table, for a "
                        'classifier or a backbone its training size')
    parser.add_argument('--table', choices=sorted(TABLE_CONFIGS),
                        help='a whole table of the paper')
    add_cfg_options(parser)
    args = parser.parse_args()
    if bool(args.config) == bool(args.table):
        parser.error('give a config or --table')
    return args


def default_shape(cfg) -> tuple:
    side = cfg.model.get('backbone', cfg.model).get('pretrain_img_size', 224)
    table = dict(mmdet='coco', mmseg='ade20k').get(cfg.get('default_scope'))
    return SHAPES.get(table, (side, side))


def show(name: str, published, result) -> None:
    numbers = ('', '', '') if result is None else (
        f'{result.params / 1e6:.1f}', f'{result.flops / 1e9:.1f}',
        f'{result.flops_with_attention / 1e9:.1f}')
    printed = ((f'{published.params:g}', f'{published.flops:g}')
               if published else ('-', '-'))
    line = LINE.format(name, numbers[0], printed[0], numbers[1], printed[1],
                       numbers[2])
    if result is None:
        line += '  not in the installed packages'
    print(line, flush=True)


def main(args: argparse.Namespace) -> None:
    start = time.time()
    cfg = load_config(str(args.config or CONFIGS / TABLE_CONFIGS[args.table]),
                      args.cfg_options)
    shape = tuple(args.shape or default_shape(cfg))
    print(f'at {shape[0]}x{shape[1]}, one image; up to 15 seconds a row on a '
          'CPU')
    print(LINE.format(*TITLES))
    if args.config:
        table, name, published = find_row(cfg) or (None, 'model', None)
        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            model = MODELS.build(cfg.model)
        show(name, published if shape == SHAPES.get(table) else None,
             count(model, shape))
    else:
        for name, published in TABLES[args.table].items():
            model = build_row(cfg, name)
            show(name, published if shape == SHAPES[args.table] else None,
                 model and count(model, shape))
    print('FLOPs: convolutions, linear layers, norms, upsampling; the last '
          'column adds the products inside attention. '
          f'{time.time() - start:.0f} seconds.')


if __name__ == '__main__':
    run(main, parse_args())
