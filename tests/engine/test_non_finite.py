"""Losses and gradients that are not finite, planted in a small run."""
import itertools
import math

import pytest
import torch
from conftest import refusal
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim.optimizer import amp_optimizer_wrapper
from mmengine.registry import DATASETS, MODELS
from mmengine.structures import BaseDataElement
from torch import nn
from torch.utils.data import Dataset

from mmiformer import compat
from mmiformer.checkpoint import read_checkpoint
from mmiformer.config import load_config
from mmiformer.kit import non_finite
from mmiformer.kit.non_finite import NotFiniteError
from mmiformer.kit.resume import ResumableRunner

RUNS = itertools.count()  # mmengine keeps them apart by name
BAD = 5  # the image of which something is planted
NAN, INF = math.nan, math.inf


@DATASETS.register_module()
class NumberedImages(Dataset):
    """Eight images, which know their paths."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        torch.manual_seed(index)
        sample = BaseDataElement(metainfo=dict(
            img_path=f'images/{index}.jpg', index=index))
        return dict(inputs=torch.randn(3, 4, 4), data_samples=sample)


class Spoil(torch.autograd.Function):
    """Finite forwards; the gradient is not."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * NAN


@MODELS.register_module()
class Planted(BaseModel):
    """Two layers; `where` says what of the bad image is not finite."""

    def __init__(self, where=None, value=NAN):
        super().__init__()
        self.first, self.last = nn.Linear(48, 4), nn.Linear(4, 1)
        self.drop = nn.Dropout(0.5)
        self.where, self.value = where, float(value)

    def forward(self, inputs, data_samples=None, mode='loss'):
        bad = any(sample.index == BAD for sample in data_samples)
        x = torch.stack([image.flatten() for image in inputs])
        if bad and self.where == 'image':
            x[0, 0] = self.value
        x = self.first(x)
        if bad and self.where == 'gradient':
            x = Spoil.apply(x)
        loss = self.last(self.drop(x)).square().mean()
        if bad and self.where == 'loss':
            loss = loss + self.value  # whose gradients are finite
        return dict(loss_square=loss, loss_other=[x.square().mean()])


