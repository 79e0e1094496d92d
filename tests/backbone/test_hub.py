"""Finding checkpoints: by the authors' names, by URL, by path."""
import hashlib
import os
import subprocess
import sys
import time

import huggingface_hub
import pytest
import torch
from conftest import needs_version, set_hub
from file_server import REPO
from mmengine.runner import CheckpointLoader

from mmiformer import IFormer
from mmiformer.backbone import hub
from mmiformer.checkpoint import find, read_checkpoint

BASE = 'mmiformer://iformer_base'
PLACE = f'{REPO}iformer/iformer_base.pth'
URL = f'https://huggingface.co{PLACE}'
CONTENT = bytes(range(256)) * 4000  # 1,024,000 bytes


@pytest.fixture
def served(server, monkeypatch):
    """The server with one of the authors' files; retries do not wait."""
    server.files[PLACE] = CONTENT
    monkeypatch.setattr(time, 'sleep', lambda seconds: None)
    return server


def files(folder):
    """Those of a cache that have a content of the server's."""
    return [path for path in folder.rglob('*') if path.is_file()
            and path.stat().st_size > 1000]


@pytest.mark.parametrize('source', [BASE, URL, f'{URL}?download=true'])
def test_an_authors_file_is_downloaded_once(source, served, empty_cache):
    path = find(source)
    assert path.read_bytes() == CONTENT
    assert path.name == 'iformer_base.pth' and empty_cache in path.parents
    assert find(BASE) == path
    assert len(downloads(served)) == 1


def downloads(served):
    """What was asked for a content; the library asks for other things, too."""
    return [entry for entry in served.asked
            if entry[0] == 'GET' and 'storage' in entry[1]]


@needs_version('huggingface_hub', '2.0')
def test_a_dropped_connection_is_tried_again(served):
    served.cuts = [300_000, 200_000]
    assert find(BASE).read_bytes() == CONTENT
    assert len(downloads(served)) == 3


def test_a_truncated_file_is_an_error_and_not_kept(served, empty_cache):
    served.cuts = [300_000] + [0] * 20
    with pytest.raises(ConnectionError) as error:
        find(BASE)
    assert_helpful(error)
    assert not files(empty_cache)
    served.cuts = []
    assert find(BASE).read_bytes() == CONTENT


def test_a_damaged_download_can_be_mended(served):
    """By removing what the error names; the cache has links to its files."""
    with pytest.raises(ValueError, match='damaged.*remove') as error:
        read_checkpoint(BASE)
    named = str(error.value).partition('remove ')[2].partition(' and ')[0]
    assert find(BASE).read_bytes() == CONTENT and len(downloads(served)) == 1
    os.remove(named)
    find(BASE)
    assert len(downloads(served)) == 2


def assert_helpful(error):
    for words in (BASE, 'HF_ENDPOINT', 'MMIFORMER_WEIGHTS', URL):
        assert words in str(error.value)


@pytest.mark.parametrize('status, kind', [
    (None, FileNotFoundError), (404, FileNotFoundError),
    (503, ConnectionError), (403, ConnectionError)])
def test_a_server_that_refuses(status, kind, served, empty_cache):
    served.status = status
    if not status:
        served.files.clear()
    with pytest.raises(kind, match=str(status or 404)) as error:
        find(BASE)
    assert_helpful(error)
    assert not files(empty_cache)


@pytest.mark.parametrize('cached', [False, True])
@pytest.mark.parametrize('how', ['HF_HUB_OFFLINE', 'no network'])
def test_offline(how, cached, served, monkeypatch):
    path = find(BASE) if cached else None
    kind = ConnectionError
    if how == 'no network':
        served.shutdown()
        served.server_close()
    else:
        kind = FileNotFoundError
        set_hub(monkeypatch, HF_HUB_OFFLINE=True)
    if cached:
        assert find(BASE) == path
        return
    with pytest.raises(kind) as error:
        find(BASE)
    assert_helpful(error)


