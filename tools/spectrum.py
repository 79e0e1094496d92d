"""Draws which frequencies the branches of an iFormer's mixers hold.

    tools/spectrum.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out spectrum.png

As in the paper's figure 4, for any model with an iFormer backbone.
"""
import argparse
from pathlib import Path
from typing import Tuple

import cv2
import torch
from torch import Tensor, nn

from mmiformer.backbone import IFormer
from mmiformer.config import load_config
from mmiformer.front import new_parser, run
from mmiformer.kit.inference import load_model
from mmiformer.paper.pictures import draw_spectra, image_file, picture_file
from mmiformer.paper.spectrum import mixer_spectra


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    parser.add_argument('config')
    parser.add_argument('checkpoint')
    parser.add_argument('--images', nargs='+', required=True, type=image_file)
    parser.add_argument('--out', required=True, type=picture_file,
                        help='file of the picture: .png, .jpg, .svg, ...')
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224),
                        metavar=('H', 'W'), help='that images are resized to; '
                        'default: 224 224')
    parser.add_argument('--blocks', type=int, nargs='+', default=(6, 12, 18),
                        help='counted from 1 over all stages; default: 6 12 '
                        "18, the paper's")
    return parser.parse_args()


def read_resized(path: Path, size: Tuple[int, int], model: nn.Module) -> Tensor:
    """An image file as (1, 3, H, W), normalised as for the model."""
    image = cv2.resize(cv2.imread(str(path)), size[::-1],
                       interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(image).permute(2, 0, 1)
    data = model.data_preprocessor(dict(inputs=[image]))
    if data['inputs'].shape[2:] != size:  # padding has a spectrum, too
        raise ValueError(f'--size {size[0]} {size[1]}: the model pads images '
                         f'to {tuple(data["inputs"].shape[2:])}: give that')
    return data['inputs']


def main(args: argparse.Namespace) -> None:
    model = load_model(load_config(args.config), args.checkpoint)
    if not isinstance(model.backbone, IFormer):
        raise ValueError(f'{args.config}: the backbone is '
                         f'{type(model.backbone).__name__}, not IFormer')
    spectra = mixer_spectra(
        model.backbone, [read_resized(path, tuple(args.size), model)
                         for path in args.images], args.blocks)
    draw_spectra(args.out, {name: spectrum.cpu() for name, spectrum in
                            spectra.items()}, args.config)
    print(f'written: {args.out}')


if __name__ == '__main__':
    run(main, parse_args())
