"""Writes a model as an ONNX file and proves that it gives the same numbers."""
import json
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import Tensor, nn

from ..checkpoint import written_whole
from ..compat import TORCH
from ..config import type_name
from ..version import __version__
from .exported import open_session
from .inference import load_model, read_meta
from .size_rule import default_size, resize_steps

OPSET = 20  # the fastest that most programs read: docs/export.md
BAR = 1e-4  # of a map's standard deviation
SUFFIX = '.onnx'
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
TASKS = dict(mmpretrain='classification', mmseg='segmentation',
             mmdet='detection')
AXES = {0: 'batch', 2: 'height', 3: 'width'}
# (batch, height, width) at which a file for any size is proved, besides its
# default size: odd, not square, one image and several.
PROVED_SIZES = ((2, 97, 131), (1, 200, 61))
TRACED_SIZE = (2, 96, 160)  # equal to no side that the network knows
DETECTORS = (
    'torch.onnx cannot trace the selection of boxes, whose number depends on '
    'the image. --part backbone exports its backbone; for whole detectors '
    'there is the maintained fork of mmdeploy, '
    'https://github.com/VBTI-development/onedl-mmdeploy')


class NotProvedError(RuntimeError):
    """The exported network gives other numbers."""


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
        weight, bias = pixel_transform(model.data_preprocessor)
        self.register_buffer('weight', weight)
        self.register_buffer('bias', bias)

    def forward(self, image: Tensor) -> Tuple[Tensor, ...]:
        """``(B, 3, H, W)`` uint8 in RGB order to the maps of a backbone, or to
        logits: ``(B, K)``, ``(B, K, H, W)``."""
        x = nn.functional.conv2d(image.float(), self.weight, self.bias)
        return run(self.model, self.task, x)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """torch's, as two products, which can be exported for any size."""

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        rows, columns = self.output_size
        return (self.weights(x, rows, 2) @ x @
                self.weights(x, columns, 3).T)  # (B, C, rows, columns)

    @staticmethod
    def weights(x: Tensor, count: int, axis: int) -> Tensor:
        """``(count, size)``: what each position gives to each average."""
        size = x.shape[axis]
        cells = torch.arange(count).view(-1, 1)
        positions = torch.arange(size)
        first = cells * size // count
        last = ((cells + 1) * size + count - 1) // count
        inside = ((positions >= first) & (positions < last)).to(x)
        return inside / inside.sum(1, keepdim=True)


