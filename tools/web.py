"""Opens a page in the browser to try a model, for this machine alone.

    tools/web.py CONFIG CHECKPOINT
    tools/web.py configs/imagenet/iformer_s_300e.py mmiformer://iformer_small

A picture is uploaded or pasted, and comes back with what a classifier, detector
or segmentor has found in it. Nothing leaves this machine. Needs gradio: in the
checkout, pip install ".[web]".
"""
import argparse
import logging
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from mmengine.logging import MMLogger

from mmiformer.checkpoint import force_weights_only
from mmiformer.config import add_cfg_options
from mmiformer.kit.predict import load_predictor


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('checkpoint', help='path, URL or name')
    parser.add_argument('--port', type=int, help='default: the first that is '
                        'free from 7860 on')
    add_cfg_options(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    warnings.filterwarnings('ignore')
    MMLogger.get_current_instance().setLevel(logging.ERROR)
    force_weights_only()
    try:
        from mmiformer.kit.web import build_page, serve
    except ImportError as error:
        sys.exit(f'error: {error}: in the checkout, pip install ".[web]"')
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: tidy up
        signal.signal(number, signal.default_int_handler)
    title = '/'.join(Path(args.config).with_suffix('').parts[-2:])
    with tempfile.TemporaryDirectory(prefix='mmiformer-') as folder:
        # By default gradio keeps pictures where all users can read them.
        os.environ['GRADIO_TEMP_DIR'] = folder
        try:
            page = build_page(load_predictor(
                args.config, args.checkpoint, args.cfg_options), title)
            address = serve(page, args.port)
        except (OSError, ValueError) as error:
            sys.exit(f'error: {error}')
        print(f'{address} (Ctrl-C ends it)', flush=True)
        page.block_thread()


if __name__ == '__main__':
    main()