def test_the_librarys_own_settings(served, tmp_path):
    """A mirror and a cache by environment, as users set them."""
    result = subprocess.run(
        [sys.executable, '-c', 'from mmiformer.checkpoint import find; '
         f'print(find({BASE!r}))'], text=True, capture_output=True,
        env=dict(os.environ, HF_ENDPOINT=served.url, HF_HUB_OFFLINE='0',
                 HF_HUB_CACHE=str(tmp_path / 'mine')))
    assert result.stdout.startswith(str(tmp_path / 'mine')), result.stderr
    assert len(downloads(served)) == 1


def test_a_full_disk_is_no_network_problem(served, monkeypatch):
    def fail(*args):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', fail)
    with pytest.raises(OSError, match='No space left') as error:
        find(BASE)
    assert not isinstance(error.value, (ConnectionError, FileNotFoundError))


def test_a_local_folder(served, monkeypatch, tmp_path):
    monkeypatch.setenv('MMIFORMER_WEIGHTS', str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        find(BASE)
    for words in (f'{tmp_path}/iformer_base.pth', URL, 'MMIFORMER_WEIGHTS'):
        assert words in str(error.value)
    (tmp_path / 'iformer_base.pth').write_bytes(CONTENT)
    assert find(BASE) == tmp_path / 'iformer_base.pth'
    assert not served.asked


def test_unknown_names_and_schemes():
    with pytest.raises(ValueError) as error:
        find('mmiformer://iformer_tiny')
    assert 'iformer_tiny' in str(error.value)
    assert all(name in str(error.value) for name in hub.RELEASED)
    with pytest.raises(ValueError, match='s3://a/b.pth: expected a path, an'):
        find('s3://a/b.pth')


def test_any_other_url(server, empty_cache):
    for folder in ('a', 'b'):  # the same file name, other weights
        server.files[f'/{folder}/mine.pth'] = folder.encode()
    for folder in ('a', 'b', 'a'):
        path = find(f'{server.url}/{folder}/mine.pth?key=1')
        assert path.read_bytes() == folder.encode()
        assert path.parent == empty_cache / 'checkpoints'
    assert len(server.asked) == 2
    for end in ('', '/', '/a/..', '?file=a.pth'):
        with pytest.raises(ValueError, match='ends in no file name'):
            find(server.url + end)


@pytest.mark.parametrize('status, kind', [
    (404, FileNotFoundError), (503, ConnectionError)])
def test_a_url_that_is_refused(status, kind, server, empty_cache):
    server.status = status
    with pytest.raises(kind, match=f'gone.pth.*{status}'):
        find(f'{server.url}/gone.pth')
    assert not files(empty_cache)


@pytest.mark.parametrize('name, kind', [
    (f'net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth', None),
    ('net-0000000a.pth', ValueError), ('net-20240115.pth', None)])
def test_the_digest_in_a_url(name, kind, server, empty_cache):
    server.files[f'/{name}'] = CONTENT
    if kind:
        with pytest.raises(kind, match=f'{name}.*0000000a'):
            find(f'{server.url}/{name}')
        assert not files(empty_cache)
    else:
        path = find(f'{server.url}/{name}')
        assert path.read_bytes() == CONTENT and path.name.endswith(name)


def test_every_way_to_load(served, tiny, tmp_path):
    first = IFormer(**tiny)
    torch.save(first.state_dict(), tmp_path / 'w.pth')
    served.files[PLACE] = (tmp_path / 'w.pth').read_bytes()
    for source in (BASE, URL):
        second = IFormer(**tiny, init_cfg=dict(
            type='Pretrained', checkpoint=source))
        second.init_weights()
        for state in (second.state_dict(), read_checkpoint(source)):
            assert torch.equal(state['stages.0.pos_embed'],
                               first.state_dict()['stages.0.pos_embed'])
    device = torch.device('meta')  # mmengine's argument is passed on
    state = CheckpointLoader.load_checkpoint(BASE, map_location=device)
    assert state['stages.0.pos_embed'].device == device
