"""Counts parameters and FLOPs; needs no data set and no weights.

    tools/get_flops.py configs/mask_rcnn/iformer_s_1x.py [--shape 800 1280]
    tools/get_flops.py --table coco

FLOPs are given in both of the paper's conventions: its COCO and ADE20K tables
leave the products inside attention out, its ImageNet table counts them.
"""
import argparse
import logging
import time
import warnings
from pathlib import Path

from mmengine.config import DictAction
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope

from mmiformer.analysis import count
from mmiformer.analysis.paper import SHAPES, TABLES, build_row, find_row
from mmiformer.config import load_config

CONFIGS = Path(__file__).parents[1] / 'configs'
TABLE_CONFIGS = {'coco': 'mask_rcnn/iformer_s_1x.py',
                 'ade20k': 'fpn_ade20k/iformer_s_80k.py'}
LINE = '{:<16} {:>10} {:>10} {:>12} {:>12} {:>16}'
TITLES = ('', 'params M', 'published', 'FLOPs G', 'published',
          'with attention')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help="by default that of the paper's table, of a "
                        'classifier what it is trained on')
    parser.add_argument('--table', choices=sorted(TABLE_CONFIGS),
                        help="a whole table of the paper")
    parser.add_argument('--cfg-options', nargs='+', action=DictAction,
                        metavar='KEY=VALUE', help='override settings')
    args = parser.parse_args()
    if bool(args.config) == bool(args.table):
        parser.error('give a config or --table')
    return args


def show(name: str, row, result) -> None:
    numbers = ('', '', '') if result is None else (
        f'{result.params / 1e6:.1f}', f'{result.flops / 1e9:.1f}',
        f'{result.flops_with_attention / 1e9:.1f}')
    published = (f'{row.params:g}', f'{row.flops:g}') if row else ('-', '-')
    line = LINE.format(name, numbers[0], published[0], numbers[1],
                       published[1], numbers[2])
    if result is None:
        line += '  not in the installed packages'
    print(line, flush=True)


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    start = time.time()
    if args.config:
        cfg = load_config(args.config, args.cfg_options)
        table, name, row = find_row(cfg) or (None, 'model', None)
        side = cfg.model.backbone.get('pretrain_img_size', 224)
        shape = tuple(args.shape or SHAPES.get(table) or dict(
            mmseg=(512, 2048), mmdet=(800, 1280), mmpretrain=(side, side)
        )[cfg.default_scope])
        print(f'at {shape[0]}x{shape[1]}, one image; some seconds on a CPU')
        print(LINE.format(*TITLES))
        cfg.model.backbone.init_cfg = None
        init_default_scope(cfg.default_scope)
        show(name, row if shape == SHAPES.get(table) else None,
             count(MODELS.build(cfg.model), shape))
    else:
        cfg = load_config(str(CONFIGS / TABLE_CONFIGS[args.table]))
        shape = tuple(args.shape or SHAPES[args.table])
        print(f'at {shape[0]}x{shape[1]}, one image; some 15 seconds a row '
              'on a CPU')
        print(LINE.format(*TITLES))
        for name, row in TABLES[args.table].items():
            model = build_row(cfg, name)
            show(name, row if shape == SHAPES[args.table] else None,
                 model and count(model, shape))
    print(f'FLOPs: convolutions, linear layers, norms, upsampling; the last '
          'column adds the products inside attention. '
          f'{time.time() - start:.0f} seconds.')


if __name__ == '__main__':
    main()
