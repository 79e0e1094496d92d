"""Nothing is written but what gives the numbers of the model."""
from pathlib import Path

import onnx_ir
import pytest
import torch

from mmiformer.apis.export import NotProvedError, write
from mmiformer.apis.exported import open_file

pytestmark = pytest.mark.filterwarnings('ignore')  # of the exporter


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
    assert write(exported, {}, path, images, [(out, )], print) < 1e-5
    written = path.read_bytes()
    path.write_bytes(b'of before')
    with pytest.raises(NotProvedError, match='1x8x9'):
        write(exported, {}, path, images, [(damage(out), )], print)
    assert path.read_bytes() == b'of before'
    assert [file.name for file in Path().iterdir()] == ['model.onnx']
    write(exported, {}, path, images, [(out, )], print)
    assert path.read_bytes() == written


def test_a_compiled_file_that_fails_its_proof_is_not_written(monkeypatch):
    torch.manual_seed(0)
    layer = torch.nn.Linear(9, 4)
    image = torch.rand(1, 3, 8, 9)
    program = torch.export.export(layer, (image, ))
    path, out = Path('model.pt2'), layer(image).detach()
    assert write(program, dict(task='x'), path, [image], [(out, )],
                 print) < 1e-5
    assert open_file(path)[2]['task'] == 'x'
    written = path.read_bytes()
    with pytest.raises(NotProvedError, match='1x8x9'):
        write(program, {}, path, [image], [(out * 1.01, )], print)
    monkeypatch.setattr(torch._inductor, 'aoti_compile_and_package', failing)
    with pytest.raises(ValueError, match=r'g\+\+.*no compiler'):
        write(program, {}, path, [image], [(out, )], print)
    assert path.read_bytes() == written
    assert list(Path().iterdir()) == [path]


def failing(*args, **kwargs):
    raise RuntimeError('no compiler')


def test_what_onnxruntime_computes_is_compared_with_what_was_traced(program):
    exported, images, out = program
    weight = next(iter(exported.model.graph.initializers.values()))
    weight.const_value = onnx_ir.tensor(weight.const_value.numpy() * 1.01)
    changed, = exported(*images)
    assert (changed - out).abs().max() > 1e-3 * out.std()
    with pytest.raises(NotProvedError, match='1x8x9'):
        write(exported, {}, Path('model.onnx'), images, [(changed, )], print)
    assert list(Path().iterdir()) == []
