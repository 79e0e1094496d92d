"""Draws which frequencies the maps inside networks hold.

    tools/spectrum.py configs/imagenet/iformer_s_300e.py \\
        mmiformer://iformer_small --images a.jpg b.jpg --out spectrum.png
    tools/spectrum.py CONFIG CHECKPOINT VIT_CONFIG VIT_CHECKPOINT \\
        --images a.jpg --out beside_vit.png \\
        --layers stages.2.blocks.5:NHWC layers.11:tokens

By default it shows the branches of layers 6, 12 and 18 of an iFormer; others
are named as in `backbone.named_modules()`, with the layout of what they emit.
Each model shows those of the named layers that it has.
"""
import argparse
import sys
from pathlib import Path
from typing import Dict

import cv2
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from mmiformer.analysis import pictures
from mmiformer.analysis.spectrum import LAYOUTS, layer_spectra, mixer_layers
from mmiformer.backbone import IFormer
from mmiformer.backbone.checkpoint import read_checkpoint
from mmiformer.engine.launch import load_config

PAPERS_LAYERS = (6, 12, 18)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('models', nargs='+', metavar='CONFIG CHECKPOINT',
                        help='of any model with a backbone, and its weights')
    parser.add_argument('--images', nargs='+', required=True, type=Path)
    parser.add_argument('--size', type=int, nargs=2, default=(224, 224),
                        metavar=('H', 'W'), help='that images are resized to; '
                        'default: 224 224')
    parser.add_argument('--layers', nargs='+', metavar='NAME:LAYOUT',
                        help=f'LAYOUT: {", ".join(LAYOUTS)}')
    parser.add_argument('--out', type=Path, required=True, help='PNG file')
    args = parser.parse_args()
    if len(args.models) % 2:
        parser.error('give a checkpoint after each config')
    for path in args.images:
        if cv2.haveImageReader(str(path)) is False:
            parser.error(f'--images {path}: there is no image')
    for layer in args.layers or ():
        if layer.rpartition(':')[2] not in LAYOUTS or ':' not in layer:
            parser.error(f'--layers {layer}: give NAME:LAYOUT, with a layout '
                         f'of {", ".join(LAYOUTS)}')
    args.layers = dict(layer.rsplit(':', 1) for layer in args.layers or ())
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


def read_backbone(cfg: Config, checkpoint: str) -> torch.nn.Module:
    """The backbone of a model, with its weights, every one of them."""
    init_default_scope(cfg.default_scope)
    backbone = MODELS.build(cfg.model.backbone)
    state = read_checkpoint(checkpoint)
    state = state.get('state_dict', state)
    if not isinstance(backbone, IFormer):  # ours finds its own part
        state = {name[len('backbone.'):]: value for name, value in
                 state.items() if name.startswith('backbone.')}
    backbone.load_state_dict(state)
    return backbone


def choose_layers(backbone: torch.nn.Module,
                  named: Dict[str, str]) -> Dict[str, str]:
    if not named and isinstance(backbone, IFormer):
        return mixer_layers(backbone, PAPERS_LAYERS)
    names = [name for name, _ in backbone.named_modules() if name]
    layers = {name: layout for name, layout in named.items() if name in names}
    if not layers:
        raise ValueError(
            f'none of the --layers {list(named)} is in the '
            f'{type(backbone).__name__}: choose from {names}')
    return layers


def find_spectra(args: argparse.Namespace) -> Dict[str, Tensor]:
    """By the layer's name; with several models, the config's before it."""
    spectra: Dict[str, Tensor] = {}
    unused = set(args.layers)
    for path, checkpoint in zip(args.models[::2], args.models[1::2]):
        cfg = load_config(path)
        backbone = read_backbone(cfg, checkpoint)
        layers = choose_layers(backbone, args.layers)
        unused -= set(layers)
        images = [read_image(image, args.size, cfg.model.get(
            'data_preprocessor', cfg.get('data_preprocessor')))
            for image in args.images]
        before = f'{Path(path).stem}: ' if len(args.models) > 2 else ''
        spectra.update(
            (before + name, spectrum) for name, spectrum in
            layer_spectra(backbone, images, layers).items())
    if unused:
        raise ValueError(f'no model has the --layers {sorted(unused)}')
    return spectra


def main() -> None:
    args = parse_args()
    try:
        spectra = find_spectra(args)
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f'error: {error}')
    pictures.draw_spectra(args.out, spectra, ', '.join(args.models[::2]))
    print(f'written: {args.out}')


if __name__ == '__main__':
    main()
