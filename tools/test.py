"""Tests a detector, a segmentor or a classifier.

    tools/test.py configs/mask_rcnn/iformer_s_1x.py work_dirs/.../epoch_12.pth
"""
import argparse
import sys
from functools import partial
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from mmiformer.checks import check_start
from mmiformer.config import add_common_arguments, load_config
from mmiformer.engine.launch import start_processes
from mmiformer.engine.memory import OutOfMemory, explained
from mmiformer.engine.tta import use_tta


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--show-dir', help='draw every prediction into it')
    parser.add_argument(
        '--out', help='keep the predictions: a .pkl file, or for '
        'segmentation a folder of label maps')
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation; of a '
        'detector the boxes alone, as mmdet cannot merge masks')
    add_common_arguments(parser)
    return parser.parse_args()


def draw_into(cfg: Config, folder: str) -> None:
    hook = cfg.default_hooks.visualization
    hook.interval = 1
    if cfg.default_scope == 'mmpretrain':
        hook.enable = True
        hook.out_dir = folder
        return
    hook.draw = True
    if cfg.default_scope == 'mmdet':
        hook.test_out_dir = str(Path(folder).absolute())
    else:
        cfg.visualizer.save_dir = folder


def keep_predictions(cfg: Config, out: str) -> None:
    if cfg.default_scope == 'mmseg':
        cfg.test_evaluator.update(output_dir=out, keep_results=True)
        return
    if not out.endswith(('.pkl', '.pickle')):
        sys.exit(f'error: --out {out} must be a .pkl file, but for a '
                 'segmentor')
    evaluators = cfg.test_evaluator
    if not isinstance(evaluators, list):
        evaluators = [evaluators]
    kind = ('DumpDetResults' if cfg.default_scope == 'mmdet' else
            'DumpResults')
    cfg.test_evaluator = [*evaluators, dict(type=kind, out_file_path=out)]


def main() -> None:
    args = parse_args()
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show_dir:
        draw_into(cfg, args.show_dir)
    if args.out:
        keep_predictions(cfg, args.out)
    try:
        if args.tta:
            use_tta(cfg)
        start_processes(cfg)
        check_start(cfg, ('test', ))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f'error: {error}')
    runner = Runner.from_cfg(cfg)
    # A checkpoint of another model must not pass with random heads. For box
    # TTA the detector has lost its mask head, which the checkpoint has.
    strict = not (args.tta and cfg.default_scope == 'mmdet')
    runner.load_checkpoint = partial(runner.load_checkpoint, strict=strict)
    try:
        with explained(runner):
            runner.test()
    except OutOfMemory as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
