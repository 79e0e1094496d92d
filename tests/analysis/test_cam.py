"""Class activation maps: known in closed form, of each kind, by the tool."""
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import call, refusal
from tiny_models import build, child, rescaled, save
from torch import nn

from mmiformer.kit.inference import read_image
from mmiformer.paper.cam import explain, find_library


class BaseClassifier(nn.Module):
    """Images are its maps; ReLU in place, average, then weights."""

    def __init__(self, used=1):
        super().__init__()
        self.backbone, self.used = nn.Identity(), used
        self.backbone.forward = lambda x: (-x, x * 1.)
        self.head, self.relu = nn.Linear(3, 2, bias=False), nn.ReLU(True)
        self.neck = nn.Flatten()

    def forward(self, x, mode):
        x = self.relu(self.backbone(x)[self.used])
        if self.neck:
            self.neck(x)
        return self.head(x.flatten(2).mean(2))


def look(model, images, category=0, *args):
    """A look at a batch of one image, which is not padded."""
    height, width = images.shape[2:]
    return explain(model, np.zeros((height, width, 3)), dict(
        inputs=images, data_samples=[None]), ['a', 'b'], category, *args)


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.randn(1, 3, 12, 20)


def test_the_average_and_a_linear_layer(maps):
    """CAM, of which HiResCAM is the general form: maps by the weights of the
    class, as they were before the ReLU, which passes a gradient where they are
    positive."""
    model = BaseClassifier()
    maps[0, 0] -= 1.  # channels differ in how much passes
    found, name = look(model, maps.clone(), 1)
    gradient = model.head.weight[1].detach()[:, None, None] * (maps[0] > 0)
    np.testing.assert_allclose(
        found, rescaled((gradient * maps[0]).sum(0)), atol=1e-4)
    assert name == 'b'


def test_the_model_is_left_as_it_was(maps):
    model = BaseClassifier().train()
    look(model, maps)
    assert model.training and not model.backbone._forward_hooks
    assert model.head.weight.requires_grad and model.head.weight.grad is None


def test_errors(maps, monkeypatch):
    model, unused = BaseClassifier(), BaseClassifier()
    unused.neck = None
    nn.init.zeros_(unused.head.weight)
    for arguments, words in (
            ((unused, maps, 0, 'neck'), 'BaseClassifier has no neck'),
            ((model, maps, 0, 'neck'), r'neck gives no map -1.*\(1, 720\)'),
            ((model, maps, 0, 'backbone', 2), 'backbone gives no map 2'),
            ((model, maps, 0, 'backbone', 0), 'not depend on map 0'),
            ((unused, maps), 'not depend on map -1 of the backbone'),
            ((nn.Linear(2, 2), maps), 'Linear')):
        with pytest.raises(ValueError, match=words):
            look(*arguments)
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    with pytest.raises(ImportError, match=r'"\.\[cam\]" "numpy<[23]"$'):
        find_library()


@pytest.fixture
def picture(tmp_path):
    """An image file of 100x128 pixels."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(
        256, size=(100, 128, 3)).astype(np.uint8))
    return str(tmp_path / 'a.png')


def assert_hirescam(model, shown, data, classes, label, score):
    """The map is HiResCAM's in plain torch: gradient times map, summed over
    channels."""
    kept, image = [], data['inputs']
    handle = model.backbone.register_forward_hook(
        lambda module, args, out: kept.append(out[-1]))
    value = score(image)
    handle.remove()
    gradient, = torch.autograd.grad(value, kept[0])
    heat = rescaled((gradient * kept[0]).detach()[0].sum(0))
    expected = rescaled(torch.from_numpy(
        cv2.resize(heat.numpy(), tuple(image.shape[:1:-1]))))
    found, name = explain(model, shown, data, classes)
    height, width = shown.shape[:2]
    np.testing.assert_allclose(found, expected[:height, :width], atol=2e-3)
    assert name == classes[label]


def test_a_classifier_of_mmpretrain(configs, picture):
    cfg = child(configs, 'imagenet')
    model = build(cfg)
    nn.init.normal_(model.head.fc.weight)
    shown, data = read_image(cfg, model, picture)
    label = int(model(data['inputs'], mode='tensor')[0].argmax())
    assert_hirescam(
        model, shown, data, 'abc', label,
        lambda x: model(x, mode='tensor')[0, label])


def test_a_segmentor_of_mmseg(configs, picture):
    """Its top prediction but the background, over the pixels of the class."""
    cfg = child(configs, 'fpn_ade20k')
    cfg.model.decode_head.norm_cfg = dict(type='GN', num_groups=4)
    model = build(cfg)
    nn.init.normal_(model.decode_head.conv_seg.weight)
    shown, data = read_image(cfg, model, picture)
    metas = [sample.metainfo for sample in data['data_samples']]
    with torch.no_grad():
        labels = model.encode_decode(data['inputs'], metas).argmax(1)[0]
    counts = labels.flatten().bincount(minlength=4)
    first, second = counts.argsort(descending=True).tolist()[:2]
    assert counts[second] > 0
    names = ['background' if i == first else str(i) for i in range(4)]
    assert_hirescam(
        model, shown, data, names, second, lambda x: model.encode_decode(
            x, metas)[0, second][labels == second].sum())
    nn.init.zeros_(model.decode_head.conv_seg.weight)
    model.decode_head.conv_seg.bias.data[0] = 1.
    assert explain(model, shown, data, 'abcd', 1) == (None, 'no b is seen')
    assert explain(model, shown, data, ['background', *'bcd'])[0] is None


@pytest.mark.slow
def test_the_tool(configs, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = [*save(configs, 'imagenet', 'cls'),
              *save(configs, 'fpn_ade20k', 'seg')]
    call('cam.py', *models, '--images', 'a.png', 'a.png', '--out', 'drawn.png')
    height, width = cv2.imread('drawn.png').shape[:2]
    assert width > height  # two rows of three
    for arguments, words in (
            (models[:3], 'seg.py'),
            ([*models, '--images', 'b.png'], 'b.png'),
            ([*models[:2], '--category', 'cube'], "'circle'"),
            ([*models[2:], '--part', 'neck', '--level', 7], 'no map 7'),
            ([*models, '--out', 'no.py'], '.svg'),
            ([*models, '--out', 'a.png/no.png'], 'a.png/no.png'),
            (['cls.py', 'none.pth'], 'none.pth')):
        error = refusal('cam.py', '--images', 'a.png', '--out', 'new/no.png',
                        *arguments)
        assert words in error and '\n' not in error
    assert not list((tmp_path / 'new').iterdir())
