"""Downloads: all of the right file, or an error; nothing twice.

The server is a real one, on this machine, and it can misbehave."""
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from file_server import BASE, CONTENT, names

from mmiformer.backbone import download, weights
from mmiformer.backbone.hub import read_checkpoint


def interrupt(server, at=300_000):
    """Leaves a part of so many bytes."""
    server.cuts = [at, 0, 0]
    with pytest.raises(ConnectionError):
        weights.find(BASE)
    server.asked.clear()


def test_an_interrupted_download_goes_on(server, cache):
    server.cuts = [300_000, 0, 0]
    with pytest.raises(ConnectionError) as error:
        weights.find(BASE)
    assert (f'{server.url}/mirror/iformer_base.pth cannot be downloaded (the '
            'connection dropped after 300000 of 1024000 bytes, which are '
            'kept)') in str(error.value)
    assert not (cache / 'iformer_base.pth').exists()
    part = cache / 'iformer_base.pth.part'
    assert part.read_bytes() == CONTENT[:300_000]
    server.asked.clear()
    assert weights.find(BASE).read_bytes() == CONTENT
    assert server.asked == [
        ('/mirror/iformer_base.pth', 'bytes=300000-', '"one"')]
    assert names(cache) == ['iformer_base.pth', 'iformer_base.pth.lock']


def test_a_dropped_connection_is_tried_again(server):
    server.cuts = [100_000, 200_000]
    assert weights.find(BASE).read_bytes() == CONTENT
    assert [request[1] for request in server.asked] == [
        None, 'bytes=100000-', 'bytes=300000-']


def test_a_server_that_sends_less_than_the_rest(server):
    interrupt(server)
    server.most, server.terse = 400_000, True
    assert weights.find(BASE).read_bytes() == CONTENT
    assert [request[1] for request in server.asked] == [
        'bytes=300000-', 'bytes=700000-']


def test_a_server_that_sends_another_span(server):
    interrupt(server)
    server.early = 100
    assert weights.find(BASE).read_bytes() == CONTENT
    assert [request[1] for request in server.asked] == ['bytes=300000-', None]


def test_a_server_without_ranges(server):
    interrupt(server)
    server.ranges = False
    assert weights.find(BASE).read_bytes() == CONTENT
    assert server.asked == [
        ('/mirror/iformer_base.pth', 'bytes=300000-', '"one"')]


@pytest.mark.parametrize('if_range', [True, False])
def test_a_file_that_has_changed_starts_anew(if_range, server):
    interrupt(server)
    server.files['iformer_base.pth'] = CONTENT[::-1]
    server.headers, server.if_range = {'ETag': '"two"'}, if_range
    assert weights.find(BASE).read_bytes() == CONTENT[::-1]
    assert len(server.asked) == (1 if if_range else 2)


def test_a_file_that_has_shrunk_starts_anew(server):
    interrupt(server)
    server.files['iformer_base.pth'], server.if_range = CONTENT[:1000], False
    assert weights.find(BASE).read_bytes() == CONTENT[:1000]
    assert [request[1] for request in server.asked] == ['bytes=300000-', None]


@pytest.mark.parametrize('headers, if_range', [
    ({'Last-Modified': 'Mon, 01 Jan 2024 00:00:00 GMT'},
     'Mon, 01 Jan 2024 00:00:00 GMT'),
    ({'ETag': 'W/"weak"'}, None), ({}, None)])
def test_what_else_may_vouch_for_a_part(headers, if_range, server):
    server.headers = headers
    interrupt(server)
    assert weights.find(BASE).read_bytes() == CONTENT
    (asked, ) = server.asked
    assert asked[1:] == ('bytes=300000-' if if_range else None, if_range)


def test_a_part_of_another_address_is_not_continued(server, monkeypatch):
    interrupt(server)
    monkeypatch.setenv('MMIFORMER_WEIGHTS', f'{server.url}/other')
    assert weights.find(BASE).read_bytes() == CONTENT
    assert server.asked == [('/other/iformer_base.pth', None, None)]


def test_a_server_that_declares_no_size(server):
    server.headers = {'Content-Length': ''}
    server.cuts = [300_000]
    weights.find(BASE)
    with pytest.raises(ValueError, match='is damaged.*300000 bytes'):
        read_checkpoint(BASE)
    assert weights.find(BASE).read_bytes() == CONTENT  # it did not stay


@pytest.mark.parametrize('status, kind, message', [
    (404, FileNotFoundError, 'the server answers 404 Not Found; check the'),
    (503, ConnectionError,
     'the server answers 503 Service Unavailable; try again later')])
