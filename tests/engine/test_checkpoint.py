"""Checkpoints that open in any process, and what resumes from them."""
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import METRICS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from toy_runs import config as toy

from mmiformer.checkpoint import to_plain
from mmiformer.kit.resume import (
    ResumableRunner,
    build_runner,
    prepare_resume,
)


@METRICS.register_module()
class NumpyMetric(BaseMetric):
    """A number of NumPy's, like mmseg's, which becomes the best score."""

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(score=np.float64(len(results)))


class Interruption(Hook):
    """Ends a run before its second epoch."""

    def before_train_epoch(self, runner):
        if runner.epoch == 1:
            raise KeyboardInterrupt


def config(work_dir):
    cfg = toy(work_dir, val_cfg={}, val_evaluator=dict(type='NumpyMetric'),
              val_dataloader=toy(work_dir).train_dataloader, schedule=[
                  dict(type='LinearLR', start_factor=.5, by_epoch=False,
                       end=3),
                  dict(type='MultiStepLR', milestones=[1], by_epoch=True)])
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=1)
    cfg.default_hooks.checkpoint.update(save_best='score', rule='greater')
    return cfg


OPEN = '''
import sys, torch
meta = [torch.load(path, weights_only=True)['meta'] for path in sys.argv[1:]]
assert not {'mmengine', 'mmiformer'} & {*sys.modules}
assert all(m['dataset_meta']['classes'] == ('a', ) for m in meta)
'''


def test_they_open_with_torch_alone(tmp_path):
    """Training history, best score, random states and every scheduler that
    holds more than numbers included."""
    cfg = config(tmp_path)
    cfg.param_scheduler += [
        dict(type='OneCycleLR', eta_max=.1, total_steps=2),
        dict(type='CosineRestartLR', periods=[2], eta_min=0.),
        dict(type='ReduceOnPlateauLR', monitor='score', rule='greater')]
    ResumableRunner.from_cfg(cfg).train()
    paths = sorted(tmp_path.glob('*.pth'))
    assert [path.name for path in paths] == [
        'best_score_epoch_1.pth', 'epoch_1.pth', 'epoch_2.pth']
    result = subprocess.run([sys.executable, '-c', OPEN, *paths],
                            stderr=subprocess.PIPE, text=True)
    assert result.returncode == 0, result.stderr


def interrupt(kind, cfg):
    """A run of which the first epoch is left."""
    runner = kind.from_cfg(cfg)
    runner.register_hook(Interruption())
    with pytest.raises(KeyboardInterrupt):
        runner.train()


def history(runner):
    """The curves of a run, without times."""
    return {name: value.data for name, value in
            runner.message_hub.log_scalars.items() if 'time' not in name}


@pytest.mark.parametrize('kind', [ResumableRunner, Runner])
def test_a_run_resumes_with_its_history(kind, tmp_path):
    """Also from a checkpoint of mmengine's Runner, which pickles classes."""
    interrupt(kind, config(tmp_path))
    cfg = config(tmp_path)
    prepare_resume(cfg)
    resumed = ResumableRunner.from_cfg(cfg)
    resumed.train()
    whole = ResumableRunner.from_cfg(config(tmp_path / 'whole'))
    whole.train()
    expected, found = history(whole), history(resumed)
    assert found.keys() == expected.keys() and 'train/loss' in found
    for name, (values, counts) in found.items():
        assert len(values) == 8 or not name.startswith('train/')
        if kind is ResumableRunner:  # the other reads data in another order
            assert np.array_equal(values, expected[name][0]), name
            assert values.dtype == expected[name][0].dtype
            assert np.array_equal(counts, expected[name][1]), name
    assert resumed.message_hub.get_info('best_score') == 4
    (hook, ) = [x for x in resumed.hooks if isinstance(x, CheckpointHook)]
    assert hook.best_ckpt_path.endswith('best_score_epoch_1.pth')


@pytest.mark.parametrize('runner_type', [
    'mmiformer.ResumableRunner', 'Runner'])
def test_a_program_in_a_checkpoint_is_not_run(runner_type, tmp_path):
    """mmengine's resume() executes ``meta['config']``."""
    interrupt(ResumableRunner, config(tmp_path))
    content = torch.load(tmp_path / 'epoch_1.pth', weights_only=True)
    content['meta']['config'] = f'open({str(tmp_path / "ran")!r}, "w")'
    torch.save(content, tmp_path / 'epoch_1.pth')
    cfg = config(tmp_path)
    cfg.runner_type = runner_type
    prepare_resume(cfg)
    runner = build_runner(cfg)
    runner.train()
    assert runner.iter == 8 and not (tmp_path / 'ran').exists()


def test_mmengines_runner_resumes_from_ours(tmp_path):
    interrupt(ResumableRunner, config(tmp_path))
    cfg = config(tmp_path)
    cfg.update(resume=True, load_from=str(tmp_path / 'epoch_1.pth'))
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 8


def test_batches_of_detectors_are_plain(tmp_path):
    """Boxes, masks and labels."""
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    sample = DetDataSample(metainfo=dict(
        img_path='a.jpg', scale_factor=np.array([2., 3.]), flip=np.True_,
        names=np.array(['x']), homography=None, size=(4, 5), odd={7: object}))
    sample.gt_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.tensor([[1., 2., 3., 4.]])),
        masks=BitmapMasks(np.ones((1, 2, 2), np.uint8), 2, 2),
        labels=torch.tensor([7]))
    torch.save(to_plain(dict(data_samples=[sample])), tmp_path / 'a.pth')
    (read, ) = torch.load(
        tmp_path / 'a.pth', weights_only=True)['data_samples']
    assert read['gt_instances']['bboxes'].tolist() == [[1., 2., 3., 4.]]
    assert read['gt_instances']['masks'].sum() == 4
    assert read['gt_instances']['labels'].tolist() == [7]
    assert read['scale_factor'].tolist() == [2., 3.]
    assert (read['img_path'], read['names'], read['homography']) == (
        'a.jpg', ['x'], None)
    assert read['flip'] is True and read['size'] == (4, 5)
    assert read['odd'] == {7: repr(object)}


def test_a_history_keeps_its_types():
    plain = to_plain(HistoryBuffer([1, 2], [1, 3], max_length=9))
    assert plain['log'].tolist() == [1, 2]
    assert plain['count'].dtype == torch.int64 and plain['max_length'] == 9
