"""The released weights by name: the right file, or an error."""
import hashlib

import pytest
import torch
from file_server import BASE, CONTENT, names
from mmengine.runner import CheckpointLoader

from mmiformer import IFormer
from mmiformer.backbone import download, weights
from mmiformer.backbone.hub import read_checkpoint


def test_a_file_is_downloaded_once(server, cache, capsys):
    path = weights.find(BASE)
    assert path == cache / 'iformer_base.pth'
    assert path.read_bytes() == CONTENT
    assert names(cache) == ['iformer_base.pth', 'iformer_base.pth.lock']
    bar = capsys.readouterr().err
    assert 'iformer_base.pth' in bar and '1.0/1.0 MB' in bar
    assert weights.find(BASE) == path
    assert server.asked == [('/mirror/iformer_base.pth', None, None)]


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


def test_without_the_setting_it_is_the_release(server, monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append(request.full_url)
        raise OSError('no network')

    monkeypatch.setattr(download, 'urlopen', refuse)
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
