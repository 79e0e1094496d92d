"""Predicts images, folders of images, videos and URLs of images.

    tools/predict.py CONFIG CHECKPOINT photo.jpg folder/ clip.mp4 --out out/
    tools/predict.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small photo.jpg
    tools/predict.py model.onnx photo.jpg

Writes pictures to out/vis and results to out/preds, under the files' names.
The exit status is the number of files that could not be read.
"""
import argparse
import logging
import sys
import warnings
from pathlib import Path

from mmengine.logging import MMLogger
from tqdm import tqdm

from mmiformer.checkpoint import force_weights_only
from mmiformer.config import add_cfg_options
from mmiformer.kit.predict import FORMATS, NotReadError, load_predictor
from mmiformer.kit.sources import find_sources


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='a config, or an exported .onnx file')
    parser.add_argument('inputs', nargs='+', metavar='[CHECKPOINT] INPUT',
                        help="the config's weights, then what to predict")
    parser.add_argument('--out', type=Path, default=Path('outputs'),
                        help='folder for pictures and results, by default '
                        'outputs')
    parser.add_argument('--format', choices=FORMATS, help='of the results: '
                        'json (boxes, classes) or png (label maps) for each '
                        'file by default; csv or coco: one file for all')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='count and draw objects from this score on; the '
                        'results keep all')
    parser.add_argument('--stride', type=int, default=1,
                        help='of a video use every so many frames')
    parser.add_argument('--no-vis', action='store_true',
                        help='write no pictures and videos')
    add_cfg_options(parser)
    # Inputs may stand on both sides of an option.
    args = parser.parse_intermixed_args()
    args.checkpoint = None
    if not args.config.endswith('.onnx'):
        args.checkpoint = args.inputs.pop(0)
    if not args.inputs:
        parser.error('nothing to predict: give images, folders, videos or '
                     'URLs after the checkpoint')
    if args.stride < 1:
        parser.error(f'--stride {args.stride}: expected 1 or more')
    return args


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    force_weights_only()
    try:
        sources = find_sources(args.inputs)
        if not sources:
            raise ValueError(
                f'no image and no video in {", ".join(args.inputs)}')
        predictor = load_predictor(
            args.config, args.checkpoint, args.cfg_options, out=args.out,
            form=args.format, threshold=args.score_thr, draw=not args.no_vis)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f'error: {error}')
    failed = 0
    # A bar for many, where somebody looks.
    for source in tqdm(sources, disable=None if len(sources) > 1 else True):
        try:
            found = predictor.predict(source, args.stride)
        except NotReadError as error:
            tqdm.write(f'error: {error}', file=sys.stderr)
            failed += 1
            continue
        frames = f', {found.frames} frames' if found.frames > 1 else ''
        tqdm.write(f'{source.path} {found.width}x{found.height}{frames}: '
                   f'{found.text}, {found.seconds:.2f} s')
    predictor.close()
    print(f'written to {args.out}' + (
        f'; {failed} of {len(sources)} could not be read' if failed else ''))
    sys.exit(min(failed, 125))  # above that, shells mean something else


if __name__ == '__main__':
    main()
