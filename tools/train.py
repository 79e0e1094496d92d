"""Trains a detector, a segmentor or a classifier.

    tools/train.py configs/mask_rcnn/iformer_s_1x.py
"""
import argparse
import logging

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from mmiformer.config import add_common_arguments, load_config
from mmiformer.front import new_parser, report_errors, run
from mmiformer.kit.checks import check_start
from mmiformer.kit.launch import start_processes
from mmiformer.kit.non_finite import NotFiniteError
from mmiformer.kit.resume import (
    CheckpointError,
    build_runner,
    prepare_resume,
)


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='resume from a checkpoint, by default the newest in the work dir')
    parser.add_argument(
        '--amp', action='store_true', help='mixed precision (needs a GPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true',
        help="scale the learning rate to the batch size, by the config's "
        'auto_scale_lr.base_batch_size')
    parser.add_argument('--no-check', action='store_true',
                        help='do not check data and weights at the start')
    add_common_arguments(parser)
    return parser.parse_args()


def apply_arguments(cfg: Config, args: argparse.Namespace) -> None:
    if args.amp:
        if not torch.cuda.is_available():
            raise ValueError('--amp needs a GPU, and torch finds none')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise ValueError('--auto-scale-lr needs '
                             f'auto_scale_lr.base_batch_size in {args.config}')
        cfg.auto_scale_lr.enable = True


def prepare(args: argparse.Namespace) -> Runner:
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher)
    apply_arguments(cfg, args)
    start_processes(cfg)
    if args.resume or cfg.get('resume'):
        prepare_resume(cfg, None if args.resume == 'auto' else
                       args.resume or cfg.get('load_from'))
    if not args.no_check:
        check_start(cfg, ('train', 'val'))
    return build_runner(cfg)


def main() -> None:
    args = parse_args()
    runner = run(prepare, args, logging.INFO)
    # Any other error of a training shows its trace.
    with report_errors(args, kinds=(CheckpointError, NotFiniteError)):
        runner.train()


if __name__ == '__main__':
    main()
