"""What only a GPU can show: pytest tests/gpu, three minutes."""
import copy
import socket
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, call
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from small_configs import write_config

from mmiformer import IFormer
from mmiformer.checkpoint import read_checkpoint
from mmiformer.config import load_config

attention = pytest.importorskip('torch.nn.attention', reason='needs torch 2.3')
SDPBackend, sdpa_kernel = attention.SDPBackend, attention.sdpa_kernel
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(
    not torch.cuda.is_available(), reason='needs a GPU')]
DTYPES = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def exact():
    """Convolutions in fp32 without TF32, as torch's products are."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def pair(tiny):
    """Makes the same network twice, one with other arguments, in eval mode."""
    def pair(**kwargs):
        torch.manual_seed(0)
        plain = IFormer(**tiny)
        other = IFormer(**tiny, **kwargs)
        other.load_state_dict(plain.state_dict())
        return plain.to('cuda').eval(), other.to('cuda').eval()

    return pair


def image(height=96, width=128, batch=2):
    torch.manual_seed(1)
    return torch.rand(batch, 3, height, width, device='cuda')


def assert_near(found, expected, tolerance):
    """The largest difference, in standard deviations of each tensor."""
    for one, other in zip(found, expected):
        one, other = one.detach().float(), other.detach().float()
        error = (one - other).abs().max() / other.std().clamp(min=1e-6)
        assert error < tolerance, error


def test_the_numbers_are_the_cpus(tiny):
    torch.manual_seed(0)
    model = IFormer(**tiny).eval()
    x = image().cpu()
    with torch.no_grad():
        expected = model(x)
        found = [map.cpu() for map in model.to('cuda')(x.to('cuda'))]
    assert_near(found, expected, 1e-4)


def test_maps_are_channels_last(pair):
    """Inside, whatever the image's layout; what necks and mmcv's operators
    get is contiguous."""
    model, _ = pair()
    inside = []
    for name, module in model.named_modules():
        if type(module) is torch.nn.Conv2d or name in (
                'stages.0', 'stages.3'):
            module.register_forward_hook(
                lambda module, inputs, out: inside.append(out))
    x = image()
    with torch.no_grad():
        maps = model(x)
        assert_near(model(x.contiguous(memory_format=torch.channels_last)),
                    maps, 1e-4)
    assert all(map.is_contiguous() for map in maps)
    assert len(inside) > 10 and all(
        map.is_contiguous(memory_format=torch.channels_last) for map in inside)


@pytest.mark.parametrize('deploy, compile', [
    (True, False), (False, True), (True, True)])
@pytest.mark.parametrize('size', [(96, 128), (65, 97)])
def test_deployed_and_compiled(size, deploy, compile, pair):
    """The maps, and the gradients of the image, are those of eager torch."""
    plain, other = pair(compile=compile)
    if deploy:
        other.switch_to_deploy()
    results = []
    for model in (plain, other):
        x = image(*size).requires_grad_()
        maps = model(x)
        sum(map.square().mean() for map in maps).backward()
        results.append([*maps, x.grad])
    assert_near(results[1], results[0], 1e-3)


@pytest.mark.parametrize('dtype', [torch.float32, *DTYPES])
def test_gradients_of_compiled_training(dtype, pair):
    plain, compiled = pair(compile=True)
    gradients = []
    for model in (plain.train(), compiled.train()):
        context = nullcontext() if dtype == torch.float32 else (
            torch.autocast('cuda', dtype))
        with context:
            sum(map.float().square().mean() for map in model(
                image())).backward()
        gradients.append(torch.cat([
            parameter.grad.flatten() for parameter in model.parameters()]))
    similar = F.cosine_similarity(*gradients, dim=0)
    assert similar > (1 - 1e-5 if dtype == torch.float32 else 0.99)


@pytest.mark.parametrize('backend, dtype', [
    *((SDPBackend.FLASH_ATTENTION, dtype) for dtype in DTYPES),
    *((SDPBackend.EFFICIENT_ATTENTION, dtype)
      for dtype in (torch.float32, *DTYPES))])
def test_attention_kernels(backend, dtype):
    """Heads of 32 channels run in the fused kernels, forward and backward;
    flash attention has no fp32."""
    torch.manual_seed(0)
    qkv = torch.randn(3, 2, 5, 1000, 32, device='cuda')
    results = []
    for kernel, cast in ((SDPBackend.MATH, torch.float64), (backend, dtype)):
        leaf = qkv.to(cast).requires_grad_()
        with sdpa_kernel(kernel):
            out = F.scaled_dot_product_attention(*leaf)
        out.square().sum().backward()
        results.append([out, leaf.grad])
    assert_near(results[1], results[0],
                1e-4 if dtype == torch.float32 else 0.1)


def test_no_attention_map_is_stored():
    """At 800x1280 one of a head in stage 1 would take 954 MiB in fp32."""
    model = IFormer('small', out_indices=(0, )).to('cuda')
    x = image(800, 1280, 1)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    model(x)[0].sum().backward()
    used = torch.cuda.max_memory_allocated() - before
    assert used < 2 * (800 // 8 * 1280 // 8) ** 2 * 4


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('gpu')


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('kind', ['det', 'seg'])
def test_a_step_in_mixed_precision(kind, dtype, folder):
    """Every parameter has a gradient; the loss is close to that in fp32."""
    cfg = load_config(write_config(folder / f'{kind}.py', kind))
    init_default_scope(cfg.default_scope)
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model.to('cuda').train()
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    kwargs = dict(loss_scale=1024.) if dtype == torch.float16 else {}
    wrapper = AmpOptimWrapper(
        dtype=str(dtype).split('.')[1],
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)
    losses = []
    for context in (nullcontext, lambda: wrapper.optim_context(model)):
        torch.manual_seed(0)
        with context(), torch.set_grad_enabled(context is not nullcontext):
            data = model.data_preprocessor(copy.deepcopy(batch), True)
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        losses.append(loss)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.05)
    wrapper.backward(losses[1])
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        if parameter.requires_grad:
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name
    wrapper.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def launch(config, work_dir):
    """A training of one iteration under torchrun, as one process."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node=1',
         f'--master_port={port}', str(ROOT / 'tools/train.py'),
         str(config), '--work-dir', str(work_dir), '--cfg-options',
         'train_cfg.max_iters=1', '--launcher', 'pytorch'],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def weights(work_dir, iteration):
    return read_checkpoint(
        str(work_dir / f'iter_{iteration}.pth'))['state_dict']


