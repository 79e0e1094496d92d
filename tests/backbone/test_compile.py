"""torch.compile: the same numbers, whole graphs, and few of them."""
import copy
import pickle

import pytest
import torch
from conftest import TINY
from torch._dynamo.utils import counters

from mmiformer import IFormer, compat
from mmiformer.backbone import arguments

ARCH = dict(TINY, depths=(1, 1, 1, 1), attention_heads=(1, 2, 3, 5))
CFG = dict(backend='aot_eager', fullgraph=True)  # no code is generated
# Multiples of 32, as multi-scale training of mmdet hands them over.
SIZES = [(64, 96), (96, 64), (96, 96), (160, 128), (64, 224)]


@pytest.fixture(autouse=True)
def fresh():
    """What was compiled before counts towards torch's limits."""
    torch._dynamo.reset()
    counters.clear()


def pair(compile, **kwargs):
    """The same network without and with torch.compile."""
    torch.manual_seed(0)
    plain = IFormer(ARCH, pretrain_img_size=128, **kwargs)
    compiled = IFormer(ARCH, pretrain_img_size=128, compile=compile, **kwargs)
    compiled.load_state_dict(plain.state_dict())
    return plain, compiled


def graphs():
    return counters['stats']['unique_graphs']


def assert_close(results):
    for one, other in zip(*results):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('value, called', [
    (False, []), (True, [{}]), (dict(dynamic=True), [dict(dynamic=True)])])
def test_the_argument_compiles_the_module(value, called, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.nn.Module, 'compile',
                        lambda self, **kwargs: calls.append(kwargs))
    IFormer(ARCH, compile=value)
    assert calls == called


@pytest.mark.slow
@pytest.mark.parametrize('deploy', [False, True])
@torch.no_grad()
def test_one_graph_serves_all_sizes(deploy):
    models = pair(dict(CFG, dynamic=True))
    for model in models:
        model.eval()
    if deploy:
        models[1].switch_to_deploy()
    for size in SIZES:
        x = torch.rand(2, 3, *size)
        assert_close([model(x) for model in models])
    assert graphs() == 1


@pytest.mark.slow
@torch.no_grad()
def test_a_graph_for_each_size_with_windows():
    models = [model.eval() for model in pair(CFG, window_size=(4, 2, 2, None))]
    for size in SIZES[:2]:
        x = torch.rand(2, 3, *size)
        assert_close([model(x) for model in models])
    assert graphs() == 2


def test_windows_refuse_dynamic_sizes(monkeypatch):
    monkeypatch.setattr(arguments, 'TORCH', (2, 1))
    assert arguments.compile_cfg(True, (None, 4)) == dict(dynamic=False)
    with pytest.raises(ValueError, match='leave dynamic out'):
        IFormer(ARCH, window_size=4, compile=dict(dynamic=True))
    monkeypatch.setattr(arguments, 'TORCH', (2, 0))
    with pytest.raises(ValueError, match='compile=True needs torch 2.1'):
        IFormer(ARCH, compile=True)


@pytest.mark.slow
@pytest.mark.parametrize('with_cp', [False, True])
def test_one_graph_serves_training_too(with_cp):
    models = pair(dict(CFG, dynamic=True), with_cp=with_cp)
    for size in SIZES:
        x, results = torch.rand(2, 3, *size), []
        for model in models:
            model.zero_grad()
            outs = model(x)
            sum(out.square().mean() for out in outs).backward()
            results.append([*outs, *(p.grad for p in model.parameters())])
        assert_close(results)
    assert graphs() == 1


@pytest.mark.skipif(compat.TORCH < (2, 1), reason='needs torch 2.1')
def test_a_compiled_backbone_is_copied_and_stored_like_any():
    """As EMA hooks and checkpoints do."""
    plain, compiled = (model.eval() for model in pair(CFG))
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    x = torch.rand(1, 3, 40, 40)
    for other in (copy.deepcopy(compiled),
                  pickle.loads(pickle.dumps(compiled))):
        assert_close([plain(x), other(x)])


@pytest.mark.slow
def test_generated_code():
    models = pair(True)
    x = torch.rand(1, 3, 72, 56)
    with torch.no_grad():
        for model in models:
            model.eval()
        assert_close([model(x) for model in models])
        models[1].switch_to_deploy()
        assert_close([model(x) for model in models])
