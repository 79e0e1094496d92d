"""Tests a detector, a segmentor or a classifier.

    tools/test.py configs/mask_rcnn/iformer_s_1x.py work_dirs/.../epoch_12.pth
"""
import argparse
import logging
import textwrap
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from mmiformer.config import (
    add_common_arguments,
    as_list,
    load_config,
    type_name,
)
from mmiformer.front import new_parser, report_errors, run
from mmiformer.kit.checks import check_start
from mmiformer.kit.launch import start_processes
from mmiformer.kit.resume import CheckpointError

MAP_METRICS = ('IoUMetric', 'CityscapesMetric')  # of mmseg; they write maps


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--show-dir', help='draw every prediction into it')
    parser.add_argument(
        '--out', help='keep the predictions: a .pkl file, or for '
        'segmentation a folder of label maps')
    parser.add_argument(
        '--tta', action='store_true', help='test-time augmentation by the '
        "config's tta_model and tta_pipeline; of a detector boxes only, as "
        'mmdet merges no masks')
    parser.add_argument('--no-check', action='store_true',
                        help='do not check data and weights at the start')
    add_common_arguments(parser)
    return parser.parse_args()


def draw_into(cfg: Config, folder: str) -> None:
    hook = (cfg.get('default_hooks') or {}).get('visualization')
    if not hook or not cfg.get('visualizer'):
        raise ValueError('--show-dir: the config needs a visualizer and '
                         'default_hooks.visualization')
    hook.interval = 1
    if cfg.get('default_scope') == 'mmpretrain':
        hook.update(enable=True, out_dir=folder)
        return
    hook.draw = True
    if cfg.default_scope == 'mmdet':
        hook.test_out_dir = str(Path(folder).absolute())
    else:
        cfg.visualizer.save_dir = folder


def keep_predictions(cfg: Config, out: str) -> None:
    scope, evaluators = cfg.get('default_scope'), as_list(cfg.test_evaluator)
    if scope == 'mmseg':
        found = [evaluator for evaluator in evaluators
                 if type_name(evaluator) in MAP_METRICS]
        if not found:
            raise ValueError('--out needs a test_evaluator of type '
                             f'{" or ".join(MAP_METRICS)}')
        found[0].update(output_dir=out, keep_results=True)
        return
    if not out.endswith(('.pkl', '.pickle')):
        raise ValueError(f'--out {out} must be a .pkl file, except for '
                         'segmentation')
    kind = 'DumpDetResults' if scope == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = [*evaluators, dict(type=kind, out_file_path=out)]


def use_tta(cfg: Config) -> None:
    """Tests by the ``tta_model`` and ``tta_pipeline`` of a config."""
    for name in ('tta_model', 'tta_pipeline'):
        if not cfg.get(name):
            raise ValueError(f'--tta: the config has no {name}')
    if cfg.model.get('roi_head', {}).get('mask_head'):
        # mmdet merges no masks, and stops where a detector predicts them.
        cfg.model.roi_head.update(mask_head=None, mask_roi_extractor=None)
        for evaluator in as_list(cfg.test_evaluator):
            if isinstance(evaluator.get('metric'), list):
                evaluator.metric = [x for x in evaluator.metric if x != 'segm']
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)


class StrictRunner(Runner):
    """Refuses a checkpoint that lacks parameters of the model, which mmengine
    would leave at random. What a checkpoint has beyond them, such as an
    auxiliary head, is logged."""

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        handle = model.register_load_state_dict_post_hook(forgive_unexpected)
        try:
            return super().load_checkpoint(
                filename, *args, **dict(kwargs, strict=True))
        except (OSError, RuntimeError, ValueError) as error:
            reason = textwrap.shorten(str(error), 600)
            raise CheckpointError(f'{filename}: {reason}') from error
        finally:
            handle.remove()


def forgive_unexpected(model: nn.Module, keys: Any) -> None:
    """A hook of torch, which may empty the list of unexpected keys."""
    names = keys.unexpected_keys
    if names:
        print_log(f'ignored {len(names)} values of the checkpoint that the '
                  f'model does not have: {names[0]} ...', logger='current')
        names.clear()


def prepare(args: argparse.Namespace) -> Runner:
    cfg = load_config(
        args.config, args.cfg_options, args.work_dir, args.launcher)
    for name in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if cfg.get(name) is None:
            raise ValueError(f'{args.config}: it has no {name}')
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.show_dir:
        draw_into(cfg, args.show_dir)
    if args.out:
        keep_predictions(cfg, args.out)
    if args.tta:
        use_tta(cfg)
    start_processes(cfg)
    if not args.no_check:
        check_start(cfg, ('test', ))
    return StrictRunner.from_cfg(cfg)


def main() -> None:
    args = parse_args()
    runner = run(prepare, args, logging.INFO)
    with report_errors(args, kinds=(CheckpointError, )):
        runner.test()


if __name__ == '__main__':
    main()
