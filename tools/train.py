"""Trains a detector, a segmentor or a classifier.

    tools/train.py configs/mask_rcnn/iformer_s_1x.py
"""
import argparse
import sys

import torch

from mmiformer.checks import check_start
from mmiformer.config import add_common_arguments, load_config
from mmiformer.engine.finite import NotFiniteError
from mmiformer.engine.launch import start_processes
from mmiformer.engine.memory import OutOfMemory
from mmiformer.engine.resume import build_runner, resume
from mmiformer.engine.runner import CheckpointError


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from a checkpoint, by default the latest in the work dir')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help="scale the learning rate to the batch size, by the config's "
        'auto_scale_lr.base_batch_size')
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher)
    if args.amp:
        if not torch.cuda.is_available():
            sys.exit('error: --amp needs a GPU, and torch finds none')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            sys.exit('error: --auto-scale-lr needs '
                     f'auto_scale_lr.base_batch_size in {args.config}')
        cfg.auto_scale_lr.enable = True
    try:
        if args.resume or cfg.get('resume'):
            resume(cfg, None if args.resume == 'auto' else
                   args.resume or cfg.get('load_from'))
        start_processes(cfg)
        check_start(cfg, ('train', 'val'))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    try:
        build_runner(cfg).train()
    except (CheckpointError, NotFiniteError, OutOfMemory) as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
