"""Lists the models of this project's configs.

    tools/models.py
    tools/models.py '*iformer_s*'

Published: the paper's result; of UperNet, the authors' README's. Weights: the
authors', by the name that IFormer.from_pretrained takes; no others exist, since
nothing on COCO and ADE20K has been trained here.
"""
import argparse

from mmiformer import list_models
from mmiformer.front import new_parser, run

TITLES = ('config', 'task', 'data', 'params M', 'published', 'weights')


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('pattern', nargs='?', default='*',
                        help="of names, with * and ?: '*iformer_s*'")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    models = list_models(args.pattern)
    if not models:
        raise ValueError(f'no model is called {args.pattern!r}; choose from '
                         f'{", ".join(model.name for model in list_models())}')
    rows = [TITLES, *(
        (model.name, model.task, model.data, f'{model.parameters / 1e6:.1f}',
         model.published or '-', model.weights or '-') for model in models)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print('  '.join(map(str.ljust, row, widths)).rstrip())


if __name__ == '__main__':
    run(main, parse_args())