class Watch(Hook):
    """Remembers the weights that an iteration begins with."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.weights = {name: value.clone() for name, value in
                        runner.model.state_dict().items()}


def config(work_dir, where=None, value=NAN, **optim):
    """Of a run of 8 iterations of 2 images in their order, of two epochs;
    the bad image is in the third and the seventh."""
    loader = dict(
        batch_size=2, num_workers=0, dataset=dict(type='NumberedImages'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'))
    return Config(dict(
        env_cfg={}, model=dict(type='Planted', where=where, value=str(value)),
        work_dir=str(work_dir), train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.1), **optim),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', interval=1,
                            by_epoch=False),
            non_finite=dict(type='mmiformer.NonFiniteHook')),
        randomness=dict(seed=3), log_level='ERROR', default_scope='mmengine',
        experiment_name=f'run_{next(RUNS)}'))


def stop(cfg):
    """The error that a run ends with; no weight has changed since the
    iteration began."""
    runner, watch = ResumableRunner.from_cfg(cfg), Watch()
    runner.register_hook(watch)
    with pytest.raises(NotFiniteError) as error:
        runner.train()
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, watch.weights[name]) and (
            value.isfinite().all())
    return str(error.value)


CASES = [('image', NAN), ('loss', NAN), ('loss', INF), ('gradient', NAN)]


@pytest.mark.parametrize('where, value', CASES)
def test_stops_before_the_step(where, value, tmp_path):
    message = stop(config(tmp_path, where, value, clip_grad=dict(max_norm=1.)))
    assert message.startswith('iteration 3')
    assert 'images: images/4.jpg, images/5.jpg (2)' in message
    bad = dict(
        image=['first.weight', 'first.bias', 'last.weight', 'last.bias'],
        loss=[], gradient=['first.weight', 'first.bias'])[where]
    more = ', ...' * (len(bad) > 3)
    assert ('gradients that are not finite: '
            f'{", ".join(bad[:3]) or "none"}{more} ({len(bad)})') in message
    assert 'weights that are not finite: none (0)' in message
    assert (tmp_path / 'iter_2.pth').is_file()


def test_weights_that_a_step_has_spoilt_are_named(tmp_path):
    class Step(Hook):

        def after_train_iter(self, runner, *args, **kwargs):
            nn.init.constant_(runner.model.last.bias, INF)

    runner = ResumableRunner.from_cfg(config(tmp_path))
    runner.register_hook(Step())
    with pytest.raises(NotFiniteError, match=(
            'iteration 2(.|\n)*weights that .*: last.bias .1.')):
        runner.train()


@pytest.mark.parametrize('optim', [
    {}, dict(clip_grad=dict(max_norm=.1)), dict(accumulative_counts=2)])
def test_finite_runs_are_unchanged(optim, tmp_path):
    """By the hook, which a config can do without; then nothing stops."""
    runner = ResumableRunner.from_cfg(config(tmp_path / 'with', **optim))
    runner.train()
    assert 'backward' not in vars(runner.optim_wrapper)
    config(tmp_path / 'without', **optim).dump(tmp_path / 'without.py')
    ResumableRunner.from_cfg(load_config(
        tmp_path / 'without.py',
        {'default_hooks.non_finite': None})).train()
    checked, unchecked = (
        read_checkpoint(str(tmp_path / name / 'iter_8.pth'))
        for name in ('with', 'without'))
    for name, value in checked['state_dict'].items():
        assert torch.equal(value, unchecked['state_dict'][name])
    assert torch.equal(checked['meta']['rng'][0]['torch'],
                       unchecked['meta']['rng'][0]['torch'])


def test_trains_again_after_another_error(tmp_path):
    class Fail(Hook):
        def after_train_iter(self, runner, *args, **kwargs):
            raise KeyError

    runner = ResumableRunner.from_cfg(config(tmp_path, 'loss'))
    runner.register_hook(fail := Fail())
    with pytest.raises(KeyError):
        runner.train()
    runner.hooks.remove(fail)
    with pytest.raises(NotFiniteError, match='iteration 3'):
        runner.train()


def test_accumulated_gradients_name_the_batch_that_spoilt_them(tmp_path):
    """The third batch is the first of two, long before the step."""
    message = stop(config(tmp_path, 'gradient', accumulative_counts=2))
    assert message.startswith('iteration 3')
    assert 'images/4.jpg, images/5.jpg' in message


@pytest.fixture
def amp(monkeypatch):
    """Mixed precision on a CPU, with a scaler that works there."""
    if compat.TORCH < (2, 3):
        pytest.skip('needs torch 2.3')
    monkeypatch.setattr(
        amp_optimizer_wrapper, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(
        amp_optimizer_wrapper, 'GradScaler',
        lambda **kwargs: torch.amp.GradScaler('cpu', **kwargs))
    return dict(type='AmpOptimWrapper')


@pytest.mark.parametrize('where, more', [
    ('loss', {}), ('gradient', dict(loss_scale=dict(enabled=False)))])
def test_bf16_stops(where, more, amp, tmp_path):
    """At a loss; without a scale at a gradient, too."""
    message = stop(config(tmp_path, where, dtype='bfloat16', **more, **amp))
    assert message.startswith('iteration 3') and '5.jpg' in message


@pytest.mark.parametrize('where, dtype', [
    ('gradient', 'bfloat16'), ('gradient', None), ('loss', None)])
def test_a_loss_scale_skips_the_step(where, dtype, amp, tmp_path):
    """Third and seventh: halved twice; the run ends as ever."""
    runner = ResumableRunner.from_cfg(
        config(tmp_path, where, dtype=dtype, **amp))
    runner.train()
    scaler = runner.optim_wrapper.loss_scaler
    assert scaler.get_scale() == 2.**(14 if where == 'gradient' else 16)
    assert all(value.isfinite().all()
               for value in runner.model.state_dict().values())


def test_a_loss_scale_that_has_collapsed_stops(amp, tmp_path):
    """Halved below the smallest by the third, it is seen at the fourth."""
    message = stop(config(
        tmp_path, 'gradient', loss_scale=dict(
            init_scale=non_finite.SMALLEST_SCALE), **amp))
    assert message.startswith('iteration 4')


def test_the_tool_says_it_without_a_trace(tmp_path):
    file = tmp_path / 'config.py'
    config(tmp_path / 'work', 'image').dump(file)
    assert refusal('train.py', file).startswith('error: iteration 3')
