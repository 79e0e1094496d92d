"""Nothing is written but what gives the numbers of the model."""
import os
from pathlib import Path

import pytest
import torch
from conftest import needs_dynamo_export

from mmiformer.kit.export import NotProvedError, write

for name in ('onnxscript', 'onnxruntime'):
    pytest.importorskip(name)
pytestmark = [needs_dynamo_export,
              pytest.mark.filterwarnings('ignore')]  # of the exporter


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """Tests write here."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def program():
    """A program of one layer, an image for it and its output."""
    torch.manual_seed(0)

    class Layer(torch.nn.Conv2d):
        def forward(self, image):
            return super().forward(image.float())

    layer = Layer(3, 4, 3)
    image = torch.randint(256, (1, 3, 8, 9), dtype=torch.uint8)
    exported = torch.onnx.export(
        layer, (image, ), dynamo=True, input_names=['image'], verbose=False)
    return exported, [image], layer(image).detach()


@pytest.mark.parametrize('damage', [
    lambda x: x + 2e-4 * x.std(),
    lambda x: torch.full_like(x, torch.nan),
    lambda x: x[..., :-1]])
def test_a_file_that_fails_its_proof_is_not_written(damage, program):
    exported, images, out = program
    path = Path('model.onnx')
    before = os.umask(0o077)  # others may not read
    try:
        assert write(exported, {}, path, images, [(out, )], print) < 1e-5
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.read_bytes()
    path.write_bytes(b'of before')
    with pytest.raises(NotProvedError, match='1x8x9'):
        write(exported, {}, path, images, [(damage(out), )], print)
    assert path.read_bytes() == b'of before'
    assert [file.name for file in Path().iterdir()] == ['model.onnx']
    write(exported, {}, path, images, [(out, )], print)
    assert path.read_bytes() == written
