"""Opening checkpoints: tensors, numbers and mmengine's training history, but
no code; and each error is what it is."""
import collections
import contextlib
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from torch import nn

from mmiformer import checkpoint as hub
from mmiformer import compat
from mmiformer.checkpoint import (
    force_weights_only,
    opened_safely,
    read_checkpoint,
)

FORCE = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
FORCE_NO = 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


class Call:
    """Calls a function where it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.fixture
def evil(tmp_path):
    """A file that leaves another behind, called ``ran``, if its code runs."""
    path = tmp_path / 'evil.pth'
    torch.save(dict(state_dict=Call(open, str(tmp_path / 'ran'), 'w')), path)
    return path


@pytest.fixture(params=[compat.TORCH, (2, 1)], ids=str, autouse=True)
def reader(request, monkeypatch):
    """The way to open files on this torch, and that on an old one."""
    monkeypatch.setattr(compat, 'TORCH', request.param)
    return request.param


def has_run(path):
    return path.with_name('ran').exists()


@pytest.mark.parametrize('variable', [None, FORCE, FORCE_NO])
@pytest.mark.parametrize('kind', ['zip', 'old', 'pickle', 'tar'])
def test_code_in_a_file_is_not_run(kind, variable, evil, monkeypatch):
    if variable:
        monkeypatch.setenv(variable, '1')
    code = dict(state_dict=Call(open, str(evil.with_name('ran')), 'w'))
    if kind == 'old':
        torch.save(code, evil, _use_new_zipfile_serialization=False)
    elif kind != 'zip':
        evil.write_bytes(pickle.dumps(code))
    if kind == 'tar':  # torch's oldest format
        content = evil.rename(evil.with_name('pickle'))
        with tarfile.open(evil, 'w') as tar:
            for name in ('storages', 'tensors', 'pickle'):
                tar.add(content, name)
    with pytest.raises(ValueError, match='evil.pth is') as error:
        read_checkpoint(str(evil))
    assert not has_run(evil) and evil.exists()
    if kind in ('zip', 'old'):
        assert 'io.open' in str(error.value)
        monkeypatch.delenv(FORCE, raising=False)
        torch.load(evil, weights_only=False)
        assert has_run(evil)  # it does run where nobody is careful


def test_training_history(tmp_path):
    history = HistoryBuffer([1., 2., 4.], [1, 1, 2])
    history.update(np.float64(3.5).item())
    path = str(tmp_path / 'epoch_1.pth')
    torch.save(dict(loss=history, mIoU=np.float64(.5), best=np.int32(7)), path)
    content = read_checkpoint(path)
    assert (content['mIoU'], content['best']) == (.5, 7)
    loaded = content['loss']
    assert loaded.data[0].tolist() == [1., 2., 4., 3.5]
    assert loaded.mean() == history.mean()
    with pytest.raises(pickle.UnpicklingError):  # nobody else's affair
        torch.load(path, weights_only=True)
    force_weights_only()  # as the tools do
    assert CheckpointLoader.load_checkpoint(path)['mIoU'] == .5


def test_the_process_is_as_before(tmp_path):
    """In other threads, too: what is allowed is allowed for a block alone."""
    path = str(tmp_path / 'x.pth')
    torch.save(dict(loss=HistoryBuffer([1.], [1])), path)
    names = getattr(torch.serialization, 'get_safe_globals', list)
    before = dict(os.environ), {*names()}, torch.jit.load
    with ThreadPoolExecutor(4) as pool:
        contents = [*pool.map(read_checkpoint, [path] * 40)]
    assert {content['loss'].mean() for content in contents} == {1.}
    assert (dict(os.environ), {*names()}, torch.jit.load) == before
    with opened_safely():
        assert CheckpointLoader.load_checkpoint(path)['loss'].mean() == 1.


@pytest.mark.parametrize('content, word', [
    (Call(eval, '1 + 1'), 'eval'),
    (np.array([Call(eval, '1 + 1')], dtype=object), ''),
    # getattr is allowed for the names of a HistoryBuffer's methods alone.
    (Call(getattr, HistoryBuffer, '__init__'), '__init__'),
    (Call(getattr, np.ndarray, 'tofile'), 'tofile')])
def test_everything_else_is_refused(content, word, tmp_path):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match='x.pth is') as error:
        read_checkpoint(str(tmp_path / 'x.pth'))
    assert word in str(error.value)


def test_a_program_of_torch_is_refused(tmp_path):
    path = str(tmp_path / 'x.pth')
    torch.jit.save(torch.jit.trace(nn.ReLU(), torch.ones(1)), path)
    with pytest.raises(ValueError, match='x.pth is.*refused'):
        read_checkpoint(path)


def test_a_file_changes_no_class(tmp_path):
    """The last instruction sets an attribute of what is named before it."""
    state = pickle.dumps((None, dict(changed=1)), protocol=2)[2:-1]
    (tmp_path / 'x.pth').write_bytes(
        b'\x80\x02ccollections\nCounter\n' + state + b'b.')
    with pytest.raises(ValueError, match='x.pth is'):
        read_checkpoint(str(tmp_path / 'x.pth'))
    assert not hasattr(collections.Counter, 'changed')


class Build:
    """Is built in a file by a call, and then given a state."""

    def __init__(self, call, state):
        self.call, self.state = call, state

    def __reduce__(self):
        return (*self.call, self.state)


@pytest.mark.parametrize('content', [
    # A class-level table of HistoryBuffer, updated by its __setstate__.
    Build((HistoryBuffer, ()), dict(_statistics_methods=dict(mean=len))),
    # NumPy trusts what it is told of an object's memory.
    *(Build((np.dtype, (code, False, True)),
            (3, '|', None, None, None, 8, 1, 63)) for code in ('V8', 'O')),
    # A function that returns its argument gives access to classes.
    Call(torch._tensor._rebuild_from_type_v2, HistoryBuffer.current,
         torch.Tensor, (), dict(changed=1))])
def test_a_file_reaches_neither_classes_nor_memory(content, tmp_path):
    torch.save(content, tmp_path / 'x.pth')
    methods = dict(HistoryBuffer._statistics_methods)
    with pytest.raises(ValueError, match='x.pth is'):
        read_checkpoint(str(tmp_path / 'x.pth'))
    assert HistoryBuffer._statistics_methods == methods
    assert not hasattr(torch.Tensor, 'changed')


def test_a_state_dict_is_what_it_was(tmp_path):
    """With its order, and the versions that load_state_dict reads."""
    state = nn.BatchNorm2d(2).state_dict()
    cycle = [1]
    cycle.append(cycle)
    torch.save(dict(state=state, cycle=cycle, counts=collections.Counter('aab'),
                    pair=(1, None)), tmp_path / 'x.pth')
    content = read_checkpoint(str(tmp_path / 'x.pth'))
    assert [*content['state']] == [*state] != []
    assert content['state']._metadata == state._metadata
    assert content['cycle'][1] is content['cycle'] and content['pair'] == (
        1, None) and content['counts'] == dict(a=2, b=1)


def test_a_container_cannot_hide_what_is_in_it(tmp_path):
    """Its own ``get`` would, from code that asks it."""
    hiding = Build((collections.OrderedDict, ()), dict(get=collections.Counter))
    hiding.__class__ = type('Hiding', (Build, ), dict(
        __reduce__=lambda self: (collections.OrderedDict, (), self.state, None,
                                 iter(dict(meta=dict(config='1')).items()))))
    torch.save(hiding, tmp_path / 'x.pth')
    assert read_checkpoint(str(tmp_path / 'x.pth')) == dict(meta={})


def test_a_file_of_an_unknown_scheme_is_opened_like_any(evil):
    folder = evil.with_name('weird:') / 'x'
    folder.mkdir(parents=True)
    path = evil.rename(folder / 'evil.pth')
    with pytest.raises(Exception, match='evil.pth|GLOBAL|Unsupported'):
        read_checkpoint(f'{evil.parent}/weird://x/evil.pth')
    assert not (evil.parent / 'ran').exists() and path.exists()


@pytest.mark.parametrize('count', [10**6, -1])
def test_a_storage_is_no_larger_than_its_record(count, tmp_path):
    """torch once read as many bytes as the file asked for."""
    path = tmp_path / 'x.pth'
    torch.save(dict(a=torch.zeros(300)), path)
    copy = tmp_path / 'copy.pth'
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, 'w') as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith('data.pkl'):
                number = pickle.dumps(300, 2)[2:-1]
                assert number in data
                data = data.replace(number, pickle.dumps(count, 2)[2:-1])
            new.writestr(info.filename, data)
    with pytest.raises(ValueError, match='copy.pth is'):
        read_checkpoint(str(copy))


@pytest.mark.parametrize('zipped', [True, False])
def test_flipped_bits_are_one_line(zipped, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save(dict(meta=dict(iter=3), loss=HistoryBuffer([1.], [1]),
                    a=torch.rand(9)), path,
               _use_new_zipfile_serialization=zipped)
    content, random = path.read_bytes(), Random(0)
    for _ in range(60):
        data = bytearray(content)
        for _ in range(3):
            data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
        with contextlib.suppress(ValueError, MemoryError):
            read_checkpoint(str(path))


def test_a_config_in_a_checkpoint_is_removed(tmp_path):
    """mmengine would run it where it resumes."""
    torch.save(dict(meta=dict(config='import this', cfg='a = 1', iter=3)),
               tmp_path / 'x.pth')
    assert read_checkpoint(str(tmp_path / 'x.pth')) == dict(
        meta=dict(cfg='a = 1', iter=3))


@pytest.mark.parametrize('zipped', [True, False])
def test_what_is_no_whole_checkpoint_is_damaged(zipped, tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(a=torch.rand(1000)), path,
               _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    for part in (*(content[:int(part * len(content))]
                   for part in (0, .01, .5, .99)),
                 b'<html>please log in</html>', b'version https://git-lfs'
                 b'.github.com/spec/v1\noid sha256:00'):
        path.write_bytes(part)
        with pytest.raises(ValueError, match='cut.pth is damaged') as error:
            read_checkpoint(str(path))
        assert f'{len(part)} bytes' in str(error.value)


@pytest.mark.parametrize('error', [
    MemoryError(), PermissionError(13, 'Permission denied'),
    OSError(116, 'Stale file handle'),
    torch.cuda.OutOfMemoryError('CUDA out of memory'),
    RuntimeError('[enforce fail at alloc_cpu.cpp] not enough memory')])
def test_what_is_no_damage_is_not_called_so(error, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    torch.save(dict(a=torch.ones(2)), tmp_path / 'x.pth')
    monkeypatch.setattr(hub, 'load_tensors', fail)
    with pytest.raises(type(error)) as caught:
        read_checkpoint(str(tmp_path / 'x.pth'))
    assert caught.value is error
    assert (tmp_path / 'x.pth').exists()


def test_other_loaders_run_no_code_either(evil):
    """Neither mmengine's, nor that of a fork which asks for a full pickle; in
    a process of its own, since the setting is for a whole process."""
    result = subprocess.run([sys.executable, '-c', f'''
import torch
from mmengine.runner import CheckpointLoader
from torch import nn
from mmiformer.checkpoint import force_weights_only
force_weights_only()
for load in (CheckpointLoader.load_checkpoint,
             lambda path: torch.load(path, weights_only=False)):
    try:
        load({str(evil)!r})
    except Exception as error:
        print('refused:', 'io.open' in str(error))'''],
                            capture_output=True, text=True)
    assert result.stdout.splitlines().count('refused: True') == 2, (
        result.stdout + result.stderr)
    assert not has_run(evil)


def test_a_users_own_setting_is_respected(monkeypatch, log):
    monkeypatch.delenv(FORCE, raising=False)
    monkeypatch.setenv(FORCE_NO, 'Yes')
    force_weights_only()
    assert FORCE_NO in log[-1] and len(log) == 1
    assert FORCE not in hub.os.environ
    monkeypatch.setenv(FORCE_NO, '0')  # which torch does not count as set
    force_weights_only()
    assert hub.os.environ[FORCE] == '1' and len(log) == 1
    monkeypatch.delenv(FORCE)


@pytest.mark.parametrize('content', [[1, 2], torch.ones(1)])
def test_what_holds_no_dict_is_no_checkpoint(content, tmp_path):
    torch.save(content, tmp_path / 'x.pth')
    with pytest.raises(ValueError, match=f'x.pth.*{type(content).__name__}'):
        read_checkpoint(str(tmp_path / 'x.pth'))
