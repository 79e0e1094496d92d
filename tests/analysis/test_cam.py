"""Class activation maps: known in closed form, of each kind, by the tool."""
import copy
import gc
import sys
import weakref

import cv2
import numpy as np
import pytest
import torch
from conftest import call, refusal
from mmengine.config import Config
from tiny_models import NECK, build, child, rescaled, save
from torch import nn

from mmiformer.kit.cam import (
    NotSeenError,
    class_activation,
    find_method,
    predicted_class,
    see,
)
from mmiformer.kit.inference import read_image

EMIT = dict(NCHW=lambda x: x,
            NHWC=lambda x: x.permute(0, 2, 3, 1).contiguous(),
            tokens=lambda x: x.flatten(2).transpose(1, 2).contiguous())


class BaseClassifier(nn.Module):
    """Images are its maps; ReLU in place, average, then weights."""

    def __init__(self, emit=EMIT['NCHW'], channels=1):
        super().__init__()
        self.backbone = nn.Identity()
        self.backbone.forward = lambda x: (-x, emit(x * 1.))  # the last counts
        self.channels, self.relu = channels, nn.ReLU(inplace=True)
        self.head = nn.Linear(3, 2, bias=False)
        self.unused = nn.BatchNorm2d(3)

    def forward(self, x, mode):
        x = self.backbone(x)[-1]
        x = self.relu(x).movedim(self.channels, 1)
        return self.head(x.flatten(2).mean(2))


@pytest.fixture
def maps():
    torch.manual_seed(0)
    return torch.randn(1, 3, 12, 20)


def of(images):
    return dict(inputs=images, data_samples=[None])


@pytest.mark.parametrize('method, layout', [
    ('gradcam', 'NCHW'), ('hirescam', 'NHWC'), ('layercam', 'tokens'),
    (None, 'tokens')])
def test_the_average_and_a_linear_layer(method, layout, maps):
    """CAM, from which the others descend: maps by the weights of the class,
    as they were before the ReLU, which passes a gradient where they are
    positive. Grad-CAM averages it, LayerCAM takes the positive ones."""
    model = BaseClassifier(EMIT[layout], 1 if layout == 'NCHW' else -1)
    maps[0, 0] -= 1.  # channels differ in how much passes
    found = class_activation(model, of(maps.clone()), 1, ('backbone', layout),
                             method)
    gradient = model.head.weight[1].detach()[:, None, None] * (maps[0] > 0)
    if method in ('gradcam', None):
        gradient = gradient.mean((1, 2), keepdim=True)
    if method == 'layercam':
        gradient = gradient.clamp(0)
    np.testing.assert_allclose(
        found, rescaled((gradient * maps[0]).sum(0)), atol=1e-4)


def test_the_model_is_left_as_it_was(maps):
    model, data = BaseClassifier(), of(maps)
    model.train()
    model.unused.eval()
    model.head.weight.grad = torch.ones(2, 3)
    model.unused.weight.requires_grad_(False)
    before, graphs = copy.deepcopy(model.state_dict()), []
    handle = model.backbone.register_forward_hook(
        lambda module, args, out: graphs.append(weakref.ref(out[-1])))
    class_activation(model, data, 0)
    predicted_class(model, data)
    for layer, value in ((('backbone', 'tokens'), 'tokens'),
                         (('unused', 'NCHW'), 'unused runs 0 times')):
        with pytest.raises(ValueError, match=value):
            class_activation(model, data, 0, layer)
    handle.remove()
    assert model.training and model.head.training
    assert not model.unused.training
    assert model.head.weight.grad.eq(1).all()
    assert model.head.weight.requires_grad
    assert not model.unused.weight.requires_grad
    assert not any(module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name])
               for name, value in model.state_dict().items())
    assert not maps.requires_grad
    gc.collect()  # no cycle through a graph, which Python could not free
    assert len(graphs) == 4 and {graph() for graph in graphs} == {None}


