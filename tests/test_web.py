"""The page in the browser: what it shows, and that it stays on this machine."""
import contextlib
import importlib
import json
import os
import socket
import urllib.request
from pathlib import Path

import browser
import cv2
import numpy as np
import pytest
from conftest import ROOT
from tiny_models import save

from mmiformer.kit.predict import Predictor

KINDS = 'mask_rcnn', 'fpn_ade20k', 'imagenet'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A picture, and config and weights of a model of each kind."""
    folder = tmp_path_factory.mktemp('web')
    noise = np.random.RandomState(0).randint(0, 255, (96, 128, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        cv2.imwrite('photo.png', noise)
        for kind in KINDS:
            save(ROOT / 'configs', kind, kind)
    return folder


@pytest.fixture(scope='module')
def web():
    """The module: gradio takes seconds, and may be missing."""
    pytest.importorskip('gradio', reason='the page needs gradio')
    return importlib.import_module('mmiformer.kit.web')


def load(folder, kind, **options):
    return Predictor(str(folder / f'{kind}.py'),
                     str(folder / f'{kind}.pth'), **options)


@pytest.fixture
def serve(web, folder, monkeypatch):
    """Serves a page; notes where this process connects to meanwhile."""
    hosts, connect, lookup = (
        set(), socket.socket.connect, socket.getaddrinfo)
    monkeypatch.setattr(socket.socket, 'connect', lambda self, address: (
        hosts.add(address[0]), connect(self, address))[1])
    monkeypatch.setattr(socket, 'getaddrinfo', lambda host, *args, **kwargs: (
        hosts.add(host), lookup(host, *args, **kwargs))[1])

    with contextlib.ExitStack() as stack:
        yield lambda kind: stack.enter_context(
            web.serve(load(folder, kind), 'a title')).local_url, hosts


@pytest.mark.parametrize('kind', KINDS)
def test_the_page_shows_what_predict_writes(kind, web, folder, tmp_path):
    page = web.build_page(load(folder, kind), 'a title')
    predict = page.fns[0].fn
    picture = str(folder / 'photo.png')
    for threshold in (0., .5):
        shown, text = predict(picture, threshold)
        summary = load(folder, kind, out=tmp_path, threshold=threshold
                       ).predict(picture, 'photo')
        assert text == summary.split(': ')[1]
        # matplotlib blends the masks of two runs not quite alike.
        written = cv2.imread(str(tmp_path / 'vis/photo.png'))[..., ::-1]
        assert np.abs(np.int16(shown) - written).mean() < 1
        if kind == 'mask_rcnn':
            found = json.loads((tmp_path / 'preds/photo.json').read_text())
            number = sum(score >= threshold for score in found['scores'])
            assert text == 'nothing' if number == 0 else number == sum(
                int(part.split()[0]) for part in text.split(', '))
    assert predict(None, .3) == (None, '')
    (tmp_path / 'a.jpg').write_bytes(b'not a picture')
    with pytest.raises(Exception, match=r'a\.jpg'):
        predict(str(tmp_path / 'a.jpg'), .3)


def test_the_page_is_for_this_machine(serve, monkeypatch):
    for name in ('SERVER_NAME', 'SHARE', 'ANALYTICS_ENABLED'):
        monkeypatch.setenv(f'GRADIO_{name}', dict(
            SERVER_NAME='0.0.0.0').get(name, 'True'))
    launch, hosts = serve
    with monkeypatch.context() as proxy:  # which cannot reach this machine
        proxy.setenv('http_proxy', 'http://127.0.0.1:9')
        proxy.setenv('no_proxy', 'host')
        address = launch('imagenet')
        pictures = Path(os.environ['GRADIO_TEMP_DIR'])
        assert pictures.stat().st_mode & 0o77 == 0
    assert address.startswith('http://127.0.0.1:')
    port = int(address.strip('/').rpartition(':')[2])
    with urllib.request.urlopen(f'{address}config') as answer:
        config = json.load(answer)
    assert config['analytics_enabled'] is config['run_history'] is False
    # Another address of the loopback; it would answer at 0.0.0.0.
    with socket.socket() as other:
        assert other.connect_ex(('127.0.0.2', port)) != 0
    assert {str(host) for host in hosts} <= {'127.0.0.1', 'localhost'}


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_in_a_browser(kind, folder, serve, tmp_path):
    pytest.importorskip('playwright', reason='needs playwright')
    if browser.CHROMIUM is None:
        pytest.skip('needs chromium (apt-get install chromium)')
    launch, hosts = serve
    picture = folder / 'photo.png'
    summary = load(folder, kind, out=tmp_path).predict(str(picture), 'photo')
    with browser.visit(launch(kind), picture) as (page, foreign):
        assert browser.found(page) == summary.split(': ')[1]
        assert page.get_by_label('Share').count() == 0
        assert foreign == []
    assert {str(host) for host in hosts} <= {'127.0.0.1', 'localhost'}