def make_exportable(model: nn.Module) -> None:
    """Replaces layers whose size would be fixed, by ones of equal results."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            # mmseg's computes its size by int(), which makes a constant of it.
            if type(child).__name__ == 'Upsample':
                setattr(parent, name, nn.Upsample(
                    child.size, child.scale_factor, child.mode,
                    child.align_corners))
            elif type(child) is nn.AdaptiveAvgPool2d:
                size = child.output_size
                setattr(parent, name, AdaptiveAvgPool2d(
                    size if isinstance(size, tuple) else (size, size)))


def run(model: nn.Module, task: str, x: Tensor) -> Tuple[Tensor, ...]:
    """A model on images ``(B, 3, H, W)`` from its ``data_preprocessor``."""
    if task == 'backbone':
        return tuple(model.backbone(x))
    if task == 'classification':
        return (model(x), )
    # Logits of the size of the image, as in testing. One entry serves all
    # images: a list of them would fix their number.
    return (model.encode_decode(x, [dict(img_shape=x.shape[2:])]), )


def pixel_transform(preprocessor: nn.Module) -> Tuple[Tensor, Tensor]:
    """Mean, deviation and channel order of a preprocessor as a 1x1
    convolution of RGB images: weight ``(3, 3, 1, 1)`` and bias ``(3, )``.

    Measured, since each framework names these settings differently.
    """
    colours = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    black, *rest = (preprocess(
        preprocessor, colour.to(torch.uint8).view(1, 3, 1, 1))[0, :, 0, 0]
        for colour in colours)
    weight = torch.stack([(colour - black) / 255 for colour in rest], dim=1)
    return weight.view(3, 3, 1, 1), black


def preprocess(preprocessor: nn.Module, image: Tensor) -> Tensor:
    """What a preprocessor makes of ``(B, 3, H, W)`` uint8 in RGB order, without
    the padding that it may add."""
    bgr = list(image.flip(1).unbind())  # as the frameworks load images
    height, width = image.shape[2:]
    return preprocessor(dict(inputs=bgr))['inputs'][..., :height, :width]


def check_environment() -> None:
    """Refuses to begin where the export would fail in the end.

    Raises:
        ValueError: torch is too old.
        ImportError: A package for the export is missing.
    """
    if TORCH < (2, 5):
        raise ValueError(f'the export needs torch >= 2.5, found torch '
                         f'{torch.__version__}')
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ImportError(f'{", ".join(missing)} not installed: in the '
                          'checkout, pip install ".[export]"')


def export(cfg: Config, checkpoint: str, out: Path,
           size: Optional[Sequence[int]] = None, dynamic: bool = False,
           part: str = 'model', opset: Optional[int] = None,
           report: Callable[[str], None] = lambda line: None) -> float:
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
        opset: Version of ONNX's operators; by default :data:`OPSET`.
        report: Gets a line for each step.

    Returns:
        The largest difference, in standard deviations of a map.

    Raises:
        ImportError: A package for the export is missing.
        ValueError: ``out`` has another suffix, torch is too old, or the model
            cannot be exported.
        NotProvedError: The exported network gives other numbers.
    """
    if out.suffix != SUFFIX:
        raise ValueError(f'{out} ends in {out.suffix!r}: expected {SUFFIX!r}')
    check_environment()
    task = find_task(cfg, part)
    size = tuple(size or default_size(cfg))
    meta = metadata(cfg, task, None if dynamic else size)
    cfg = cfg.copy()
    cfg.model.backbone.pop('compile', None)  # nothing of it is in a file
    model = load_model(cfg, checkpoint).cpu()
    check_model(model, task, meta, dynamic)

    sizes = [(1, *size), *(PROVED_SIZES if dynamic else [(1, *size)])]
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (batch, 3, height, width), dtype=torch.uint8,
                            generator=generator)
              for batch, height, width in sizes]
    with torch.no_grad():
        expected = [run(model, task, preprocess(model.data_preprocessor, x))
                    for x in images]
    names, count = meta.get('classes', ''), expected[0][0].shape[1]
    if names and count not in (len(names), 1):
        raise ValueError(f'the model has {count} classes, the test data set '
                         f'{len(names)}')

    if dynamic:
        make_exportable(model)
    network = ExportedNetwork(model, task).eval()
    if hasattr(model.backbone, 'switch_to_deploy'):
        model.backbone.switch_to_deploy()
    batch, height, width = TRACED_SIZE if dynamic else sizes[0]
    example = torch.zeros(batch, 3, height, width, dtype=torch.uint8)
    names = ([f'map{i}' for i in model.backbone.out_indices]
             if task == 'backbone' else ['logits'])
    report('tracing')
    try:
        with torch.no_grad():
            program = torch.onnx.export(
                network, (example, ), dynamo=True,
                opset_version=opset or OPSET, input_names=['image'],
                output_names=names, verbose=False,
                dynamic_shapes=(AXES, ) if dynamic else None)
    except Exception as error:  # it has many, with pages of advice
        raise ValueError(
            f'torch cannot export {type(model).__name__}' +
            (' for any size: give --size H W. It says: ' if dynamic else
             ': --part backbone exports its backbone. It says: ') +
            textwrap.shorten(str(error.__cause__ or error), 600)) from None
    texts = {key: value if isinstance(value, str) else json.dumps(value)
             for key, value in meta.items()}
    return write(program, texts, out, images, expected, report)


def write(program: Any, texts: Dict[str, str], out: Path,
          images: List[Tensor], expected: List[Tuple[Tensor, ...]],
          report: Callable[[str], None]) -> float:
    """Writes a program and its metadata to a file that is kept if it passes
    :func:`prove`."""
    program.model.metadata_props.update(texts)
    with written_whole(out) as scratch:
        program.save(str(scratch), external_data=False)
        return prove(str(scratch), images, expected, report)


