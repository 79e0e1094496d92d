"""Writes a model as an ONNX file and proves that it gives the same numbers."""
import json
import textwrap
from copy import deepcopy
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor, nn

from ..checkpoint import written_whole
from ..compat import TORCH
from ..config import find_datasets, type_name
from ..version import __version__
from .exported import change_size, open_session
from .inference import load_model, read_meta

OPSET = 20  # the fastest that most programs read: docs/export.md
MAX_DIFFERENCE = 1e-4  # of a map's standard deviation
AXES = {0: 'batch', 2: 'height', 3: 'width'}
# (batch, height, width) at which a file for any size is proved, besides its
# default size: odd, not square, one image and several.
PROVED_SIZES = ((2, 97, 131), (1, 200, 61))
TRACED_SIZE = (2, 96, 160)  # unlike any size in the network
TASKS = dict(mmpretrain='classification', mmseg='segmentation',
             backbone='backbone')
# The steps of a test pipeline that a file can hold, and their settings.
STEPS = dict(
    Resize=('type', 'scale', 'keep_ratio', 'backend', 'interpolation'),
    ResizeEdge=('type', 'scale', 'edge', 'backend', 'interpolation'),
    ResizeToMultiple=('type', 'size_divisor', 'interpolation'),
    CenterCrop=('type', 'crop_size'))


