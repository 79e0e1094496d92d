"""Says what helps where memory runs out."""
import re
from contextlib import contextmanager
from typing import Any, Iterator, List, Optional

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

# What torch raises as a plain RuntimeError: the first for want of memory of
# the machine, the others of libraries on the GPU.
MESSAGES = re.compile(
    r"can't allocate memory|not enough memory|CUDA error: out of memory|"
    r'CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED')


class OutOfMemory(RuntimeError):
    """Memory has run out; the message says which settings need less."""


class _LastBatch(Hook):
    """Remembers what the run was at."""

    split, size = 'train', ''

    def _before_iter(self, runner, batch_idx, data_batch=None,
                     mode: str = 'train') -> None:
        self.split, self.size = mode, size_of(data_batch)


@contextmanager
def explained(runner: Runner) -> Iterator[None]:
    """Around training or testing.

    Raises:
        OutOfMemory: In place of what torch or Python raise.
    """
    last = _LastBatch()
    runner.register_hook(last)
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        lines = '\n  '.join([
            f'{asked(error)}; {last.size or "before the first batch"}',
            'what helps, by --cfg-options, what costs least first:',
            *knobs(runner.cfg, last.split, on_gpu(error))])
        raise OutOfMemory(f'out of memory: {lines}') from error


def is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
        MESSAGES.search(str(error)) is not None)


def on_gpu(error: Exception) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or (
        re.search('CUDA|CUBLAS|CUDNN', str(error)) is not None)


def asked(error: Exception) -> str:
    """The sentences of torch's message that say what was asked, and what
    there was."""
    lines = str(error).splitlines() or ['Python found no memory']
    return ' '.join(re.split(r'(?<=[.:]) (?=[A-Z])', lines[0])[:3]).strip('. ')


def size_of(batch: Any) -> str:
    """Of a batch as a data loader gives it, for test-time augmentation too."""
    shapes = [*_shapes(batch.get('inputs') if isinstance(batch, dict)
                       else None)]
    if not shapes:
        return 'a batch of images'
    height, width = map(max, zip(*shapes))
    return f'{len(shapes)} images of up to {height}x{width} (HxW) at once'


def _shapes(inputs: Any) -> Iterator[tuple]:
    if isinstance(inputs, (list, tuple)):
        for part in inputs:
            yield from _shapes(part)
    elif isinstance(inputs, torch.Tensor):
        images = inputs if inputs.dim() == 4 else [inputs]
        yield from (tuple(image.shape[-2:]) for image in images)


def knobs(cfg: Config, split: str, gpu: bool) -> List[str]:
    """The settings that need less memory and are not yet so.

    Args:
        cfg: Of the run.
        split: ``train``, ``val`` or ``test``: where it ran out.
        gpu: Of the GPU, or of the machine.
    """
    lines = []
    batch = _batch_size(cfg, split)
    fewer = max(1, (batch or 1) // 2)
    loader = f'{split}_dataloader'
    workers = (cfg.get(loader) or {}).get('num_workers', 0)
    if not gpu and workers > 1:
        lines.append(f'{loader}.num_workers={workers // 2}  (now {workers}; '
                     'slower loading)')
    if split != 'train':
        if batch != fewer:
            lines.append(f'{loader}.batch_size={fewer}  (now {batch}; the '
                         'same result)')
        if gpu and not (cfg.get(f'{split}_cfg') or {}).get('fp16'):
            lines.append(f'{split}_cfg.fp16=True  (half precision)')
        return lines or ['smaller images, in the pipeline of the data set']
    backbone = cfg.model.get('backbone') or {}
    ours = str(backbone.get('type', '')).endswith('IFormer')
    with_cp = backbone.get('with_cp', False)
    if ours and not (all(with_cp) if isinstance(with_cp, (list, tuple))
                     else with_cp):
        lines.append('model.backbone.with_cp=True  (the same numbers, but '
                     'part of the forward pass twice)')
    optim = cfg.get('optim_wrapper') or {}
    if gpu and optim.get('type', 'OptimWrapper') == 'OptimWrapper':
        lines.append('optim_wrapper.type=AmpOptimWrapper '
                     "optim_wrapper.dtype=bfloat16  (bf16's rounding)")
    if batch is not None and batch != fewer:
        accumulated = optim.get('accumulative_counts', 1) * (batch // fewer)
        lines.append(
            f'train_dataloader.batch_size={fewer} '
            f'optim_wrapper.accumulative_counts={accumulated}  (now {batch}; '
            'about as many images a step, but BatchNorm sees fewer, and runs '
            'by iterations need more of them)')
    if ours and not any(_as_tuple(backbone.get('window_size'))):
        lines.append('model.backbone.window_size="(28,14,14,None)"  (another '
                     "network, not the paper's)")
    return lines or ['smaller images, in the pipeline of the data set']


def _batch_size(cfg: Config, split: str) -> Optional[int]:
    loader = cfg.get(f'{split}_dataloader') or {}
    return loader.get('batch_size') or (
        loader.get('batch_sampler') or {}).get('batch_size')


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, (list, tuple)) else (value, )