def prove(path: str, images: List[Tensor],
          expected: List[Tuple[Tensor, ...]],
          report: Callable[[str], None]) -> float:
    """Compares a file with the model; see :func:`export`."""
    session = open_session(path)
    worst = 0.
    for image, maps in zip(images, expected):
        batch, _, height, width = image.shape
        where = f'{batch}x{height}x{width}'
        try:
            outs = session.run(None, {'image': image.numpy()})
        except Exception as error:  # onnxruntime has many
            raise NotProvedError(f'at {where}: ' + textwrap.shorten(
                str(error), 600)) from None
        shapes = [out.shape for out in outs]
        if shapes != [x.shape for x in maps]:
            raise NotProvedError(
                f'at {where} the file gives maps of shapes {shapes}, the model '
                f'{[tuple(x.shape) for x in maps]}')
        difference = largest_difference(outs, maps)
        if not difference <= BAR:  # NaN too
            raise NotProvedError(
                f'at {where} the file differs from the model by '
                f'{difference:.1e} of a deviation: the bar is {BAR}')
        report(f'proved at {where}: differs by {difference:.1e} of a '
               'deviation')
        worst = max(worst, difference)
    return worst


def largest_difference(outs: Sequence[np.ndarray], maps: Sequence[Tensor]
                       ) -> float:
    """In standard deviations of a map; NaN if any value is."""
    return float(np.max([np.abs(out - x.numpy()).max() / x.numpy().std()
                         for out, x in zip(outs, maps)]))


def find_task(cfg: Config, part: str) -> str:
    """What the file does.

    Raises:
        ValueError: It is a detector, or a model of another framework.
    """
    if part not in ('model', 'backbone'):
        raise ValueError(f"part={part!r}: expected 'model' or 'backbone'")
    channels = cfg.model.backbone.get('in_channels', 3)
    if channels != 3:
        raise ValueError(f'in_channels={channels}: only networks for images '
                         'of 3 channels can be exported')
    if part == 'backbone':
        return part
    scope = cfg.get('default_scope')
    if scope not in TASKS:
        raise ValueError(f'default_scope={scope!r}: expected one of '
                         f'{", ".join(TASKS)}, or --part backbone')
    if scope == 'mmdet':
        raise ValueError(
            f'{type_name(cfg.model)} cannot be exported whole: {DETECTORS}')
    return TASKS[scope]


def check_model(model: nn.Module, task: str, meta: Dict[str, Any],
                dynamic: bool) -> None:
    """Refuses what would be exported wrong, or only after minutes.

    Raises:
        ValueError: With the cure.
    """
    windows = {module.window_size for module in model.backbone.modules()
               if type(module).__name__ == 'LowMixer'} - {None}
    if dynamic and windows:  # which torch traces for more than 10 minutes
        raise ValueError(
            f'window_size={sorted(windows)}: windows need a fixed size, give '
            '--size H W without --dynamic')
    if task == 'segmentation':
        if model.align_corners:
            raise ValueError('align_corners=True: label maps are resized '
                             'without it; only --part backbone is possible')
        if model.test_cfg.get('mode') == 'slide':
            print_log(
                "test_cfg.mode='slide': the file sees an image whole, not in "
                'windows', logger='current', level=30)
        if model.decode_head.threshold is not None:  # of a single logit
            meta['threshold'] = model.decode_head.threshold
    if task == 'classification' and not any(
            base.__name__ == 'ClsHead' for base in type(model.head).__mro__):
        raise ValueError(f'head={type(model.head).__name__}: only heads whose '
                         'scores are a softmax (ClsHead) can be exported')


def metadata(cfg: Config, task: str, size: Optional[Tuple[int, int]]
             ) -> Dict[str, Any]:
    """What the file says of itself.

    Args:
        cfg: The model's.
        task: Of :class:`ExportedNetwork`.
        size: Of the input; None: any.
    """
    meta: Dict[str, Any] = dict(
        mmiformer=__version__, task=task, config=str(cfg.filename),
        image='uint8, RGB, 0 to 255: mean, deviation and channel order of the '
        'model are inside', resize=resize_steps(cfg, task, size))
    if task != 'backbone':
        meta.update(read_meta(cfg))
    return meta
