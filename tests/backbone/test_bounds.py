"""A small file cannot ask for much memory or time, and damage is noticed."""
import io
import pickle
import re
import struct
import time
import warnings
import zipfile

import pytest
import torch
from conftest import TINY

from mmiformer import IFormer
from mmiformer.backbone import bounds, checkpoint
from mmiformer.backbone.bounds import check_bounds
from mmiformer.backbone.hub import load_pretrained, read_checkpoint


def save(path, zipped=True, **content):
    torch.save(dict(content or dict(a=torch.arange(1000.))), path,
               _use_new_zipfile_serialization=zipped)
    return path


def rezip(path, change, compression=zipfile.ZIP_STORED, **more):
    """The archive with another data.pkl, and more entries."""
    old, out = zipfile.ZipFile(io.BytesIO(path.read_bytes())), io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(
            out, 'w', compression) as new:
        warnings.simplefilter('ignore')  # of names that come twice
        for name in old.namelist():
            content = old.read(name)
            new.writestr(name, change(content) if name.endswith('data.pkl')
                         else content)
        for name, content in more.items():
            new.writestr(name.replace('__', '/'), content)
    path.write_bytes(out.getvalue())


def refuse(path, why):
    with pytest.raises(ValueError) as error:
        check_bounds(path)
    assert re.search(why, str(error.value)), error.value
    start = time.monotonic()
    with pytest.raises(ValueError, match='is damaged or no checkpoint, .*'
                       'download or copy it again'):
        read_checkpoint(str(path))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize('zipped', [True, False])
def test_what_torch_writes_passes(zipped, tmp_path):
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    shared = torch.arange(6.)
    kinds = [torch.ones(3, dtype=kind) for kind in (
        torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool,
        torch.complex64, torch.complex128, torch.int16, torch.uint8)]
    content = dict(
        state_dict=layer.state_dict(), optimizer=optimizer.state_dict(),
        kinds=kinds, views=[shared, shared[2:], shared.view(2, 3).T],
        empty=torch.ones(0), scalar=torch.tensor(3), text='a' * 300,
        pair=(1, ) * 4, expanded=torch.ones(1).expand(5))
    path = save(tmp_path / 'a.pth', zipped, **content)
    check_bounds(path)
    loaded = read_checkpoint(str(path))
    assert torch.equal(loaded['views'][2], shared.view(2, 3).T)
    assert loaded['expanded'].tolist() == [1] * 5


def test_a_compressed_archive(tmp_path):
    path = save(tmp_path / 'a.pth', a=torch.zeros(10**6))
    rezip(path, lambda content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10**5
    refuse(path, 'it has compressed entries')


def test_entries_that_overlap(tmp_path):
    """Two thousand names for the same megabyte."""
    path = save(tmp_path / 'a.pth', a=torch.zeros(2**18))
    data = path.read_bytes()
    end = data.rindex(b'PK\5\6')
    size, start = struct.unpack('<II', data[end + 12:end + 20])
    central = data[start:start + size]
    at = central.index(b'a/data/0') - 46
    record = central[at:central.index(b'PK\1\2', at + 4)]
    more = b''.join(record.replace(b'a/data/0', b'a/data/%d' % i)
                    for i in range(1, 9))
    path.write_bytes(data[:start] + central + more + b'PK\5\6' + struct.pack(
        '<HHHHIIH', 0, 0, 15, 15, size + len(more), start, 0))
    refuse(path, 'entries overlap|Overlapped')


@pytest.mark.parametrize('name, why', [
    ('..__..__ran', 'leads out of it'), ('a__..__ran', 'leads out of it'),
    ('__etc__ran', 'leads out of it'), ('C:__ran', 'leads out of it'),
    ('a__data__1x', 'none of torch.save'), ('A__data__0', 'overlap'),
    ('b__data.pkl', 'no data.pkl, or several')])
def test_names_of_entries(name, why, tmp_path):
    path = save(tmp_path / 'a.pth')
    rezip(path, lambda content: content, **{name: b''})
    refuse(path, why)


@pytest.mark.parametrize('change, why', [
    (lambda data: b'x' * 40 + data, 'another checksum|pickle|UTF|utf|opcode'),
    (lambda data: data[:-2] + b'\4\0note', 'begin and end')])
def test_what_stands_around_an_archive(change, why, tmp_path):
    path = save(tmp_path / 'a.pth')
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=why):
        check_bounds(path)


