"""Draws which frequencies the maps inside networks hold.

    tools/spectrum.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out spectrum.png
    tools/spectrum.py CONFIG CHECKPOINT VIT_CONFIG VIT_CHECKPOINT \\
        --images a.jpg --out beside_vit.png \\
        --layers backbone.stages.2.blocks.5:NHWC backbone.layers.11:tokens

By default it shows the branches of layers 6, 12 and 18 of an iFormer. Others
are named as in `model.named_modules()`, with the layout of their output; each
model shows those of the named layers that it has.
"""
import argparse
import re
from pathlib import Path
from typing import Dict, Tuple

import cv2
import torch
from torch import Tensor, nn

from mmiformer.backbone import IFormer
from mmiformer.config import load_config
from mmiformer.front import new_parser, run
from mmiformer.kit.inference import load_model
from mmiformer.paper import look, pictures
from mmiformer.paper.layer_maps import LAYOUTS
from mmiformer.paper.spectrum import layer_spectra, mixer_layers

PAPERS_LAYERS = (6, 12, 18)


def parse_args() -> argparse.Namespace:
    parser = new_parser(__doc__)
    look.add_model_arguments(parser)
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224),
                        metavar=('H', 'W'), help='that images are resized to; '
                        'default: 224 224')
    parser.add_argument('--layers', nargs='+', metavar='NAME:LAYOUT',
                        type=look.layer, default=[],
                        help=f'LAYOUT: {", ".join(LAYOUTS)}')
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


def choose_layers(model: nn.Module, named: Dict[str, str]) -> Dict[str, str]:
    if not named and isinstance(model.backbone, IFormer):
        return mixer_layers(model, PAPERS_LAYERS)
    names = [name for name, _ in model.named_modules() if name]
    layers = {name: layout for name, layout in named.items() if name in names}
    if not layers:
        raise ValueError(
            f'none of the --layers {list(named)} is in the '
            f'{type(model).__name__}: choose from {names}')
    return layers


def find_spectra(args: argparse.Namespace) -> Dict[str, Tensor]:
    """By the layer's name; with several models, the config's before it."""
    spectra: Dict[str, Tensor] = {}
    named = dict(args.layers)
    unused = set(named)
    for path, checkpoint in args.models:
        model = load_model(load_config(path), checkpoint)
        layers = choose_layers(model, named)
        unused -= set(layers)
        images = [read_resized(image, tuple(args.size), model)
                  for image in args.images]
        before = f'{Path(path).stem}: ' if len(args.models) > 1 else ''
        spectra.update(
            (before + re.sub('^backbone[.]', '', name), spectrum.cpu())
            for name, spectrum in
            layer_spectra(model, images, layers).items())
    if unused:
        raise ValueError(f'no model has the --layers {sorted(unused)}')
    return spectra


def main(args: argparse.Namespace) -> None:
    pictures.draw_spectra(args.out, find_spectra(args), ', '.join(
        path for path, _ in args.models))
    print(f'written: {args.out}')


if __name__ == '__main__':
    run(main, parse_args())