def test_errors(maps, monkeypatch):
    model, data = BaseClassifier(), of(maps)
    for arguments, words in (
            ((model, data, 2), 'class 2: the model has 2'),
            ((model, data, 0, ('backbon', 'NCHW')), "'backbon'.*'backbone'"),
            ((model, data, 0, ('backbone', 'CHW')), "'CHW'.*NHWC"),
            ((model, data, 0, ('head', 'NCHW')), r'\(1, 2\)'),
            ((model, data, 0, ('backbone', 'NCHW'), 'cam'), "'cam'.*layercam"),
            ((nn.Linear(2, 2), data, 0), 'Linear')):
        with pytest.raises(ValueError, match=words):
            class_activation(*arguments)
    for emit, words in ((lambda x: [x.detach()], 'depend on the image'),
                        (lambda x: [None], 'no tensor')):
        model.backbone.forward = emit
        with pytest.raises(ValueError, match=words):
            class_activation(model, data, 0)
    model = BaseClassifier()
    nn.init.zeros_(model.head.weight)
    with pytest.raises(ValueError, match='class 0 does not depend'):
        class_activation(model, data, 0)
    monkeypatch.setitem(sys.modules, 'pytorch_grad_cam', None)
    with pytest.raises(ImportError, match=r'"\.\[cam\]" "numpy<[23]"$'):
        find_method('gradcam')


