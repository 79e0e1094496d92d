"""Exported by any exporter, the network gives the numbers of the eager one."""
import io

import numpy as np
import pytest
import torch
from conftest import needs_dynamo_export

from mmiformer import IFormer

SIZES = [(64, 96), (97, 31)]  # even and odd
OLD_EXPORTER = {} if needs_dynamo_export.args[0] else dict(dynamo=False)


def build(tiny, mode):
    torch.manual_seed(0)
    window = (4, 2, 2, None) if mode == 'window' else None
    model = IFormer(**tiny, window_size=window).eval()
    for stage in model.stages:  # else its effect is invisible
        stage.pos_embed.data.normal_()
    if mode == 'deployed':
        model.switch_to_deploy()
    return model


def export(model, image, exporter):
    if exporter == 'trace':
        return torch.jit.trace(model, image)
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    file = io.BytesIO()
    if exporter == 'dynamo':
        pytest.importorskip('onnxscript')
        torch.onnx.export(model, (image, ), dynamo=True,
                          verbose=False).save(file)
    else:
        torch.onnx.export(model, (image, ), file, opset_version=18,
                          **OLD_EXPORTER)
    session = onnxruntime.InferenceSession(file.getvalue())
    name = session.get_inputs()[0].name
    return lambda image: [torch.from_numpy(out) for out in session.run(
        None, {name: image.numpy()})]


def marks(exporter, mode, size):
    if exporter != 'dynamo':
        return []
    slow = [] if (size, mode) == (SIZES[1], 'plain') else [pytest.mark.slow]
    return [needs_dynamo_export, *slow]


@pytest.mark.parametrize('exporter, mode, size', [
    pytest.param(exporter, mode, size, marks=marks(exporter, mode, size))
    for exporter in ('trace', 'torchscript', 'dynamo')
    for mode in ('plain', 'deployed', 'window') for size in SIZES])
@pytest.mark.filterwarnings('ignore')  # of the exporters, about themselves
@torch.no_grad()
def test_every_exporter_keeps_the_numbers(exporter, mode, size, tiny):
    model = build(tiny, mode)
    exported = export(model, torch.rand(1, 3, *size), exporter)
    image = torch.randn(1, 3, *size)  # another than it was exported with
    outs, expected = exported(image), model(image)
    assert len(outs) == len(expected) == 4
    for out, wanted in zip(outs, expected):
        error = np.abs(out.numpy() - wanted.numpy()).max()
        assert error < 1e-4 * wanted.std().item()
