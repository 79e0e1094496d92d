"""Checks the data of a config, all of it, before it is trained on.

    tools/check_dataset.py configs/mask_rcnn/iformer_s_custom.py

Reads every annotation, image and label map that the config reads, and lists
what would stop or spoil a training ("error", exit status 1) and what mmdet,
mmseg or mmpretrain would silently do with the rest ("note").
"""
import argparse
import json
import sys
from typing import Iterable

from rich.console import Console
from rich.progress import track

from mmiformer.config import add_cfg_options, load_config, output_file
from mmiformer.kit.checks import CheckContext, check_data

SPLITS = ('train', 'val', 'test')


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument(
        '--out', type=output_file, help='JSON file for the report with every '
        'name')
    add_cfg_options(parser)
    return parser.parse_args()


def show(items: Iterable, label: str, total: int) -> Iterable:
    """A bar on a terminal, a line elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        return track(items, label, total, console=console)
    print(f'{label}: {total}', file=sys.stderr)
    return items


def main() -> None:
    args = parse_args()
    try:
        cfg = load_config(args.config, args.cfg_options)
    except (OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    splits = [split for split in SPLITS if cfg.get(f'{split}_dataloader')]
    if 'val' in splits and cfg.get('test_dataloader') == cfg.val_dataloader:
        splits.remove('test')  # the same again
    report = check_data(cfg, splits, CheckContext(progress=show))
    if args.out:
        args.out.write_text(json.dumps(report.as_dict(), indent=2) + '\n')
    # Names of files may be in letters that the terminal has not.
    sys.stdout.reconfigure(errors='backslashreplace')
    print(report)
    sys.exit(report.errors > 0)


if __name__ == '__main__':
    main()
