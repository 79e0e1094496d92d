"""Counts parameters and FLOPs; needs no data set and no weights.

    tools/get_flops.py configs/mask_rcnn/iformer_s_1x.py [--shape 800 1280]

FLOPs are given in both of the paper's conventions: its COCO and ADE20K tables
exclude the products inside attention, its ImageNet table counts them.
"""
import argparse

from mmengine.registry import MODELS, DefaultScope

from mmiformer.config import add_cfg_options, load_config
from mmiformer.front import new_parser, run
from mmiformer.paper import count
from mmiformer.paper.tables import SHAPES, find_row


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('--shape', type=int, nargs=2, metavar=('H', 'W'),
                        help="by default that of the paper's table, for a "
                        'classifier or a backbone its training size')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    scope = cfg.get('default_scope')
    side = cfg.model.get('backbone', cfg.model).get('pretrain_img_size', 224)
    table = dict(mmdet='coco', mmseg='ade20k').get(scope)
    shape = tuple(args.shape or SHAPES.get(table, (side, side)))
    print(f'{shape[0]}x{shape[1]} pixels, one image', flush=True)
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
        try:
            result = count(model, shape)
        except (AttributeError, KeyError, NotImplementedError, TypeError):
            print(f'{type(model).__name__} needs annotations and is not '
                  'counted; its backbone:')
            cfg.model, result = {}, count(model.backbone, shape)
    numbers = dict(params=f'{result.params / 1e6:.1f} M parameters',
                   flops=f'{result.flops / 1e9:.1f} G FLOPs')
    table, name, row = find_row(cfg) or (None, '', None)
    for key, text in numbers.items():
        if row and shape == SHAPES[table]:
            text += f'; in the paper, {name}: {getattr(row, key):g}'
        print(text)
    print(f'{result.flops_with_attention / 1e9:.1f} G FLOPs with the products '
          'inside attention')


if __name__ == '__main__':
    run(main, parse_args())
