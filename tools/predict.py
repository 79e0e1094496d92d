"""Predicts images, folders of images, videos and URLs of images.

    tools/predict.py CONFIG CHECKPOINT photo.jpg folder/ clip.mp4 --out out/
    tools/predict.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small photo.jpg
    tools/predict.py model.onnx photo.jpg

Writes pictures to out/vis and results to out/preds, under the files' names.
The exit status is the number of files that failed, or 130 after Ctrl-C.
"""
import argparse
import sys
import time
import traceback
from pathlib import Path

from tqdm import tqdm

from mmiformer.config import add_cfg_options
from mmiformer.front import new_parser, run
from mmiformer.kit.predict import find_sources, load_predictor


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config', help='a config, or an exported .onnx file')
    parser.add_argument('inputs', nargs='+', metavar='[CHECKPOINT] INPUT',
                        help="the config's weights, then what to predict")
    parser.add_argument('--out', type=Path, default=Path('outputs'),
                        help='folder for pictures and results, by default '
                        'outputs')
    parser.add_argument('--score-thr', type=float, default=0.3,
                        help='count and draw objects from this score on; the '
                        'results keep all')
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
    return args


def main(args: argparse.Namespace) -> None:
    sources = find_sources(args.inputs, args.out)
    if not sources:
        raise ValueError(f'no image and no video in {", ".join(args.inputs)}')
    predictor = load_predictor(
        args.config, args.checkpoint, args.cfg_options, out=args.out,
        threshold=args.score_thr, draw=not args.no_vis)
    failed, interrupted = 0, False
    try:
        # A bar is shown for many, where somebody looks.
        for path, name in tqdm(sources, disable=len(sources) == 1 or None):
            try:
                start = time.time()
                found = predictor.predict(path, name)
            except Exception as error:  # the others must not wait for it
                reason = (str(error).splitlines() or [''])[0]
                tqdm.write(f'error: {path}: {type(error).__name__}: '
                           f'{reason}', file=sys.stderr)
                if args.debug:
                    traceback.print_exc()
                failed += 1
                continue
            tqdm.write(f'{path} {found}, {time.time() - start:.2f} s')
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        interrupted = True
    print(f'written to {args.out}' + (
        f'; {failed} of {len(sources)} failed' if failed else ''))
    # Above 125, an exit status means something else to shells.
    sys.exit(130 if interrupted else min(failed, 125))


if __name__ == '__main__':
    run(main, parse_args())
