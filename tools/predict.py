"""Predicts images, folders of images, videos and URLs of images.

    tools/predict.py CONFIG CHECKPOINT photo.jpg folder/ clip.mp4 --out out/
    tools/predict.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small photo.jpg
    tools/predict.py model.onnx photo.jpg

Writes pictures to out/vis and results to out/preds, under the files' names.
The exit status is 1 if a file failed, and 130 after Ctrl-C.
"""
import argparse
import sys
import time
import traceback
from pathlib import Path

from mmiformer.config import add_cfg_options
from mmiformer.front import new_parser, run
from mmiformer.kit.predict import Predictor, find_sources


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
    sources, left_out = find_sources(args.inputs, args.out)
    if left_out:
        print('left out:', ', '.join(f'{number} {suffix}' for suffix, number
                                     in left_out.most_common()))
    if not sources:
        raise ValueError(f'no image and no video in {", ".join(args.inputs)}')
    predictor = Predictor(
        args.config, args.checkpoint, args.cfg_options, out=args.out,
        threshold=args.score_thr, draw=not args.no_vis)
    failed = status = 0
    try:
        for path, name in sources:
            start = time.time()
            try:
                found = predictor.predict(path, name)
                print(f'{path} {found}, {time.time() - start:.2f} s')
            except Exception as error:  # the others must not wait for it
                reason = (str(error).splitlines() or [''])[0]
                print(f'error: {path}: {type(error).__name__}: {reason}',
                      file=sys.stderr)
                if args.debug:
                    traceback.print_exc()
                failed, status = failed + 1, 1
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        status = 130
    print(f'written to {args.out}' + (
        f'; {failed} of {len(sources)} failed' if failed else ''))
    sys.exit(status)


if __name__ == '__main__':
    run(main, parse_args())