def test_a_server_that_refuses(status, kind, message, server, cache):
    server.status = status
    with pytest.raises(kind) as error:
        weights.find(BASE)
    assert f'{server.url}/mirror/iformer_base.pth: {message}' in str(
        error.value)
    assert f'put iformer_base.pth at {cache}/iformer_base.pth by hand' in str(
        error.value)
    assert names(cache) == ['iformer_base.pth.lock']
    assert len(server.asked) == 1


@pytest.mark.parametrize('kept', [0, 300_000])
def test_offline(kept, server, cache):
    if kept:
        interrupt(server, kept)
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError) as error:
        weights.find(BASE)
    message = str(error.value)
    assert f'{server.url}/mirror/iformer_base.pth cannot be' in message
    assert 'Connection refused' in message
    assert (f'; {kept} bytes are kept)' in message) == bool(kept)
    assert (f'put iformer_base.pth at {cache}/iformer_base.pth by hand, or '
            'set the environment variable MMIFORMER_WEIGHTS') in message
    cache.joinpath('iformer_base.pth').write_bytes(b'by hand')
    assert weights.find(BASE).read_bytes() == b'by hand'


def test_a_server_that_falls_silent(server, monkeypatch):
    server.gate = 300_000, threading.Event(), threading.Event()
    monkeypatch.setattr(download, 'TIMEOUT', 0.2)
    monkeypatch.setattr(download, 'ATTEMPTS', 1)
    with pytest.raises(ConnectionError, match='timed out after 300000 of'):
        weights.find(BASE)
    server.gate[2].set()


def test_a_server_that_sends_on_to_another_protocol(server, cache, tmp_path):
    (tmp_path / 'secret').write_bytes(CONTENT)
    server.location = f'file://{tmp_path}/secret'
    with pytest.raises(FileNotFoundError, match='answers 302'):
        weights.find(f'{server.url}/mine.pth')
    assert not (cache / 'mine.pth').exists()


def test_from_https_to_http(monkeypatch, cache, tmp_path):
    class Answer:
        status = 200

        def geturl(self):
            return 'http://other/mine.pth'

        def close(self):
            pass

    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.setattr(download, 'urlopen', lambda request, timeout: Answer())
    with pytest.raises(ValueError, match='sends on to http://other/mine.pth, '
                       'which is refused: it is no https'):
        weights.find('https://first/mine.pth')
    assert names(cache) == ['mine.pth.lock']


def test_a_server_that_never_ends(server, cache, monkeypatch):
    monkeypatch.setattr(download, 'MOST', len(CONTENT) - 1)
    server.files['mine.pth'] = CONTENT
    with pytest.raises(ValueError, match='the server has more than'):
        weights.find(f'{server.url}/mine.pth')
    assert names(cache) == ['mine.pth.lock']


def in_thread(results):
    thread = threading.Thread(
        target=lambda: results.append(weights.find(BASE).read_bytes()))
    thread.start()
    return thread


@pytest.mark.parametrize('locks', [True, False])
def test_three_at_once(locks, server, cache, monkeypatch):
    """They take turns; without locks each downloads for itself."""
    if not locks:
        monkeypatch.setattr(download, 'fcntl', None)
    server.gate = 300_000, threading.Event(), threading.Event()
    results = []
    threads = [in_thread(results) for _ in range(3)]
    server.gate[1].wait(20)
    time.sleep(0.2)  # for the others to ask, if they would
    server.gate[2].set()
    for thread in threads:
        thread.join(20)
    assert results == [CONTENT] * 3
    assert len(server.asked) == (1 if locks else 3)
    assert names(cache) == ['iformer_base.pth', 'iformer_base.pth.lock']


def test_a_process_that_is_killed_is_relieved(server, tmp_path, cache):
    """By one that has been waiting, and goes on where it ended."""
    server.gate = 600_000, threading.Event(), threading.Event()
    first = subprocess.Popen([sys.executable, '-W', 'ignore', '-c', (
        'import torch; from mmiformer.backbone import weights; '
        f'torch.hub.set_dir({str(tmp_path / "hub")!r}); '
        f'weights.find({BASE!r})')])
    try:
        assert server.gate[1].wait(60)
        part = cache / 'iformer_base.pth.part'
        while not part.is_file() or not part.stat().st_size:
            time.sleep(0.01)
        results = []
        second = in_thread(results)
        time.sleep(0.2)
        assert len(server.asked) == 1
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    # By now the second may have all of it, and the part its final name.
    server.gate[2].set()
    server.gate = None
    second.join(20)
    assert results == [CONTENT]
    start = int(server.asked[1][1].removeprefix('bytes=').removesuffix('-'))
    assert 0 < start <= 600_000
