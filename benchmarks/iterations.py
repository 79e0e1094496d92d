"""Times a recipe's training iterations on random images, without its data.

    benchmarks/iterations.py configs/mask_rcnn/iformer_s_1x.py \\
        configs/mask_rcnn/iformer_b_1x.py --size 800x1344@2 --device cuda
    benchmarks/iterations.py configs/fpn_ade20k/iformer_s_80k.py --size 512@4

An iteration is forward, losses, backward and the recipe's optimizer, on the
batch of one GPU. All configs and dtypes are sampled in interleaved rounds.
Memory is the maximum that an iteration allocates above weights and optimizer
states, in PyTorch's own allocator.
"""
import argparse
from typing import Dict, List

import torch
from measure import (
    DTYPE_HELP,
    DTYPES,
    Step,
    describe_machine,
    parse_size,
    peak_memory,
    quartiles,
    sample_rounds,
)
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from tables import line, ms

from mmiformer.config import load_config

OBJECTS = 8  # of an image; COCO's training images have 7 on average
TITLES = ('config', 'dtype', 'ms', 'quartiles', 'memory MiB')


def make_batch(model: BaseModel, size: str) -> dict:
    """Random images and truth, as the model's preprocessor returns them."""
    height, width, batch = parse_size(size)
    torch.manual_seed(0)
    if hasattr(model, 'decode_head'):
        from mmseg.structures import SegDataSample
        shape = (height, width)
        model.data_preprocessor.size = shape  # pads to the recipe's crop
        classes = model.decode_head.num_classes
        data: Dict[str, List] = dict(inputs=[], data_samples=[])
        for _ in range(batch):
            data['inputs'].append(
                torch.randint(256, (3, *shape), dtype=torch.uint8))
            data['data_samples'].append(SegDataSample(
                gt_sem_seg=PixelData(data=torch.randint(classes, (1, *shape))),
                metainfo=dict(img_shape=shape, ori_shape=shape)))
    else:
        from mmdet.testing import demo_mm_inputs
        data = demo_mm_inputs(
            batch, (3, height, width), num_items=[OBJECTS] * batch,
            num_classes=model.roi_head.bbox_head.num_classes, with_mask=True)
    return model.data_preprocessor(data, training=True)


def make_step(config: str, dtype: str, size: str, device: torch.device
              ) -> Step:
    """One iteration of a recipe; a config's pre-trained weights are not
    loaded."""
    cfg = load_config(config)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model).to(device).train()
    cfg.optim_wrapper.type = 'OptimWrapper'
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    data = make_batch(model, size)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16,
                            enabled=dtype == 'bf16'):
            losses = model(**data, mode='loss')
        model.parse_losses(losses)[0].backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', metavar='CONFIG')
    parser.add_argument('--size', required=True, metavar='H[xW][@BATCH]',
                        help='of a padded batch')
    parser.add_argument('--dtypes', nargs='+', default=list(DTYPES),
                        choices=list(DTYPES), help=DTYPE_HELP)
    parser.add_argument('--rounds', type=int, default=10)
    parser.add_argument('--device', type=torch.device, default='cpu')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    steps = {(config, dtype): make_step(config, dtype, args.size, args.device)
             for config in args.configs for dtype in args.dtypes}
    memory = {}
    for key, step in steps.items():
        step()  # creates the optimizer's states, which the memory excludes
        memory[key] = peak_memory(step, args.device)
    samples = sample_rounds(steps, args.rounds)
    print('\n'.join(f'- {key}: {value}' for key, value in
                    describe_machine(args.device).items()))
    print(f'\n{args.size}:\n')
    print(line(TITLES))
    print(line(['---'] * 2 + ['---:'] * 3))
    for (config, dtype), seconds in samples.items():
        low, median, high = map(ms, quartiles(seconds))
        print(line([config, dtype, median, f'{low} to {high}',
                    f'{memory[config, dtype] / 2 ** 20:.0f}']))


if __name__ == '__main__':
    main()
