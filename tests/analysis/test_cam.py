"""Maps that are known in closed form, of each kind of model, and the tool."""
import copy
import gc
import runpy
import subprocess
import sys
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmiformer.analysis import cam
from mmiformer.analysis.cam import (
    NotSeenError,
    class_activation,
    predicted_class,
    suggest,
)
from mmiformer.engine.inference import class_names, load_model, read_image

ROOT = Path(__file__).parents[2]
BACKBONE = dict(_delete_=True, type='mmiformer.IFormer', arch=TINY,
                pretrain_img_size=64)
NECK = dict(in_channels=[16, 32, 32, 48])
CHILDREN = dict(
    imagenet=dict(backbone=dict(**BACKBONE, out_indices=(3, )),
                  head=dict(in_channels=48)),
    fpn_ade20k=dict(backbone=BACKBONE, neck=NECK),
    mask_rcnn=dict(backbone=BACKBONE, neck=NECK))


def child(configs, folder, **options):
    """The config of a tiny model for the embedded shapes."""
    cfg = Config.fromfile(configs / folder / 'iformer_s_shapes.py')
    settings = copy.deepcopy(CHILDREN[folder])
    cfg.merge_from_dict(dict(model=settings, **options))
    return cfg


def build(cfg, seed=0):
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model).eval()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def picture(tmp_path):
    """An image file of 100x128 pixels."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(
        256, size=(100, 128, 3)).astype(np.uint8))
    return str(tmp_path / 'a.png')


def rescaled(heat):
    """As the library does it: what speaks against the class is 0."""
    heat = heat.clamp(0)
    heat = heat - heat.min()
    return heat / heat.max()


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
        cam.library_class('gradcam')


def test_what_to_choose_from():
    assert suggest('c', 'ab') == "choose from ['a', 'b']"
    many = [f'{letter}{i}' for letter in 'ab' for i in range(50)]
    assert suggest('b7', many, 1) == "alike of 100 are ['b7']"


def by_autograd(model, evidence, image, name='backbone'):
    """HiResCAM in plain torch: gradient times map, summed over channels."""
    kept = []
    handle = dict(model.named_modules())[name].register_forward_hook(
        lambda module, args, out: kept.append(out))
    value = evidence(image)
    handle.remove()
    last = kept[0][-1] if isinstance(kept[0], tuple) else kept[0]
    gradient, = torch.autograd.grad(value, last)
    heat = rescaled((gradient * last).detach()[0].sum(0))
    return rescaled(torch.from_numpy(
        cv2.resize(heat.numpy(), tuple(image.shape[:1:-1]))))


def test_a_classifier_of_mmpretrain(configs, picture):
    cfg = child(configs, 'imagenet')
    model = build(cfg)
    assert class_names(cfg) == ['circle', 'square', 'triangle']
    nn.init.normal_(model.head.fc.weight)
    nn.init.zeros_(model.head.fc.bias)
    seen, data = read_image(cfg, model, picture)
    assert seen.shape == (64, 64, 3)
    logits = model(data['inputs'], mode='tensor')[0]
    label = int(logits.argmax())
    assert predicted_class(model, data) == label
    expected = by_autograd(
        model, lambda x: model(x, mode='tensor')[0, label], data['inputs'])
    assert expected.max() == 1
    for method in (None, 'hirescam'):
        found = class_activation(model, data, label, method=method)
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_a_segmentor_of_mmseg(configs, picture):
    cfg = child(configs, 'fpn_ade20k')
    cfg.model.decode_head.norm_cfg.type = 'GN'
    cfg.model.decode_head.norm_cfg.num_groups = 4
    model = build(cfg)
    nn.init.normal_(model.decode_head.conv_seg.weight)
    seen, data = read_image(cfg, model, picture)
    assert seen.shape == (100, 128, 3)
    assert np.array_equal(seen, cv2.imread(picture)[..., ::-1])
    settings = cfg.model.data_preprocessor
    np.testing.assert_allclose(
        data['inputs'][0].permute(1, 2, 0),
        (seen - np.array(settings.mean)) / settings.std, atol=1e-5)
    metas = [sample.metainfo for sample in data['data_samples']]
    with torch.no_grad():
        labels = model.encode_decode(data['inputs'], metas).argmax(1)[0]
    counts = labels.flatten().bincount(minlength=4)
    order = counts.argsort(descending=True).tolist()
    assert counts[order[1]] > 0
    assert predicted_class(model, data) == order[0]
    assert predicted_class(model, data, background=order[0]) == order[1]
    expected = by_autograd(
        model, lambda x: model.encode_decode(x, metas)[
            0, order[1]][labels == order[1]].sum(), data['inputs'])
    assert expected.max() == 1
    found = class_activation(model, data, order[1])
    np.testing.assert_allclose(found, expected, atol=2e-3)
    nn.init.zeros_(model.decode_head.conv_seg.weight)
    model.decode_head.conv_seg.bias.data[0] = 1.
    with pytest.raises(NotSeenError, match='no pixel is given to class 1'):
        class_activation(model, data, 1)
    with pytest.raises(NotSeenError, match='nothing is seen'):
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
    label = best.labels[best.scores.argmax()]
    assert predicted_class(model, data) == label

    def evidence(x):
        found = instances(x)
        return -(1 - found.scores[found.labels == label]).log().sum()

    for layer in ('backbone', 'neck.fpn_convs.0'):
        expected = by_autograd(model, evidence, data['inputs'], layer)
        found = class_activation(model, data, int(label), (layer, 'NCHW'))
        np.testing.assert_allclose(found, expected, atol=2e-3)
    assert not hasattr(samples[0], 'pred_instances') or not len(
        samples[0].pred_instances)
    with pytest.raises(NotSeenError, match='no instance of class 3'):
        class_activation(model, data, 3)
    with pytest.raises(ValueError, match='rpn_cls runs 5 times'):
        class_activation(model, data, int(label), ('rpn_head.rpn_cls', 'NCHW'))


def test_a_single_stage_detector_detaches_its_scores(configs, picture):
    cfg = child(configs, 'mask_rcnn')
    preprocessor = cfg.model.data_preprocessor
    cfg.model = Config(dict(model=dict(
        type='RetinaNet', data_preprocessor=preprocessor,
        backbone=cfg.model.backbone,
        neck=dict(type='FPN', in_channels=NECK['in_channels'],
                  out_channels=16, num_outs=5),
        bbox_head=dict(
            type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16,
            stacked_convs=1, anchor_generator=dict(
                type='AnchorGenerator', octave_base_scale=4,
                scales_per_octave=1, ratios=[1.], strides=[4, 8, 16, 32, 64]),
            bbox_coder=dict(type='DeltaXYWHBBoxCoder')),
        test_cfg=dict(nms_pre=50, min_bbox_size=0, score_thr=0.05,
                      nms=dict(type='nms', iou_threshold=0.5),
                      max_per_img=4)))).model
    model = build(cfg)
    _, data = read_image(cfg, model, picture)
    label = predicted_class(model, data)
    sample, = model.predict(data['inputs'], copy.deepcopy(
        data['data_samples']), rescale=False)
    best = sample.pred_instances
    assert not best.scores.requires_grad
    wanted = best.scores[best.labels == label].detach()

    def evidence(x):
        scores = torch.cat([level.sigmoid().flatten() for level in
                            model.bbox_head(model.extract_feat(x))[0]])
        nearest = (scores[:, None] - wanted).abs().argmin(0)
        assert torch.equal(scores[nearest], wanted)
        return -(1 - scores[nearest]).log().sum()

    expected = by_autograd(model, evidence, data['inputs'])
    found = class_activation(model, data, label)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_sure_instances_count_more_than_doubtful_ones():
    """The slope of each is its score, by the logits."""
    logits = torch.tensor([-2., 0., 3., 9.], requires_grad=True)

    class Instances:
        labels = torch.tensor([1, 1, 1, 0])
        scores = logits.sigmoid()

    explained = cam.Detector(nn.Identity(), [])
    explained.evidence(Instances, 1).backward()
    expected = logits.detach().sigmoid() * torch.tensor([1, 1, 1, 0])
    torch.testing.assert_close(logits.grad, expected)
    assert explained.votes(Instances).tolist() == pytest.approx(
        [logits[3].sigmoid().item(), logits[2].sigmoid().item()])


def test_weights_fit_in_full(configs, tmp_path):
    cfg = child(configs, 'imagenet')
    state = build(cfg).state_dict()
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'all.pth')
    loaded = load_model(cfg, str(tmp_path / 'all.pth')).cpu().state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    del state['head.fc.bias']
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(ValueError, match=r'part.pth: .*head\.fc\.bias'):
        load_model(cfg, str(tmp_path / 'part.pth'))
    # Released: of the backbone by other names, and the head.
    released = {name[len('backbone.'):]: value for name, value in
                build(cfg, seed=1).state_dict().items()
                if name.startswith('backbone.')}
    released['head.weight'] = torch.randn(3, 48)
    released['head.bias'] = torch.randn(3)
    torch.save(released, tmp_path / 'released.pth')
    loaded = load_model(cfg, str(tmp_path / 'released.pth')).cpu()
    assert torch.equal(loaded.head.fc.weight, released['head.weight'])


def test_the_tool(configs, picture, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, folder in (('cls', 'imagenet'), ('seg', 'fpn_ade20k')):
        cfg = child(configs, folder)
        torch.save(build(cfg).state_dict(), tmp_path / f'{name}.pth')
        (tmp_path / f'{name}.py').write_text(
            f'_base_ = {str(configs / folder / "iformer_s_shapes.py")!r}\n'
            f'model = {CHILDREN[folder]}\n')
    models = ['cls.py', 'cls.pth', 'seg.py', 'seg.pth']

    result = subprocess.run(
        [sys.executable, str(ROOT / 'tools/cam.py'), *models, '--images',
         'a.png', 'a.png', '--out', 'drawn.png'], cwd=tmp_path, text=True,
        capture_output=True)
    assert result.returncode == 0, result.stderr
    drawn = cv2.imread(str(tmp_path / 'drawn.png'))
    assert drawn.std() > 5 and drawn.shape[1] > drawn.shape[0]
    for arguments, words in (
            ([*models[:3], '--images', 'a.png'], 'CONFIG CHECKPOINT'),
            ([*models, '--images', 'b.png'], 'b.png: there is no image'),
            ([*models[:2], '--images', 'a.png', '--category', 'cube'],
             "--category cube: unknown to cls.py, choose from ['circle'"),
            ([*models, '--images', 'a.png', '--layer', 'neck:NCHW', 'x'],
             'NAME:LAYOUT'),
            ([*models, '--images', 'a.png', '--layer', 'backbone.stage.0:NCHW'],
             "no layer 'backbone.stage.0'"),
            (['cls.py', 'none.pth', '--images', 'a.png'], 'none.pth')):
        monkeypatch.setattr(sys, 'argv', ['cam.py', *arguments, '--out', 'no'])
        with pytest.raises(SystemExit) as exit:
            runpy.run_path(str(ROOT / 'tools/cam.py'), run_name='__main__')
        line = str(exit.value) if exit.value.code != 2 else (
            capsys.readouterr().err.strip().splitlines()[-1])
        assert 'error: ' in line and words in line and '\n' not in line
    assert not (tmp_path / 'no').exists()
