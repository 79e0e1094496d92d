"""Class activation maps that are known in closed form."""
import copy
import gc
import sys
import weakref

import numpy as np
import pytest
import torch
from tiny_models import rescaled
from torch import nn

from mmiformer.analysis import cam
from mmiformer.analysis.cam import class_activation, predicted_class
from mmiformer.analysis.layers import suggest


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class BaseClassifier(nn.Module):
    """Images are its maps; they are averaged, then weighted."""

    def __init__(self, emit=lambda x: (x * 7, x)):
        super().__init__()
        self.backbone = nn.Identity()
        self.backbone.forward = emit
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 2, bias=False)
        self.unused = nn.BatchNorm2d(3)

    def forward(self, x, mode):
        x = self.backbone(x)[-1] * 1.
        return self.head(x.mean((2, 3)))


class InPlace(BaseClassifier):

    def forward(self, x, mode):
        return self.head(self.relu(self.backbone(x * 1.)[-1]).mean((2, 3)))


def of(images):
    return dict(inputs=images, data_samples=[None])


@pytest.mark.parametrize('method', ['gradcam', 'hirescam', None])
@pytest.mark.parametrize('category', [0, 1])
def test_the_average_and_a_linear_layer(category, method):
    """CAM, from which the others descend: maps by the weights of the class."""
    model, maps = BaseClassifier(), torch.randn(1, 3, 12, 20)
    found = class_activation(model, of(maps), category, method=method)
    weights = model.head.weight[category].detach()
    expected = rescaled(torch.einsum('c,chw->hw', weights, maps[0]))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_layercam_takes_positive_gradients():
    model, maps = BaseClassifier(), torch.randn(1, 3, 12, 20)
    found = class_activation(model, of(maps), 0, method='layercam')
    expected = torch.einsum(
        'c,chw->hw', model.head.weight[0].detach().clamp(0), maps[0])
    np.testing.assert_allclose(found, rescaled(expected), atol=1e-4)


@pytest.mark.parametrize('layout, permute', [
    ('NHWC', lambda x: x.permute(0, 2, 3, 1)),
    ('tokens', lambda x: x.flatten(2).transpose(1, 2))])
def test_layouts(layout, permute):
    model, maps = BaseClassifier(), torch.randn(1, 3, 12, 20)
    expected = class_activation(model, of(maps), 0)

    class Layered(BaseClassifier):

        def forward(self, x, mode):
            x = self.backbone(permute(x))
            return self.head(x.flatten(1, -2).mean(1))

    other = Layered(emit=lambda x: x)
    other.head = model.head
    found = class_activation(other, of(maps), 0, ('backbone', layout))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_the_next_layer_changes_in_place():
    """The map is that of what the layer emitted, before the ReLU."""
    model, maps = InPlace(emit=lambda x: (x, )), torch.randn(1, 3, 12, 20)
    nn.init.constant_(model.head.weight, 1.)
    maps[0, 0] -= 1.
    found = class_activation(model, of(maps), 0, method='gradcam')
    passed = (maps[0] > 0).float().mean((1, 2))
    expected = torch.einsum('c,chw->hw', passed, maps[0])
    np.testing.assert_allclose(found, rescaled(expected), atol=1e-4)


def test_the_model_is_left_as_it_was():
    model = BaseClassifier()
    model.train()
    model.unused.eval()
    model.head.weight.grad = torch.ones(2, 3)
    model.unused.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    data = of(torch.randn(1, 3, 12, 20))
    class_activation(model, data, 0)
    predicted_class(model, data)
    for layer, error in ((('backbone', 'tokens'), 'layout'),
                         (('unused', 'NCHW'), 'runs 0 times')):
        with pytest.raises(ValueError, match=f'layer {layer[0]}.*{error}'):
            class_activation(model, data, 0, layer)
    assert model.training and model.head.training
    assert not model.unused.training
    assert model.head.weight.grad.eq(1).all()
    assert model.head.weight.requires_grad
    assert not model.unused.weight.requires_grad
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name])
               for name, value in model.state_dict().items())
    assert not data['inputs'].requires_grad


def test_the_graph_is_freed():
    model, emitted = BaseClassifier(emit=lambda x: (x * 2., )), []
    model.backbone.register_forward_hook(
        lambda module, args, out: emitted.append(weakref.ref(out[0])))
    for category in (0, 5):
        try:
            class_activation(model, of(torch.randn(1, 3, 12, 20)), category)
        except ValueError as error:
            del error
    gc.collect()
    assert len(emitted) == 2 and [ref() for ref in emitted] == [None, None]


def test_errors():
    model, data = BaseClassifier(), of(torch.randn(1, 3, 12, 20))
    for arguments, words in (
            ((model, data, 2), 'no class 2: the model has 2'),
            ((model, data, 0, ('backbon', 'NCHW')), "'backbon'.*'backbone'"),
            ((model, data, 0, ('backbone', 'CHW')), "'CHW'.*NHWC"),
            ((model, data, 0, ('head', 'NCHW')), r'head.*\(1, 2\)'),
            ((model, data, 0, ('backbone', 'NCHW'), 'cam'), "'cam'.*layercam"),
            ((nn.Linear(2, 2), data, 0), 'Linear is no classifier')):
        with pytest.raises(ValueError, match=words):
            class_activation(*arguments)
    model.backbone.forward = lambda x: (x, x.detach())
    with pytest.raises(ValueError, match='does not depend on the image'):
        class_activation(model, data, 0)
    model.backbone.forward = lambda x: (x, )
    nn.init.zeros_(model.head.weight)
    with pytest.raises(ValueError, match='class 0 does not depend on'):
        class_activation(model, data, 0)
    model.backbone.forward = lambda x: [None]
    with pytest.raises(ValueError, match='emits no tensor'):
        class_activation(model, data, 0)


def test_the_library_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    with pytest.raises(ImportError, match=r'pip install mmiformer\[cam\]'):
        cam.find_method('gradcam')


def test_what_to_choose_from():
    assert suggest('c', 'ab') == "choose from ['a', 'b']"
    many = [f'{letter}{i}' for letter in 'ab' for i in range(50)]
    assert suggest('b7', many, 1) == "alike of 100 are ['b7']"
