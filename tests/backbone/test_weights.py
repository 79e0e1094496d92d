"""The released weights by name: the whole, right file, or an error.

The server is a real one, on this machine, and it can misbehave."""
import hashlib
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from file_server import Server
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader

from mmiformer import IFormer
from mmiformer.backbone import weights
from mmiformer.backbone.checkpoint import read_checkpoint

BASE = 'mmiformer://iformer_base'  # no sha256 of it is known
CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server that the setting names; an empty cache."""
    MMLogger.get_current_instance()  # not on a test's captured stream
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))
    monkeypatch.setattr(weights, 'PAUSE', 0)
    monkeypatch.setenv('no_proxy', '*')
    with Server() as running:
        running.files['iformer_base.pth'] = CONTENT
        monkeypatch.setenv('MMIFORMER_WEIGHTS', f'{running.url}/mirror/')
        threading.Thread(target=running.serve_forever, args=(0.01, ),
                         daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def cache(tmp_path):
    return tmp_path / 'hub' / 'checkpoints'


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(server, at=300_000):
    """Leaves a part of so many bytes."""
    server.cuts = [at, 0, 0]
    with pytest.raises(ConnectionError):
        weights.find(BASE)
    server.asked.clear()


def test_a_file_is_downloaded_once(server, cache, capsys):
    path = weights.find(BASE)
    assert path == cache / 'iformer_base.pth'
    assert path.read_bytes() == CONTENT
    assert names(cache) == ['iformer_base.pth', 'iformer_base.pth.lock']
    bar = capsys.readouterr().err
    assert 'iformer_base.pth' in bar and '1.0/1.0 MB' in bar
    assert weights.find(BASE) == path
    assert server.asked == [('/mirror/iformer_base.pth', None, None)]


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


def test_the_sha256(server, cache, monkeypatch, tmp_path):
    right = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(weights.SHA256, 'iformer_base', right)
    path = weights.find(BASE)
    assert weights.sha256(path) == right

    wrong = CONTENT[:-1] + b'?'  # of the same size
    refusal = (f'is refused: its sha256 is {hashlib.sha256(wrong).hexdigest()}'
               f" instead of {right}, a third party's figure for "
               'iformer_base.pth.*name the path of a file that you trust '
               'instead of mmiformer://iformer_base')
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match=f'{path} {refusal}'):
        weights.find(BASE)
    assert path.read_bytes() == wrong  # it may have been put there by hand

    path.unlink()
    server.files['iformer_base.pth'] = wrong
    with pytest.raises(ValueError, match=refusal) as error:
        weights.find(BASE)
    assert (f'It came from {server.url}/mirror/iformer_base.pth and has been '
            'removed') in str(error.value)
    assert not list(cache.glob('*.pth')) + list(cache.glob('*.part'))

    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(tmp_path))
    (tmp_path / 'iformer_base.pth').write_bytes(wrong)
    with pytest.raises(ValueError, match=refusal):
        weights.find(BASE)
    assert (tmp_path / 'iformer_base.pth').read_bytes() == wrong


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
    monkeypatch.setattr(weights, 'TIMEOUT', 0.2)
    monkeypatch.setattr(weights, 'ATTEMPTS', 1)
    with pytest.raises(ConnectionError, match='timed out after 300000 of'):
        weights.find(BASE)
    server.gate[2].set()


def test_without_the_setting_it_is_the_release(server, monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise OSError('no network')

    monkeypatch.setattr(weights, 'urlopen', refuse)
    monkeypatch.delenv('MMIFORMER_WEIGHTS')
    url = ('https://huggingface.co/sail/dl2/resolve/main/iformer/'
           'iformer_large_384.pth')
    for source in ('mmiformer://iformer_large_384', url, f'{url}?download=1'):
        with pytest.raises(ConnectionError, match='no network'):
            weights.find(source)
    assert asked == [url] * 3


def test_a_local_folder(server, monkeypatch, tmp_path, cache):
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(tmp_path / 'mine'))
    with pytest.raises(FileNotFoundError) as error:
        weights.find(BASE)
    assert (f'no {tmp_path}/mine/iformer_base.pth: download https://hugging'
            'face.co/sail/dl2/resolve/main/iformer/iformer_base.pth and put '
            'it there, or change MMIFORMER_WEIGHTS') in str(error.value)
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine' / 'iformer_base.pth').write_bytes(CONTENT)
    assert weights.find(BASE) == tmp_path / 'mine' / 'iformer_base.pth'
    with pytest.raises(ValueError, match='damaged'):
        read_checkpoint(BASE)
    assert (tmp_path / 'mine' / 'iformer_base.pth').exists()  # theirs
    assert not cache.exists() and not server.asked


def test_unknown_names_and_schemes(server):
    with pytest.raises(ValueError) as error:
        weights.find('mmiformer://iformer_tiny')
    assert str(error.value) == (
        'mmiformer://iformer_tiny: there are no such weights; choose from '
        'mmiformer://iformer_small, iformer_base, iformer_large, '
        'iformer_small_384, iformer_base_384, iformer_large_384')
    with pytest.raises(ValueError, match='s3://a/b.pth: expected a path, an'):
        weights.find('s3://a/b.pth')
    assert not server.asked


def test_any_other_url_and_path(server, cache, monkeypatch):
    server.files['mine.pth'] = CONTENT
    monkeypatch.setenv('MMIFORMER_WEIGHTS', '/nowhere')  # the six alone
    path = weights.find(f'{server.url}/a/mine.pth?key=1')
    assert path == cache / 'mine.pth' and path.read_bytes() == CONTENT
    assert weights.find(str(path)) == path
    with pytest.raises(FileNotFoundError) as error:
        weights.find(f'{server.url}/gone.pth')
    assert 'MMIFORMER_WEIGHTS' not in str(error.value)
    with pytest.raises(FileNotFoundError, match='no checkpoint.*gone.pth'):
        weights.find(str(cache / 'gone.pth'))


def test_every_road_leads_here(server, tiny, tmp_path, monkeypatch):
    first = IFormer(**tiny)
    torch.save(first.state_dict(), tmp_path / 'w.pth')
    content = (tmp_path / 'w.pth').read_bytes()
    server.files['iformer_base.pth'] = content
    release = f'{weights.RELEASE}iformer_base.pth'
    for source in (BASE, release):
        second = IFormer(**tiny, init_cfg=dict(
            type='Pretrained', checkpoint=source))
        second.init_weights()
        for state in (second.state_dict(), read_checkpoint(source),
                      CheckpointLoader.load_checkpoint(source, 'cpu')):
            assert torch.equal(state['stages.0.pos_embed'],
                               first.state_dict()['stages.0.pos_embed'])
    device = torch.device('meta')  # mmengine's argument is passed on
    state = CheckpointLoader.load_checkpoint(BASE, map_location=device)
    assert state['stages.0.pos_embed'].device == device
    assert len(server.asked) == 1
    monkeypatch.setitem(weights.SHA256, 'iformer_base', 'another')
    for source in (BASE, release):
        with pytest.raises(ValueError, match='instead of another'):
            CheckpointLoader.load_checkpoint(source, 'cpu')


def test_a_damaged_download_does_not_stay(server, cache):
    server.files['iformer_base.pth'] = b'<html>please log in</html>'
    with pytest.raises(ValueError, match='damaged'):
        read_checkpoint(BASE)
    assert names(cache) == ['iformer_base.pth.lock']


def in_thread(results):
    thread = threading.Thread(
        target=lambda: results.append(weights.find(BASE).read_bytes()))
    thread.start()
    return thread


@pytest.mark.parametrize('locks', [True, False])
def test_three_at_once(locks, server, cache, monkeypatch):
    """They take turns; without locks each downloads for itself."""
    if not locks:
        monkeypatch.setattr(weights, 'fcntl', None)
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


def test_an_address_without_a_file_name(server, cache):
    for end in ('', '/', '/a/..', '?file=a.pth'):
        with pytest.raises(ValueError, match='ends in no file name'):
            weights.find(server.url + end)
    assert not cache.exists() and not server.asked


@pytest.mark.parametrize('name, fits', [
    ('net-{:.8}.pth', True), ('net-00000000.pth', False),
    ('net.pth#sha256={}', True), (f'net.pth#sha256={"0" * 64}', False)])
def test_the_digest_in_an_address(name, fits, server, cache):
    url = f'{server.url}/' + name.format(hashlib.sha256(CONTENT).hexdigest())
    file = url.rpartition('/')[2].partition('#')[0]
    server.files[file] = CONTENT
    if fits:
        assert weights.find(url) == cache / file
        return
    for place in ('server', 'cache'):
        with pytest.raises(ValueError, match='refused: its sha256 is.*'
                           'begins with 00000000'):
            weights.find(url)
        if place == 'server':
            assert names(cache) == [f'{file}.lock']
        (cache / file).write_bytes(CONTENT)


def test_anothers_file_is_not_taken_for_the_authors(server, cache):
    server.files['iformer_base.pth'] = b'theirs'
    host = server.url.partition('://')[2].replace(':', '_')
    other = weights.find(f'{server.url}/elsewhere/iformer_base.pth')
    assert other == cache / f'{host}-iformer_base.pth'
    server.files['iformer_base.pth'] = CONTENT
    assert weights.find(BASE).read_bytes() == CONTENT


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
    monkeypatch.setattr(weights, 'urlopen', lambda request, timeout: Answer())
    with pytest.raises(ValueError, match='sends on to http://other/mine.pth, '
                       'which is refused: it is no https'):
        weights.find('https://first/mine.pth')
    assert names(cache) == ['mine.pth.lock']


def test_a_server_that_never_ends(server, cache, monkeypatch):
    monkeypatch.setattr(weights, 'MOST', len(CONTENT) - 1)
    server.files['mine.pth'] = CONTENT
    with pytest.raises(ValueError, match='the server has more than'):
        weights.find(f'{server.url}/mine.pth')
    assert names(cache) == ['mine.pth.lock']
