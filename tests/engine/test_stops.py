"""Runs that are stopped by SIGTERM, or between two steps of the optimizer."""
import os
import signal
import threading

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS
from toy_runs import config, cut, run, terminate_at


@METRICS.register_module()
class Constant(BaseMetric):
    """Never better."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=0.5)


@pytest.mark.parametrize('iteration', [1, 3, 6])
@pytest.mark.parametrize('by_epoch', [True, False])
def test_sigterm_saves_first(iteration, by_epoch, tmp_path):
    """In the middle of an epoch of 4 iterations, and at its end."""
    path = cut(tmp_path / 'cut', iteration, by_epoch=by_epoch)
    assert path == str(tmp_path / f'cut/iter_{iteration + 1}.pth')
    assert (tmp_path / 'cut/last_checkpoint').read_text() == path
    resumed = run(tmp_path / 'cut', resumed=True, by_epoch=by_epoch)
    whole = run(tmp_path / 'whole', by_epoch=by_epoch)
    assert torch.equal(resumed.model.weight, whole.model.weight)
    assert resumed.iter == whole.iter == 8


def test_a_second_sigterm_does_not_wait(tmp_path, monkeypatch):
    """But a launcher's copy of the first, right after it, is not one."""
    def repeat(runner):
        terminate_at(1)(runner)
        terminate_at(1)(runner)

    for echo, saved in ((5, ['iter_2.pth']), (0, [])):
        monkeypatch.setattr(
            'mmiformer.kit.resume.runner.SIGTERM_ECHO', echo)
        with pytest.raises(SystemExit) as error:
            run(tmp_path / str(echo), hook=repeat)
        assert error.value.code == 143
        assert [path.name for path in tmp_path.glob(f'{echo}/*.pth')] == saved
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize('iteration, saved', [(0, 2), (4, 6), (6, 8)])
def test_sigterm_waits_for_the_step_of_accumulated_gradients(
        iteration, saved, tmp_path):
    """No checkpoint holds gradients; the last step is never cut off."""
    path = cut(tmp_path / 'cut', iteration, counts=2)
    assert path == str(tmp_path / f'cut/iter_{saved}.pth')
    resumed = run(tmp_path / 'cut', resumed=True, counts=2)
    whole = run(tmp_path / 'whole', counts=2)
    assert torch.equal(resumed.model.weight, whole.model.weight)


@HOOKS.register_module()
class TerminateInVal(Hook):
    """The process gets SIGTERM in its first validation."""

    def after_val_iter(self, runner, batch_idx, data_batch=None,
                       outputs=None):
        if batch_idx == 0 and runner.epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_in_a_validation_waits_for_the_next_step(tmp_path):
    """EMAHook has the averaged weights in the model until it ends."""
    loader = config(tmp_path).train_dataloader
    more = dict(val_cfg={}, val_evaluator=dict(type='Constant'),
                val_dataloader=dict(loader, batch_size=7))
    ema = dict(type='EMAHook', momentum=0.5)
    path = cut(tmp_path / 'cut', None, **more,
               custom_hooks=[ema, dict(type='TerminateInVal')])
    assert path == str(tmp_path / 'cut/iter_5.pth')
    run(tmp_path / 'cut', resumed=True, **more, custom_hooks=[ema])
    run(tmp_path / 'whole', **more, custom_hooks=[ema])
    resumed, whole = (
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=True)
        for name in ('cut', 'whole'))
    for key in ('state_dict', 'ema_state_dict'):
        assert resumed[key] == whole[key]
    assert whole['state_dict']['weight'] != whole['ema_state_dict'][
        'module.weight']
    assert resumed['optimizer'] == whole['optimizer']


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_validation_that_was_due_comes_first(by_epoch, tmp_path):
    """The run was killed between a checkpoint and its validation."""
    loader = dict(config(tmp_path).train_dataloader,
                  sampler=dict(type='DefaultSampler'))
    more = dict(by_epoch=by_epoch, val_cfg={}, val_dataloader=loader,
                val_evaluator=dict(type='Constant'), val_interval=(
                    1 if by_epoch else 4))
    validated = []

    def interrupt(runner):
        def stop():
            raise KeyboardInterrupt
        runner.val_loop.run = stop

    def record(runner):
        validate = runner.val_loop.run

        def run_and_record():
            validated.append(runner.iter)
            return validate()
        runner.val_loop.run = run_and_record

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, hook=interrupt, **more)
    run(tmp_path, resumed=True, hook=record, **more)
    assert validated == [4, 8]


def test_other_checkpoints_stay(tmp_path):
    """Also that of a SIGTERM, when a later one is written."""
    cut(tmp_path, 0)
    cut(tmp_path, 1, resumed=True)
    run(tmp_path, resumed=True)
    assert {p.name for p in tmp_path.glob('*.pth')} == {
        'iter_1.pth', 'iter_2.pth', 'epoch_1.pth', 'epoch_2.pth'}


def test_training_in_a_thread(tmp_path):
    """Where Python forbids signal handlers."""
    runners = []
    thread = threading.Thread(target=lambda: runners.append(run(tmp_path)))
    thread.start()
    thread.join(60)
    assert runners[0].iter == 8


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_checkpoint_waits_for_the_step_of_accumulated_gradients(
        by_epoch, tmp_path):
    """Due after 4 of 12 iterations, with a step after every third."""
    more = dict(max_epochs=3, counts=3, by_epoch=by_epoch)
    whole = run(tmp_path, **more)
    first = tmp_path / ('epoch_1.pth' if by_epoch else 'iter_4.pth')
    meta = torch.load(first, weights_only=True)['meta']
    assert (meta['iter'], meta['epoch']) == (6, by_epoch)
    for path in tmp_path.glob('*.pth'):
        if path != first:
            path.unlink()
    resumed = run(tmp_path, resumed=True, **more)
    assert resumed.iter == 12 and len(resumed.model.seen) == 6
    assert torch.equal(resumed.model.weight, whole.model.weight)


@pytest.fixture
def stopped_early(tmp_path):
    """Settings of five epochs, of which the third is the last: the first
    validation is the best, two more are waited for."""
    loader = config(tmp_path).train_dataloader
    return dict(
        max_epochs=5, val_cfg={}, val_evaluator=dict(type='Constant'),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler')),
        custom_hooks=[dict(type='EarlyStoppingHook', monitor='score',
                           rule='greater', patience=2)])


def test_a_stop_between_two_steps_is_saved(stopped_early, tmp_path):
    """The optimizer steps after iterations 8 and 16, the run ends at 12."""
    run(tmp_path, counts=8, **stopped_early)
    meta = torch.load(tmp_path / 'epoch_3.pth', weights_only=True)['meta']
    assert (meta['epoch'], meta['iter']) == (3, 12)
