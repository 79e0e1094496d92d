"""Class activation of each kind of model, and the tool."""
import copy

import cv2
import numpy as np
import pytest
import torch
from conftest import call, refusal
from mmengine.config import Config
from tiny_models import NECK, build, child, rescaled, save
from torch import nn

from mmiformer.analysis.cam import class_activation, predicted_class
from mmiformer.analysis.cam import Detector, NotSeenError
from mmiformer.apis.inference import class_names, load_model, read_image


@pytest.fixture
def picture(tmp_path):
    """An image file of 100x128 pixels."""
    cv2.imwrite(str(tmp_path / 'a.png'), np.random.default_rng(0).integers(
        256, size=(100, 128, 3)).astype(np.uint8))
    return str(tmp_path / 'a.png')


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

    explained = Detector(nn.Identity(), [])
    explained.score(Instances, 1).backward()
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


def test_the_tool(configs, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder.png').mkdir()
    models = [*save(configs, 'imagenet', 'cls'),
              *save(configs, 'fpn_ade20k', 'seg')]
    call('cam.py', *models, '--images', 'a.png', 'a.png', '--out', 'drawn.png')
    drawn = cv2.imread(str(tmp_path / 'drawn.png'))
    assert drawn.std() > 5 and drawn.shape[1] > drawn.shape[0]
    for arguments, words in (
            ([*models[:3], '--images', 'a.png'],
             'seg.py: give CONFIG CHECKPOINT'),
            ([*models, '--images', 'b.png'], 'b.png: there is no image'),
            ([*models[:2], '--images', 'a.png', '--category', 'cube'],
             "--category cube: unknown to cls.py, choose from ['circle'"),
            ([*models, '--images', 'a.png', '--layer', 'neck:NCHW', 'x'],
             'x: give NAME:LAYOUT'),
            ([*models[:2], '--images', 'a.png', '--layer', *['x:NCHW'] * 2],
             '2 for 1 models'),
            ([*models, '--images', 'a.png', '--layer', 'backbone.stage.0:NCHW'],
             "no layer 'backbone.stage.0'"),
            ([*models, '--images', 'a.png', '--out', 'no.py'],
             'no.py: name a file of the suffix .'),
            ([*models, '--images', 'a.png', '--out', 'a.png/no.png'],
             'a.png/no.png: '),
            ([*models, '--images', 'a.png', '--out', 'folder.png'],
             'folder.png cannot be written'),
            (['cls.py', 'none.pth', '--images', 'a.png'], 'none.pth')):
        error = refusal('cam.py', *arguments, '--out', 'new/no.png')
        assert words in error and '\n' not in error
    assert not list((tmp_path / 'new').iterdir())