class ExportedNetwork(nn.Module):
    """A network from pixels to what the file returns.

    Args:
        model: Of mmdet, mmseg or mmpretrain; its ``data_preprocessor`` becomes
            part of the network.
        task: ``'classification'``, ``'segmentation'`` or ``'backbone'``.
    """

    def __init__(self, model: nn.Module, task: str) -> None:
        super().__init__()
        self.model, self.task = model, task
        # Mean, deviation and channel order as a 1x1 convolution. It is
        # measured, since each framework names these settings differently.
        colours = torch.cat([torch.zeros(1, 3), 255 * torch.eye(3)])
        black, *rest = preprocess(
            model, colours.to(torch.uint8).view(4, 3, 1, 1))[..., 0, 0]
        weight = (torch.stack(rest, dim=1) - black.view(3, 1)) / 255
        self.register_buffer('weight', weight.view(3, 3, 1, 1))
        self.register_buffer('bias', black)

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """``(B, 3, H, W)`` uint8 in RGB order to the maps of a backbone, or to
        logits: ``(B, K)``, ``(B, K, H, W)``."""
        x = nn.functional.conv2d(image.float(), self.weight, self.bias)
        return compute(self.model, self.task, x)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """torch's, as two products, which can be exported for any size."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        counts = self.output_size
        for count in counts if isinstance(counts, tuple) else (counts, ) * 2:
            size = x.shape[2]
            cell, pixel = torch.arange(count).view(-1, 1), torch.arange(size)
            inside = ((pixel + 1) * count > cell * size) & (
                pixel * count < (cell + 1) * size)  # (count, size)
            x = inside.to(x) / inside.sum(1, keepdim=True) @ x
            x = x.transpose(2, 3)  # the columns follow the rows
        return x


def make_exportable(model: nn.Module) -> None:
    """Changes layers whose size would be fixed to classes of equal results."""
    for module in model.modules():
        # mmseg's computes its size by int(), which makes a constant of it.
        if type(module).__name__ == 'Upsample':
            module.__class__, module.recompute_scale_factor = nn.Upsample, None
        elif type(module) is nn.AdaptiveAvgPool2d:
            module.__class__ = AdaptiveAvgPool2d


def compute(model: nn.Module, task: str, x: Tensor) -> Tuple[Tensor, ...]:
    """A model on images ``(B, 3, H, W)`` from its ``data_preprocessor``."""
    if task == 'backbone':
        return tuple(model.backbone(x))
    if task == 'classification':
        return (model(x), )
    # Logits of the size of the image, as in testing. One entry serves all
    # images: a list of them would fix their number.
    return (model.encode_decode(x, [dict(img_shape=x.shape[2:])]), )


def preprocess(model: nn.Module, image: Tensor) -> Tensor:
    """What a model's preprocessor makes of ``(B, 3, H, W)`` uint8 in RGB
    order, without the padding that it may add."""
    bgr = list(image.flip(1).unbind())  # as the frameworks load images
    height, width = image.shape[2:]
    inputs = model.data_preprocessor(dict(inputs=bgr))['inputs']
    return inputs[..., :height, :width]


def export(cfg: Config, checkpoint: str, out: Path,
           size: Optional[Sequence[int]] = None, dynamic: bool = False,
           part: str = 'model') -> Dict[str, float]:
    """Writes a model, deployed, as an ONNX file.

    The file is written once onnxruntime computes the numbers of the model from
    it, on random images; the model is run before
    :meth:`IFormer.switch_to_deploy`.

    Args:
        cfg: Of a classifier or a segmentor; for a part, of any model.
        checkpoint: As of :func:`~.inference.load_model`.
        out: The file, ``.onnx``.
        size: ``(height, width)`` of the input; by default
            :func:`default_size`.
        dynamic: Any number of images of any size; then ``size`` is one more
            that is proved.
        part: ``'model'`` or ``'backbone'``.

    Returns:
        The largest difference at each size, in standard deviations of a map.

    Raises:
        ImportError: A package for the export is missing.
        ValueError: ``out`` has another suffix, torch is too old, or the model
            cannot be exported.
        RuntimeError: The exported network gives other numbers.
    """
    if out.suffix != '.onnx':
        raise ValueError(f"{out} ends in {out.suffix!r}: expected '.onnx'")
    if TORCH < (2, 5):
        raise ValueError(f'the export needs torch >= 2.5, found torch '
                         f'{torch.__version__}')
    import onnxruntime  # noqa: F401
    import onnxscript  # noqa: F401
    kind = cfg.get('default_scope') if part == 'model' else part
    if kind not in TASKS:
        raise ValueError(
            f'{kind!r} is not one of {", ".join(TASKS)}: classifiers, '
            'segmentors and, by --part backbone, the backbone of any model '
            'can be exported. For whole detectors there is '
            'https://github.com/VBTI-development/onedl-mmdeploy')
    task = TASKS[kind]
    size = tuple(size or default_size(cfg))
    cfg = deepcopy(cfg)
    cfg.model.backbone.pop('compile', None)  # nothing of it is in a file
    model = load_model(cfg, checkpoint).cpu()
    meta = metadata(cfg, model, task, None if dynamic else size)

    sizes = [(1, *size), *(PROVED_SIZES if dynamic else ())]
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (batch, 3, height, width), dtype=torch.uint8,
                            generator=generator)
              for batch, height, width in sizes]
    with torch.no_grad():
        expected = [[y.numpy() for y in compute(
            model, task, preprocess(model, x))] for x in images]

    if dynamic:
        make_exportable(model)
    network = ExportedNetwork(model, task).eval()
    if hasattr(model.backbone, 'switch_to_deploy'):
        model.backbone.switch_to_deploy()
    batch, height, width = TRACED_SIZE if dynamic else sizes[0]
    example = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    names = ([f'map{i}' for i in model.backbone.out_indices]
             if task == 'backbone' else ['logits'])
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                network, (example, ), dynamo=True, opset_version=OPSET,
                input_names=['image'], output_names=names, verbose=False,
                dynamic_shapes=(AXES, ) if dynamic else None)
    except Exception as error:  # it has many, with pages of advice
        cure = '--size H W' if dynamic else '--part backbone'
        raise ValueError(
            f'torch cannot export {type(model).__name__}: give {cure}. It '
            f'says: {textwrap.shorten(str(error.__cause__ or error), 600)}'
        ) from None
    program.model.metadata_props.update(meta)
    return write(program, out, images, expected)


def write(program: Any, out: Path, images: List[Tensor],
          expected: List[List[np.ndarray]]) -> Dict[str, float]:
    """Writes a program to a file, which is kept if onnxruntime computes the
    expected maps from it; see :func:`export`."""
    differences = {}
    with written_whole(out) as scratch:
        program.save(str(scratch), external_data=False)
        session = open_session(scratch)
        for image, maps in zip(images, expected):
            batch, _, height, width = image.shape
            where = f'{batch}x{height}x{width}'
            try:
                outs = session.run(None, {'image': image.numpy()})
            except Exception as error:  # onnxruntime has many
                raise RuntimeError(f'not proved at {where}: ' +
                                   textwrap.shorten(str(error), 600)) from None
            difference = float(np.max([  # NaN if any value is
                np.abs(x - y).max() / y.std() if x.shape == y.shape else np.inf
                for x, y in zip(outs, maps)]))
            if not difference <= MAX_DIFFERENCE:
                raise RuntimeError(
                    f'not proved at {where}: the file differs from the model '
                    f'by {difference:.1e} of a deviation, and at most '
                    f'{MAX_DIFFERENCE} is allowed')
            differences[where] = difference
    return differences


def metadata(cfg: Config, model: nn.Module, task: str,
             size: Optional[Tuple[int, int]]) -> Dict[str, str]:
    """The texts in a file, for :class:`~.exported.ExportedModel`.

    Args:
        cfg: The model's.
        model: The model.
        task: Of :class:`ExportedNetwork`.
        size: ``(height, width)`` of the input; None: any.

    Raises:
        ValueError: The model would be exported wrong, or fail after minutes.
    """
    windows = {module.window_size for module in model.backbone.modules()
               if type(module).__name__ == 'LowMixer'} - {None}
    if windows and size is None:
        raise ValueError(
            f'window_size={sorted(windows)}: torch traces windows of a free '
            'size for minutes, and then the proof fails: give --size H W '
            'without --dynamic')
    meta = dict(resize=resize_steps(cfg, task, size))
    if task != 'backbone':
        meta.update(read_meta(cfg))
    if task == 'classification':
        from mmpretrain.models.heads import ClsHead
        if not isinstance(model.head, ClsHead):
            raise ValueError(
                f'head={type(model.head).__name__}: only heads whose scores '
                'are a softmax (ClsHead) can be exported')
    if task == 'segmentation':
        if model.align_corners:
            raise ValueError('align_corners=True: label maps are resized '
                             'without it; only --part backbone is possible')
        if model.test_cfg.get('mode') == 'slide':
            raise ValueError("test_cfg.mode='slide': a file sees an image "
                             'whole: set model.test_cfg.mode=whole')
        if model.decode_head.threshold is not None:  # of a single logit
            meta['threshold'] = model.decode_head.threshold
    return dict({key: json.dumps(value) for key, value in meta.items()},
                task=task, config=str(cfg.filename), mmiformer=__version__)


def resize_steps(cfg: Config, task: str, size: Optional[Tuple[int, int]]
                 ) -> List[Dict[str, Any]]:
    """The steps for :func:`~.exported.change_size`: those of testing, if they
    give the size to every image; otherwise one that does. The arguments are
    those of :func:`metadata`.

    Raises:
        ValueError: The test pipeline has a step that no file can hold.
    """
    to_size = [] if size is None else [dict(type='Resize', scale=size[::-1])]
    if task == 'backbone':
        return to_size
    steps = tested_steps(cfg)
    for step in steps:
        if (not set(step) <= set(STEPS.get(step['type'], ()))
                or step.get('edge', 'short') != 'short'):
            raise ValueError(
                f'{step} of the test pipeline: a file can hold {STEPS} and, as '
                "edge, 'short'. Change it there, or give --part backbone")
    results = {change_size(np.zeros((*sides, 3), np.uint8), steps).shape[:2]
               for sides in ((300, 500), (1500, 700))}
    return steps if size is None or results == {size} else to_size


def tested_steps(cfg: Config) -> List[Dict[str, Any]]:
    """What the test pipeline does between loading and packing."""
    dataset = next(find_datasets(cfg.test_dataloader.dataset))
    return [dict(step, type=type_name(step)) for step in dataset.pipeline
            if not type_name(step).startswith(('Load', 'Pack'))]


def default_size(cfg: Config) -> Tuple[int, int]:
    """``(height, width)`` of a model's input if none is asked for: the
    training crop of a segmentor, otherwise what the last resize or crop of the
    test pipeline is set to."""
    preprocessor = cfg.model.get('data_preprocessor') or (
        cfg.get('data_preprocessor') or {})
    if preprocessor.get('size'):
        return tuple(preprocessor['size'])
    sizes = [step.get('crop_size') or step.get('scale')
             for step in tested_steps(cfg)]
    size = [224, *filter(None, sizes)][-1]
    return (size, size) if isinstance(size, int) else tuple(size[::-1])