@pytest.fixture
def picture(tmp_path):
    """An image file of 100x128 pixels."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(
        256, size=(100, 128, 3)).astype(np.uint8))
    return str(tmp_path / 'a.png')


def assert_hirescam(model, data, label, score, name='backbone'):
    """The map is HiResCAM's in plain torch: gradient times map, summed over
    channels."""
    kept, image = [], data['inputs']
    handle = model.get_submodule(name).register_forward_hook(
        lambda module, args, out: kept.append(out))
    value = score(image)
    handle.remove()
    last = kept[0][-1] if isinstance(kept[0], tuple) else kept[0]
    gradient, = torch.autograd.grad(value, last)
    heat = rescaled((gradient * last).detach()[0].sum(0))
    expected = rescaled(torch.from_numpy(
        cv2.resize(heat.numpy(), tuple(image.shape[:1:-1]))))
    assert expected.max() == 1
    found = class_activation(model, data, label, (name, 'NCHW'))
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_classifier_of_mmpretrain(configs, picture):
    cfg = child(configs, 'imagenet')
    model = build(cfg)
    nn.init.normal_(model.head.fc.weight)
    _, data = read_image(cfg, model, picture)
    label = int(model(data['inputs'], mode='tensor')[0].argmax())
    assert predicted_class(model, data) == label
    assert_hirescam(  # behind an average the same as the default
        model, data, label, lambda x: model(x, mode='tensor')[0, label])


def test_a_segmentor_of_mmseg(configs, picture):
    cfg = child(configs, 'fpn_ade20k')
    cfg.model.decode_head.norm_cfg = dict(type='GN', num_groups=4)
    model = build(cfg)
    nn.init.normal_(model.decode_head.conv_seg.weight)
    seen, data = read_image(cfg, model, picture)
    assert np.array_equal(seen, cv2.imread(picture)[..., ::-1])
    settings = cfg.model.data_preprocessor
    np.testing.assert_allclose(
        data['inputs'][0].permute(1, 2, 0),
        (seen - np.array(settings.mean)) / settings.std, atol=1e-5)
    metas = [sample.metainfo for sample in data['data_samples']]
    with torch.no_grad():
        labels = model.encode_decode(data['inputs'], metas).argmax(1)[0]
    counts = labels.flatten().bincount(minlength=4)
    first, second = counts.argsort(descending=True).tolist()[:2]
    assert counts[second] > 0
    assert predicted_class(model, data) == first
    assert predicted_class(model, data, background=first) == second
    names = ['background' if i == first else str(i) for i in range(4)]
    heat, title = see(model, seen, data, names)
    assert heat.shape == seen.shape[:2] and title == str(second)
    assert_hirescam(model, data, second, lambda x: model.encode_decode(
        x, metas)[0, second][labels == second].sum())
    nn.init.zeros_(model.decode_head.conv_seg.weight)
    model.decode_head.conv_seg.bias.data[0] = 1.
    with pytest.raises(NotSeenError, match='class 1'):
        class_activation(model, data, 1)
    with pytest.raises(NotSeenError):
        predicted_class(model, data, background=0)


def test_a_detector_of_mmdet(configs, picture):
    cfg = child(configs, 'mask_rcnn')
    model = build(cfg)
    nn.init.normal_(model.roi_head.bbox_head.fc_cls.weight, std=1.)
    seen, data = read_image(cfg, model, picture)
    assert seen.shape == (100, 128, 3)
    assert data['inputs'].shape == (1, 3, 128, 128)  # in multiples of 32
    samples = data['data_samples']

    def instances(x):
        return model.predict(
            x, copy.deepcopy(samples), rescale=False)[0].pred_instances

    best = instances(data['inputs'])
    label = int(best.labels[best.scores.argmax()])
    assert predicted_class(model, data) == label

    def score(x):
        found = instances(x)
        return -(1 - found.scores[found.labels == label]).log().sum()

    for layer in ('backbone', 'neck.fpn_convs.0'):
        assert_hirescam(model, data, label, score, layer)
    assert not len(samples[0].get('pred_instances', ()))
    heat, title = see(model, seen, data, 'abcd')
    assert heat.shape == (100, 128) and title == 'abcd'[label]
    assert see(model, seen, data, 'abcd', 3) == (None, 'no d is seen')
    with pytest.raises(NotSeenError, match='class 3'):
        class_activation(model, data, 3)
    with pytest.raises(ValueError, match='rpn_cls runs 5 times'):
        class_activation(model, data, label, ('rpn_head.rpn_cls', 'NCHW'))


def test_a_single_stage_detector_detaches_its_scores(configs, picture):
    cfg = child(configs, 'mask_rcnn')
    model = Config.fromstring(
        "_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'", '.py').model
    model.backbone = cfg.model.backbone
    model.data_preprocessor = cfg.model.data_preprocessor
    model.neck.update(NECK, out_channels=16)
    model.bbox_head.update(num_classes=3, in_channels=16, feat_channels=16,
                           stacked_convs=1)
    model.bbox_head.anchor_generator.update(scales_per_octave=1, ratios=[1.])
    model.test_cfg.update(max_per_img=4)
    cfg.model = model
    model = build(cfg)
    _, data = read_image(cfg, model, picture)
    label = predicted_class(model, data)
    sample, = model.predict(data['inputs'], copy.deepcopy(
        data['data_samples']), rescale=False)
    best = sample.pred_instances
    assert not best.scores.requires_grad
    wanted = best.scores[best.labels == label].detach()

    def score(x):
        scores = torch.cat([level.sigmoid().flatten() for level in
                            model.bbox_head(model.extract_feat(x))[0]])
        nearest = (scores[:, None] - wanted).abs().argmin(0)
        assert torch.equal(scores[nearest], wanted)
        return -(1 - scores[nearest]).log().sum()

    assert_hirescam(model, data, label, score)


@pytest.mark.slow
def test_the_tool(configs, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = [*save(configs, 'imagenet', 'cls'),
              *save(configs, 'fpn_ade20k', 'seg')]
    call('cam.py', *models, '--images', 'a.png', 'a.png', '--out', 'drawn.png')
    drawn = cv2.imread('drawn.png')
    assert drawn.std() > 5 and drawn.shape[1] > drawn.shape[0]
    for arguments, words in (
            (models[:3], 'seg.py'),
            ([*models, '--images', 'b.png'], 'b.png'),
            ([*models[:2], '--category', 'cube'], "['circle'"),
            ([*models, '--layer', 'neck:NCHW', 'x'], 'x: give NAME:LAYOUT'),
            ([*models[:2], '--layer', *['x:NCHW'] * 2], '2 for 1 models'),
            ([*models, '--layer', 'stage.0:NCHW'], "'stage.0'"),
            ([*models, '--out', 'no.py'], '.svg'),
            ([*models, '--out', 'a.png/no.png'], 'a.png/no.png'),
            (['cls.py', 'none.pth'], 'none.pth')):
        error = refusal('cam.py', '--images', 'a.png', '--out', 'new/no.png',
                        *arguments)
        assert words in error and '\n' not in error
    assert not list((tmp_path / 'new').iterdir())
