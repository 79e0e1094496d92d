"""Draws which frequencies the maps inside a network hold.

    tools/spectrum.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out spectrum.png
    tools/spectrum.py CONFIG CHECKPOINT --images a.jpg --out vit.png \\
        --layers layers.2:tokens layers.11:tokens

By default it shows the branches of layers 6, 12 and 18 of an iFormer; others
are named as in `backbone.named_modules()`, with the layout of what they emit.
"""
import argparse
import sys
from pathlib import Path

import cv2
import torch
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmiformer.analysis import pictures
from mmiformer.analysis.spectrum import LAYOUTS, layer_spectra, mixer_layers
from mmiformer.backbone import IFormer
from mmiformer.backbone.checkpoint import read_checkpoint
from mmiformer.engine.launch import load_config


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='of any model with a backbone')
    parser.add_argument('checkpoint', help='trained weights of the model')
    parser.add_argument('--images', nargs='+', required=True, type=Path)
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224),
                        metavar=('H', 'W'), help='that images are resized to; '
                        'default: 224 224')
    parser.add_argument('--layers', nargs='+', metavar='NAME:LAYOUT',
                        help=f'LAYOUT: {", ".join(LAYOUTS)}')
    parser.add_argument('--out', type=Path, required=True, help='PNG file')
    args = parser.parse_args()
    for path in args.images:
        if cv2.haveImageReader(str(path)) is False:
            parser.error(f'--images {path}: there is no image')
    for layer in args.layers or ():
        if layer.rpartition(':')[2] not in LAYOUTS or ':' not in layer:
            parser.error(f'--layers {layer}: give NAME:LAYOUT, with a layout '
                         f'of {", ".join(LAYOUTS)}')
    return args


def read_image(path: Path, size, preprocessor) -> Tensor:
    """(1, 3, H, W), normalised as the model's own images are."""
    image = cv2.resize(cv2.imread(str(path)), size[::-1],
                       interpolation=cv2.INTER_AREA)
    image = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    if preprocessor.get('to_rgb') or preprocessor.get('bgr_to_rgb'):
        image = image.flip(1)
    mean, std = (torch.tensor(preprocessor[key]).view(1, 3, 1, 1)
                 for key in ('mean', 'std'))
    return (image - mean) / std


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config)
    init_default_scope(cfg.default_scope)
    backbone = MODELS.build(cfg.model.backbone)
    if args.layers:
        layers = dict(layer.rsplit(':', 1) for layer in args.layers)
    elif isinstance(backbone, IFormer):
        layers = mixer_layers((6, 12, 18))
    else:
        sys.exit('error: name the --layers of a backbone that is not ours')
    try:
        state = read_checkpoint(args.checkpoint)
        state = state.get('state_dict', state)
        if not isinstance(backbone, IFormer):  # ours finds its own part
            state = {name[len('backbone.'):]: value for name, value in
                     state.items() if name.startswith('backbone.')}
        backbone.load_state_dict(state)
        spectra = layer_spectra(backbone, [
            read_image(path, args.size, cfg.model.get(
                'data_preprocessor', cfg.get('data_preprocessor')))
            for path in args.images], layers)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    pictures.draw_spectra(args.out, spectra, args.config)
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