# Dropout uses the GPU's random numbers, which a resumed run has to repeat.
SHORT = '''
model['decode_head'] = dict(dropout_ratio=0.5)
train_cfg = dict(max_iters=4, val_interval=4)
param_scheduler = []
default_hooks['checkpoint']['max_keep_ckpts'] = 4
env_cfg = dict(dist_cfg=dict(backend='nccl'))
'''


@pytest.fixture(scope='module')
def trained(folder):
    """The config and the work dir of four iterations."""
    config = write_config(folder / 'short.py', 'seg', SHORT)
    call('train.py', config, '--work-dir', folder / 'trained')
    return config, folder / 'trained'


def test_a_resumed_run(trained, folder):
    """Four iterations, and two after a checkpoint of two: the same weights,
    but for what is not deterministic in the kernels."""
    config, untouched = trained
    words = ('train.py', config, '--work-dir', folder / 'resumed')
    call(*words, '--cfg-options', 'train_cfg.max_iters=2')
    call(*words, '--resume')
    expected, found = (weights(path, 4) for path in (
        untouched, folder / 'resumed'))
    state = read_checkpoint(str(untouched / 'iter_2.pth'))
    assert state['meta']['rng'][0]['cuda'] is not None
    moved = max((value.float() - state['state_dict'][key].float()).abs().max()
                for key, value in expected.items())
    for key, value in expected.items():
        error = (value.float() - found[key].float()).abs().max()
        assert error <= 1e-2 * moved, key


def test_one_process_of_many(trained, folder):
    """By NCCL and DistributedDataParallel: the weights of a plain run."""
    config, alone = trained
    work_dir = folder / 'launched'
    launch(config, work_dir)
    expected, found = weights(alone, 1), weights(work_dir, 1)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.allclose(found[key].cpu().float(), value.cpu().float(),
                              rtol=1e-3, atol=1e-5), key


def test_out_of_memory(trained, folder):
    """Said as what it is, with a status; earlier checkpoints stay."""
    config, work_dir = trained
    before = sorted(path.name for path in work_dir.glob('*.pth'))
    little = ('import sys, torch, runpy; '
              'torch.cuda.set_per_process_memory_fraction(1e-4); '
              'sys.argv = sys.argv[1:]; '
              'runpy.run_path(sys.argv[0], run_name="__main__")')
    done = subprocess.run(
        [sys.executable, '-c', little, str(ROOT / 'tools/train.py'),
         str(config), '--work-dir', str(work_dir)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode != 0
    assert 'out of memory' in done.stdout and 'damaged' not in done.stdout
    assert sorted(path.name for path in work_dir.glob('*.pth')) == before
