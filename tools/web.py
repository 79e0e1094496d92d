"""Opens a page in the browser to try a model, for this machine alone.

    tools/web.py CONFIG CHECKPOINT
    tools/web.py configs/imagenet/iformer_s_300e.py mmiformer://iformer_small

A picture is uploaded or pasted, and comes back with what a classifier, detector
or segmentor has found in it. Nothing leaves this machine. Needs gradio: in the
checkout, pip install ".[web]".
"""
import argparse
import os
import signal
import tempfile
from pathlib import Path
from unittest.mock import patch

from mmiformer.config import add_cfg_options
from mmiformer.front import new_parser, run
from mmiformer.kit.predict import load_predictor


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint', help='path, URL or name')
    parser.add_argument('--port', type=int, help='default: the first that is '
                        'free from 7860 on')
    add_cfg_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    try:
        from mmiformer.kit.web import build_page, serve
    except ImportError as error:
        raise ImportError(
            f'{error}: in the checkout, pip install ".[web]"') from error
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: tidy up
        signal.signal(number, signal.default_int_handler)
    title = '/'.join(Path(args.config).with_suffix('').parts[-2:])
    # By default gradio keeps pictures where all users can read them.
    with tempfile.TemporaryDirectory(prefix='mmiformer-') as folder, patch.dict(
            os.environ, GRADIO_TEMP_DIR=folder):
        page = build_page(load_predictor(
            args.config, args.checkpoint, args.cfg_options), title)
        address = serve(page, args.port)
        print(f'{address} (Ctrl-C ends it)', flush=True)
        page.block_thread()


if __name__ == '__main__':
    run(main, parse_args())
