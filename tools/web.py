"""Opens a page in the browser to try a model, for this machine alone.

    tools/web.py CONFIG CHECKPOINT
    tools/web.py configs/imagenet/iformer_s_300e.py mmiformer://iformer_small

A picture is uploaded or pasted, and comes back with what a classifier, detector
or segmentor has found in it. Nothing leaves this machine. The port is the first
free one from 7860 on, or GRADIO_SERVER_PORT. Needs gradio: in the checkout,
pip install ".[web]".
"""
import argparse
import signal
from pathlib import Path

from mmiformer.config import add_cfg_options
from mmiformer.front import new_parser, run
from mmiformer.kit.predict import Predictor


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint', help='path, URL or name')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from mmiformer.kit.web import serve  # needs gradio
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: tidy up
        signal.signal(number, signal.default_int_handler)
    predictor = Predictor(args.config, args.checkpoint, args.cfg_options)
    title = '/'.join(Path(args.config).with_suffix('').parts[-2:])
    with serve(predictor, title) as page:
        print(f'{page.local_url} (Ctrl-C ends it)', flush=True)
        page.block_thread()


if __name__ == '__main__':
    run(main, parse_args())
