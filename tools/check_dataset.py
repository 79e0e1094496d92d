"""Checks the data of a config, all of it, before it is trained on.

    tools/check_dataset.py configs/mask_rcnn/iformer_s_custom.py

Builds the data sets of the config and asks them for every sample, by their
own loading steps. It lists what raises or would spoil a training ("error",
exit status 1) and what may be meant so ("note").
"""
import argparse
import json
import os
import sys
from typing import Iterable

from mmengine.utils import track_iter_progress

from mmiformer.config import add_cfg_options, load_config, output_file
from mmiformer.front import new_parser, run
from mmiformer.kit.checks import check_data

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument(
        '--out', type=output_file, help='JSON file for the report with every '
        'file')
    parser.add_argument(
        '--num-workers', type=int, default=min(os.cpu_count() or 1, 8),
        help='processes that read; 0 reads in one (default: %(default)s)')
    add_cfg_options(parser)
    return parser.parse_args()


def show(items: Iterable, label: str, total: int) -> Iterable:
    """A line, and a bar on a terminal."""
    print(label, file=sys.stderr)
    return (track_iter_progress((items, total), file=sys.stderr)
            if sys.stderr.isatty() else items)


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args.config, args.cfg_options)
    splits = [split for split in SPLITS if cfg.get(f'{split}_dataloader')]
    if 'val' in splits and cfg.get('test_dataloader') == cfg.val_dataloader:
        splits.remove('test')  # the same again
    report = check_data(cfg, splits, num_workers=args.num_workers,
                        progress=show)
    if args.out:
        args.out.write_text(json.dumps(report.as_dict(), indent=2) + '\n')
    print(report)
    sys.exit(report.errors > 0)


if __name__ == '__main__':
    run(main, parse_args())