def test_a_bit_that_flipped_in_the_weights(tmp_path):
    """torch itself would load it."""
    path = save(tmp_path / 'a.pth')
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack('<4f', 500, 501, 502, 503))
    data[at + 3] ^= 1
    path.write_bytes(data)
    assert not torch.equal(torch.load(path, weights_only=True)['a'],
                           torch.arange(1000.))
    refuse(path, "'a/data/0' has another checksum")


@pytest.mark.parametrize('zipped', [True, False])
def test_storages_larger_than_the_file(zipped, tmp_path):
    path = save(tmp_path / 'a.pth', zipped)
    number, huge = struct.pack('<cH', b'M', 1000), struct.pack(
        '<ci', b'J', 2**31 - 1)
    if zipped:
        rezip(path, lambda content: content.replace(number, huge))
        refuse(path, 'storage 0 has fewer than the 8589934588 bytes')
    else:
        path.write_bytes(path.read_bytes().replace(number, huge))
        refuse(path, 'storages should have 8589934588 bytes, it has 4008')


def test_storages_without_content(tmp_path):
    """torch would give what happens to be in memory."""
    path = save(tmp_path / 'a.pth', zipped=False)
    data = path.read_bytes()
    keys = data.rindex(b'\x80\x02]q\0')
    path.write_bytes(data[:keys] + pickle.dumps([], 2) + data[keys:])
    torch.load(path, weights_only=True)
    refuse(path, 'have no content')


def tower(levels):
    """Written out, 2 ** levels times the innermost pair."""
    pair = ()
    for _ in range(levels):
        pair = (pair, pair)
    return pair


def test_structures_that_are_walked_forever(tmp_path):
    """As a key the tower would be hashed, as a function it would be printed
    into the error: neither would end."""
    # {tower: None}
    key = b'\x80\x02}(' + pickle.dumps(tower(60), 2)[2:-1] + b'Nu.'
    # tower of lists, called
    call = b'\x80\x02]' + b''.join(
        b'q%c0]h%ca' % (i, i) + b'h%ca' % i for i in range(60)) + b')R.'
    for content in (key, call):
        path = save(tmp_path / 'a.pth')
        rezip(path, lambda _, content=content: content)
        refuse(path, 'nested too deeply, or refers to itself too often')


def test_structures_that_are_too_deep(tmp_path):
    """Hashing it would overflow the interpreter's stack."""
    path = save(tmp_path / 'a.pth')
    rezip(path, lambda _: b'\x80\x02})' + b'\x85' * 10**6 + b'Ns.')
    refuse(path, 'nested too deeply')


def test_what_is_changed_after_it_was_referred_to(tmp_path):
    """By which the sizes would be counted too small."""
    path = save(tmp_path / 'a.pth')
    rezip(path, lambda _: b'\x80\x02]q\0]q\1h\0ah\0h\1a.')
    refuse(path, 'changes what it has referred to')


def test_endless_operations(tmp_path, monkeypatch):
    monkeypatch.setattr(bounds, 'MOST_OPERATIONS', 1000)
    path = save(tmp_path / 'a.pth', a=list(range(1000)))
    refuse(path, 'more than 1000 operations')


def test_the_old_format_needs_a_torch_that_guards_it(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, 'GUARDED', False)
    read_checkpoint(str(save(tmp_path / 'a.pth')))
    with pytest.raises(ValueError, match='is refused.*torch 2.6 or later'):
        read_checkpoint(str(save(tmp_path / 'a.pth', zipped=False)))


def test_a_file_that_holds_itself(tmp_path):
    content = dict(stem=torch.ones(2))
    content['model'] = content['state_dict'] = content
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    with pytest.raises(ValueError, match='matches no tensor of the iFormer'):
        load_pretrained(IFormer(TINY, pretrain_img_size=32), str(path))


def test_position_maps_of_more_than_is_stored(tmp_path):
    """A view of one number, as large as one likes, which resizing would
    write out."""
    model = IFormer(TINY, pretrain_img_size=32)
    state = model.state_dict()
    state['stages.0.pos_embed'] = torch.ones(1).expand(1, 10**5, 10**5, 16)
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'pos_embed \(1, 100000, 100000, 16\)'
                       ' is empty, or more than the 4 bytes stored for it'):
        load_pretrained(model, str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('value', [
    3, 'text', torch.ones(1, 8, 8, 16).to_sparse(), torch.ones(3),
    torch.ones(1, 8, 8, 16, device='meta'), torch.ones(1, 0, 8, 16)])
def test_what_is_no_weight(value, tmp_path):
    model = IFormer(TINY, pretrain_img_size=32)
    state = dict(model.state_dict(), **{'stages.0.pos_embed': value})
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='a.pth'):
        load_pretrained(model, str(tmp_path / 'a.pth'))
