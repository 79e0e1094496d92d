"""Command-line arguments of the tools that look inside models."""
import argparse
from pathlib import Path
from typing import Tuple

import cv2
from matplotlib.backend_bases import FigureCanvasBase

from ..config import output_file
from .layer_maps import LAYOUTS


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``models``, a list of ``(config, checkpoint)``, ``images``, a list
    of paths, and ``out``, a path."""
    parser.add_argument(
        'models', nargs='+', metavar='CONFIG CHECKPOINT', action=_InPairs,
        help='of one model or more')
    parser.add_argument('--images', nargs='+', required=True, type=_image)
    parser.add_argument('--out', required=True, type=_picture,
                        help='file of the picture: .png, .jpg, .svg, ...')


def layer(text: str) -> Tuple[str, str]:
    """An argparse type: name and layout of a layer, from ``NAME:LAYOUT``."""
    name, colon, layout = text.rpartition(':')
    if not colon or layout not in LAYOUTS:
        raise argparse.ArgumentTypeError(
            f'{text}: give NAME:LAYOUT, with a layout of {", ".join(LAYOUTS)}')
    return name, layout


def _image(text: str) -> Path:
    if not cv2.haveImageReader(text):
        raise argparse.ArgumentTypeError(f'{text}: not an image')
    return Path(text)


def _picture(text: str) -> Path:
    known = FigureCanvasBase.get_supported_filetypes()
    if Path(text).suffix[1:] not in known:
        raise argparse.ArgumentTypeError(
            f'{text}: name a file of the suffix .' + ', .'.join(known))
    return output_file(text)


class _InPairs(argparse.Action):

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        if len(values) % 2:
            parser.error(f'{values[-1]}: give CONFIG CHECKPOINT of each model')
        setattr(namespace, self.dest, list(zip(values[::2], values[1::2])))
