"""Whole iterations of a config: its data, its model, its optimizer."""
from itertools import islice
from typing import Dict, Iterator, Optional

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from ...backbone.hub import read_checkpoint
from .machine import synchroniser
from .parts import Stopwatch, Times, median_times, test_times, train_times
from .run import Case
from .tasks import make_samples

WARM_UPS = 2


def time_iterations(cfg: Config, device: torch.device, repeats: int,
                    case: Optional[Case] = None,
                    checkpoint: Optional[str] = None) -> Dict[str, Times]:
    """Where the time of training and of testing goes.

    Args:
        cfg: A config of mmdet or mmseg.
        device: CPU or GPU.
        repeats: Iterations of each, after two that do not count.
        case: Size and number of made-up images, which are there at once. By
            default the config's own data, loaded by this process itself: with
            workers that time passes beside the rest.
        checkpoint: Trained weights; without them a detector finds next to
            nothing to post-process.

    Returns:
        The median seconds of each part, see :data:`~.parts.PARTS`, by
        ``training`` and ``testing``.
    """
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model)).to(device)
    if checkpoint is None:
        model.init_weights()
    else:
        state = read_checkpoint(checkpoint)
        model.load_state_dict(state.get('state_dict', state))
    stopwatch = Stopwatch(synchroniser(device))
    model.eval()
    testing = test_times(model, batches(model, cfg, 'test', repeats, case),
                         stopwatch)
    model.train()
    training = train_times(
        model, batches(model, cfg, 'train', repeats, case),
        build_optim_wrapper(model, cfg.optim_wrapper), stopwatch)
    return dict(training=median_times(training[WARM_UPS:]),
                testing=median_times(testing[WARM_UPS:]))


def batches(model: nn.Module, cfg: Config, split: str, repeats: int,
            case: Optional[Case]) -> Iterator:
    """Batches as a data loader gives them, one for each iteration."""
    if case is None:
        loader = dict(cfg[f'{split}_dataloader'], num_workers=0,
                      persistent_workers=False)
        return _endless(Runner.build_dataloader(loader, seed=0),
                        WARM_UPS + repeats)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (case.batch, 3, case.height, case.width),
                           dtype=torch.uint8, generator=generator)
    return iter([dict(inputs=list(images),
                      data_samples=make_samples(model, images))
                 for _ in range(WARM_UPS + repeats)])


def _endless(loader, number: int) -> Iterator:
    """That many batches, in as many rounds as it takes."""
    while number:
        for data in islice(loader, number):
            number -= 1
            yield data
