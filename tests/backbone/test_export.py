"""Exported by any exporter, the network gives the numbers of the eager one."""
import io

import numpy as np
import onnxruntime
import pytest
import torch

from mmiformer import IFormer

SIZES = [(64, 96), (97, 31)]  # even and odd


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
    file = io.BytesIO()
    if exporter == 'dynamo':
        torch.onnx.export(model, (image, ), dynamo=True,
                          verbose=False).save(file)
    else:
        torch.onnx.export(model, (image, ), file, dynamo=False,
                          opset_version=18)
    session = onnxruntime.InferenceSession(file.getvalue())
    name = session.get_inputs()[0].name
    return lambda image: [torch.from_numpy(out) for out in session.run(
        None, {name: image.numpy()})]


@pytest.mark.parametrize('exporter, mode, size', [
    pytest.param(exporter, mode, size, marks=pytest.mark.slow if (
        exporter == 'dynamo' and (size, mode) != (SIZES[1], 'plain')) else ())
    for exporter in ('trace', 'torchscript', 'dynamo')
    for mode in ('plain', 'deployed', 'window') for size in SIZES])
@pytest.mark.filterwarnings('ignore')  # of the exporters, about themselves
@torch.no_grad()
def test_every_exporter_keeps_the_numbers(exporter, mode, size, tiny):
    model = build(tiny, mode)
    exported = export(model, torch.rand(1, 3, *size), exporter)
    image = torch.randn(1, 3, *size)  # another than it was exported with
    for out, wanted in zip(exported(image), model(image), strict=True):
        error = np.abs(out.numpy() - wanted.numpy()).max()
        assert error < 1e-4 * wanted.std().item()
