"""The page in the browser: what it shows, and that it stays on this machine."""
import importlib
import json
import socket
import urllib.request

import browser
import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.structures import InstanceData
from tiny_models import save

import mmiformer


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Config and weights of a model of each kind, and a picture."""
    folder = tmp_path_factory.mktemp('web')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        noise = np.random.RandomState(0).randint(0, 255, (96, 128, 3), np.uint8)
        cv2.imwrite('photo.png', noise)
        found = {kind: [str(folder / name) for name in save(
            ROOT / 'configs', kind, kind)]
            for kind in ('mask_rcnn', 'fpn_ade20k', 'imagenet')}
    return dict(found, picture=str(folder / 'photo.png'))


@pytest.fixture(scope='module')
def web():
    """The module: gradio takes seconds, and may be missing."""
    pytest.importorskip('gradio', reason='the page needs gradio')
    return importlib.import_module('mmiformer.kit.web')


@pytest.fixture(scope='module')
def views(web, models):
    found = {}
    for kind in ('mask_rcnn', 'fpn_ade20k', 'imagenet'):
        model = mmiformer.inferencer(*models[kind])
        found[kind] = web.VIEWS[type(model).__name__](model)
    return found


def test_detections_are_narrowed_by_score_and_class(models, views):
    view = views['mask_rcnn']
    result = view.run(models['picture'])
    expected = view.model(models['picture'])['predictions'][0]
    for key, value in expected.items():
        assert result.found[key] == value
    assert (result.found['width'], result.found['height']) == (128, 96)
    assert result.shown.shape == (480, 640, 3)  # enlarged
    scores, names = result.found['scores'], result.found['names']
    assert len(view.annotate(result, 0., [])) == len(scores) > 1
    threshold = sorted(scores)[len(scores) // 2]
    shown = view.annotate(result, threshold, [])
    assert len(shown) == sum(score >= threshold for score in scores)
    only = view.annotate(result, 0., [names[0]])
    assert [name for name, _ in only] == [
        name for name in names if name == names[0]]
    name, (mask, label) = shown[0]
    assert label == f'{names[0]} {scores[0]:.2f}'
    assert mask.shape == (480, 640) and set(np.unique(mask)) <= {0, .4, 1}


def test_boxes_are_shown_where_there_are_no_masks(web, views):
    from mmdet.structures import DetDataSample
    view = views['mask_rcnn']
    found, _ = view.read(DetDataSample(pred_instances=InstanceData(
        labels=torch.tensor([2]), scores=torch.tensor([.5]),
        bboxes=torch.tensor([[-2., 10., 20.2, 96.]]))))
    result = web.Result(np.zeros((480, 640, 3), np.uint8), dict(
        found, width=128, height=96))
    (name, (mask, label)), = view.annotate(result, 0., [])
    assert (name, label) == (view.classes[2], f'{view.classes[2]} 0.50')
    assert np.argwhere(mask).min(0).tolist() == [50, 0]
    assert np.argwhere(mask).max(0).tolist() == [479, 100]
    assert mask[51, 50] == 1 and mask[240, 50] == pytest.approx(.4)


def test_segments_divide_the_picture(models, views):
    view = views['fpn_ade20k']
    result = view.run(models['picture'])
    expected = view.model(models['picture'])['predictions']
    assert (result.labels == expected).all()
    shown = view.annotate(result, 0., [])
    assert (sum(mask > 0 for _, (mask, _) in shown) == 1).all()
    largest = max(result.found['classes'], key=lambda item: item['pixels'])
    name, (_, label) = shown[0]
    assert name == largest['name']
    assert label == f'{name} {largest["pixels"] / 128 / 96:.0%}'
    assert [name for name, _ in view.annotate(result, 0., [name])] == [name]


def test_the_best_classes(models, views):
    result = views['imagenet'].run(models['picture'])
    expected = views['imagenet'].model(models['picture'])[0]
    first, *_, last = result.found['classes']
    assert first['name'] == expected['pred_class']
    assert first['score'] == pytest.approx(float(expected['pred_score']))
    assert first['score'] > last['score']


@pytest.mark.parametrize('content', [b'', b'not a picture'])
def test_a_file_that_is_no_picture(content, views, tmp_path):
    (tmp_path / 'a.jpg').write_bytes(content)
    with pytest.raises(ValueError, match='no image that can be read'):
        views['imagenet'].run(str(tmp_path / 'a.jpg'))


def test_colours_are_those_of_the_data_set(views):
    assert views['mask_rcnn'].colours['circle'] == '#e63c3c'
    assert views['imagenet'].colours == {}


def test_large_pictures_are_reduced(web):
    assert web._fit(np.zeros((600, 3000, 3), np.uint8)).shape == (256, 1280, 3)
    assert web._fit(np.zeros((900, 800, 3), np.uint8)).shape == (900, 800, 3)


def test_activation(web, models, views, monkeypatch):
    view, cfg = views['imagenet'], Config.fromfile(models['imagenet'][0])
    shown, text = web.activate(cfg, view, models['picture'], web.TOP)
    top = view.run(models['picture']).found['classes'][0]['name']
    assert text == f'Class activation of {top}'

    def missing(method):
        raise ImportError('pip install ".[cam]"')

    monkeypatch.setattr(web, 'find_method', missing)
    bare, text = web.activate(cfg, view, models['picture'], web.TOP)
    assert text == 'pip install ".[cam]"'
    assert bare.shape == shown.shape and not np.array_equal(bare, shown)


def test_panoptic_results_are_refused(web):
    cfg = Config(dict(model=dict(
        type='PanopticFPN', panoptic_fusion_head=dict(type='any'))))
    with pytest.raises(ValueError, match='PanopticFPN.*panoptic'):
        web.build_page(cfg, 'none.pth', '', '')


@pytest.fixture
def serve(web, models, monkeypatch, tmp_path):
    """Serves a page; notes where this process connects to meanwhile."""
    hosts, pages, connect = set(), [], socket.socket.connect
    lookup = socket.getaddrinfo
    monkeypatch.setenv('GRADIO_TEMP_DIR', '')  # it is set again
    monkeypatch.setattr(socket.socket, 'connect', lambda self, address: (
        hosts.add(address[0]), connect(self, address))[1])
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, *args, **kwargs: (
        hosts.add(host), lookup(host, *args, **kwargs))[1])

    def serve(kind):
        config, weights = models[kind]
        pages.append(web.build_page(
            Config.fromfile(config), weights, 'a title', str(tmp_path)))
        return web.serve(pages[-1])

    yield serve, hosts
    for page in pages:
        page.close()


def test_the_page_is_for_this_machine(serve, monkeypatch):
    for name in ('SERVER_NAME', 'SHARE', 'ANALYTICS_ENABLED'):
        monkeypatch.setenv(f'GRADIO_{name}', dict(
            SERVER_NAME='0.0.0.0').get(name, 'True'))
    launch, hosts = serve
    address = launch('imagenet')
    assert address.startswith('http://127.0.0.1:')
    port = int(address.strip('/').rpartition(':')[2])
    with urllib.request.urlopen(f'{address}config') as answer:
        config = json.load(answer)
    assert config['analytics_enabled'] is config['run_history'] is False
    # Another address of the loopback; it would answer at 0.0.0.0.
    with socket.socket() as other:
        assert other.connect_ex(('127.0.0.2', port)) != 0
    assert {str(host) for host in hosts} <= {'127.0.0.1', 'localhost'}


def wait_for_labels(page, count):
    page.wait_for_function(
        f'document.querySelectorAll(".legend button").length == {count}')


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['mask_rcnn', 'fpn_ade20k', 'imagenet'])
def test_in_a_browser(kind, models, views, serve, tmp_path):
    pytest.importorskip('playwright', reason='needs playwright')
    if browser.CHROMIUM is None:
        pytest.skip('needs chromium (apt-get install chromium)')
    launch, hosts = serve
    result = views[kind].run(models['picture'])
    with browser.visit(launch(kind), models['picture']) as (page, foreign):
        assert browser.download(page) == result.found
        annotations = views[kind].annotate(result, .3, [])
        assert browser.labels(page) == [
            label for _, (_, label) in annotations]
        if kind == 'mask_rcnn':
            page.get_by_label('number input for Score from').fill('0')
            page.keyboard.press('Enter')
            wait_for_labels(page, len(result.found['scores']))
        if kind == 'fpn_ade20k':
            name, (_, label) = annotations[-1]
            page.get_by_label('Classes to show').click()
            page.get_by_role('option', name=name).click()
            wait_for_labels(page, 1)
            assert browser.labels(page) == [label]
        page.screenshot(path=tmp_path / 'page.png')
        assert page.get_by_label('Share').count() == 0
        assert foreign == []
    assert (tmp_path / 'page.png').stat().st_size > 10_000
    assert {str(host) for host in hosts} <= {'127.0.0.1', 'localhost'}
