"""What a training will cost, roughly, and by which assumptions."""
from dataclasses import dataclass
from typing import List, Optional, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..analysis import count
from .plan import Plan

# ours: what such a network sustains, of one A100 in TF32 and of one process
# on a CPU; a multiplication and an addition are two operations here.
GPU_TFLOPS, CPU_TFLOPS = 15., 0.05
STATE_BYTES = 16  # per parameter: itself, its gradient, AdamW's two moments
FILE_BYTES = 12  # per parameter in a checkpoint: the gradient is not in it
OPERATIONS = 6  # per FLOP counted: 2, and backward costs twice forward


@dataclass(frozen=True)
class Estimate:
    """The cost of a training.

    Attributes:
        params: Parameters.
        flops: Of one image forward, attention counted, each multiplication
            with its addition as one.
        images: Images seen by all GPUs.
        memory_bytes: Of a GPU: parameters, their state, and the activations
            of backbone and neck.
        gpu_memory: What the smallest GPU of this machine has, if it has one.
        disk_bytes: All checkpoints that are kept.
        hours: Of training alone.
        tflops: The rate assumed, in 10^12 operations a second and GPU.
    """
    params: int
    flops: int
    images: int
    memory_bytes: int
    gpu_memory: Optional[int]
    disk_bytes: int
    hours: float
    tflops: float

    def lines(self) -> List[str]:
        return [
            f'about {duration(self.hours)} of training: {self.images:,} '
            f'images, {self.flops / 1e9:.0f} G FLOPs forward, three times '
            f'that with backward, at {self.tflops:g} TFLOP/s per device '
            '(assumed, see --tflops); validation not counted',
            f'about {self.memory_bytes / 1e9:.1f} GB of memory per device for '
            f'backbone and neck with AdamW ({self.params / 1e6:.1f} M '
            'parameters, single precision); the heads come on top',
            f'{self.disk_bytes / 1e9:.1f} GB of disk for checkpoints',
        ]


def estimate(plan: Plan, tflops: Optional[float] = None) -> Estimate:
    """Estimates a plan's training, in some 15 seconds for Mask R-CNN.

    Args:
        plan: Its recipe's ``shape`` is that of every image.
        tflops: Assumed rate of a device, in 10^12 operations a second.
    """
    tflops = tflops or (GPU_TFLOPS if plan.gpus else CPU_TFLOPS)
    model = build(plan.cfg)
    params = sum(p.numel() for p in model.parameters())
    flops = count_flops(model, plan.recipe.shape)
    activations = plan.batch * activation_bytes(model, plan.recipe.shape)
    images, checkpoints = schedule(plan)
    devices = range(torch.cuda.device_count())
    return Estimate(
        params=params, flops=flops, images=images,
        memory_bytes=STATE_BYTES * params + activations,
        gpu_memory=min((torch.cuda.get_device_properties(i).total_memory
                        for i in devices), default=None),
        disk_bytes=FILE_BYTES * params * checkpoints,
        hours=OPERATIONS * flops * images / (
            max(1, plan.gpus) * tflops * 1e12) / 3600,
        tflops=tflops)


def duration(hours: float) -> str:
    return (f'{hours:.1f} hours' if hours >= 1
            else f'{max(1, round(60 * hours))} min')


def build(cfg: Config) -> nn.Module:
    """A config's model for one process, with random weights."""
    model = ConfigDict(cfg.model.to_dict())
    model.backbone.init_cfg = None
    init_default_scope(cfg.default_scope)
    return revert_sync_batchnorm(MODELS.build(model))


def count_flops(model: nn.Module, shape: Tuple[int, int]) -> int:
    """FLOPs of one image forward, from counts at a quarter and a half of each
    side, which take a third of the time.

    Heads on proposals cost the same at any size, global attention grows with
    the square of the pixels, all else with the pixels: within 0.1 % of
    :func:`mmiformer.analysis.count` at 800x1344.
    """
    quarter, half = (
        count(model, (shape[0] // part, shape[1] // part)) for part in (4, 2))
    attention = half.flops_with_attention - half.flops
    return 5 * half.flops - 4 * quarter.flops + 16 * attention


def activation_bytes(model: nn.Module, shape: Tuple[int, int]) -> int:
    """What autograd keeps of backbone and neck for one image.

    Measured on two images of a quarter of each side: with fused attention,
    which keeps no maps of tokens by tokens, all of it grows with the pixels.
    """
    parts = [model.backbone, *([model.neck] if model.with_neck else [])]
    network = nn.Sequential(*parts).train()
    images = torch.rand(2, 3, shape[0] // 4, shape[1] // 4)
    return saved_bytes(network, images) * 16 // 2


def saved_bytes(network: nn.Module, inputs: Tensor) -> int:
    """Bytes that autograd keeps of a forward pass, each storage once and
    parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # alive, so its address is its
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        network(inputs)
    return sum(storage.nbytes() for storage in kept.values())


def schedule(plan: Plan) -> Tuple[int, int]:
    """Images that training sees, and checkpoints that it leaves."""
    loop, hook = plan.cfg.train_cfg, plan.cfg.default_hooks.checkpoint
    if 'max_epochs' in loop:
        size = plan.cfg.train_dataloader.dataset.get(
            'indices', plan.recipe.images['train'])
        images, steps = loop.max_epochs * size, loop.max_epochs
    else:
        images, steps = loop.max_iters * plan.total_batch, loop.max_iters
    kept = -(-steps // hook.get('interval', 1))
    most = hook.get('max_keep_ckpts', -1)
    return images, min(kept, most) if most > 0 else kept
