"""What is said where memory runs out; there is no GPU to run out of here."""
import itertools
import runpy
import sys

import pytest
import torch
from conftest import ROOT
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset

from mmiformer.engine.memory import OutOfMemory, knobs
from mmiformer.engine.runner import ResumableRunner

RUNS = itertools.count()  # mmengine keeps them apart by name
GPU = torch.cuda.OutOfMemoryError(
    'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total '
    'capacity of 23.64 GiB of which 1.06 GiB is free. Process 1 has 22 GiB '
    'memory in use. See documentation')
CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't "
    'allocate memory: you tried to allocate 4096 bytes. Error code 12')
CP = 'model.backbone.with_cp=True'
BF16 = 'optim_wrapper.type=AmpOptimWrapper optim_wrapper.dtype=bfloat16'
WINDOW = 'model.backbone.window_size="(28,14,14,None)"'


@DATASETS.register_module()
class Sizes(Dataset):
    """Images of two sizes."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return dict(inputs=torch.zeros(3, *((8, 6) if index % 2 else (4, 9))))


@METRICS.register_module()
class Nothing(BaseMetric):

    def process(self, data_batch, data_samples):
        pass

    def compute_metrics(self, results):
        return {}


@MODELS.register_module()
class Greedy(BaseModel):
    """Takes more than there is, in one mode."""

    def __init__(self, mode, error, backbone):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.mode, self.error = mode, error

    def forward(self, inputs, mode='loss'):
        if mode == self.mode:
            raise dict(GPU=GPU, CPU=CPU, other=RuntimeError('shapes differ'),
                       python=MemoryError())[self.error]
        return dict(loss=self.layer.weight.sum())


def config(work_dir, mode='loss', error='GPU', batch=4, **optim):
    loader = dict(
        batch_size=batch, num_workers=0, dataset=dict(type='Sizes'),
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='pseudo_collate'))
    return Config(dict(
        model=dict(type='Greedy', mode=mode, error=error, backbone=dict(
            type='mmiformer.IFormer')),
        work_dir=str(work_dir),
        train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=1),
        val_dataloader=loader, val_cfg=dict(),
        val_evaluator=dict(type='Nothing'),
        test_dataloader=loader, test_cfg=dict(),
        test_evaluator=dict(type='Nothing'),
        optim_wrapper=dict(
            dict(optimizer=dict(type='AdamW', lr=0.1)), **optim),
        log_level='ERROR', default_scope='mmengine',
        experiment_name=f'memory_{next(RUNS)}'))


def names(cfg, split='train', gpu=True):
    """The settings, without what is said of them."""
    return [line.split('  (')[0] for line in knobs(cfg, split, gpu)]


def test_what_costs_least_comes_first(tmp_path):
    assert names(config(tmp_path)) == [
        CP, BF16, 'train_dataloader.batch_size=2 '
        'optim_wrapper.accumulative_counts=2', WINDOW]


def test_what_is_set_is_not_said(tmp_path):
    cfg = config(tmp_path, batch=1, type='AmpOptimWrapper')
    assert names(cfg) == [CP, WINDOW]
    cfg.model.backbone.update(
        with_cp=(True, True, True, False), window_size=(28, None, None, None))
    assert names(cfg) == [CP]
    cfg.model.backbone.with_cp = (True, ) * 4
    assert names(cfg) == ['smaller images, in the pipeline of the data set']


def test_of_another_backbone_less_is_known(tmp_path):
    cfg = config(tmp_path, batch=7, accumulative_counts=2)
    cfg.model.backbone.type = 'SwinTransformer'
    assert names(cfg) == [BF16, 'train_dataloader.batch_size=3 '
                          'optim_wrapper.accumulative_counts=4']


def test_every_setting_can_be_typed(tmp_path):
    """As mmengine reads the command line."""
    import argparse
    import shlex

    from mmengine.config import DictAction
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=DictAction)
    cfg = config(tmp_path)
    cfg.merge_from_dict(parser.parse_args(
        ['--cfg-options', *shlex.split(' '.join(names(cfg)))]).cfg_options)
    assert cfg.model.backbone.window_size == (28, 14, 14, None)
    assert cfg.model.backbone.with_cp is True
    assert cfg.train_dataloader.batch_size == 2
    assert names(cfg) == ['train_dataloader.batch_size=1 '
                          'optim_wrapper.accumulative_counts=4']


def test_the_machine_has_other_settings(tmp_path):
    cfg = config(tmp_path)
    cfg.train_dataloader.num_workers = 4
    assert names(cfg, gpu=False)[:2] == [
        'train_dataloader.num_workers=2', CP]
    assert BF16 not in names(cfg, gpu=False)
    assert names(cfg) == names(config(tmp_path))


def train(cfg):
    with pytest.raises(OutOfMemory) as error:
        ResumableRunner.from_cfg(cfg).train()
    return str(error.value)


def test_training(tmp_path):
    message = train(config(tmp_path))
    assert message.startswith(
        'out of memory: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 '
        'has a total capacity of 23.64 GiB of which 1.06 GiB is free; '
        '4 images of up to 8x9 (HxW) at once\n')
    assert CP in message and 'Process' not in message


def test_validation_has_settings_of_its_own(tmp_path):
    message = train(config(tmp_path, 'predict'))
    assert 'val_dataloader.batch_size=2' in message
    assert 'val_cfg.fp16=True' in message and CP not in message


@pytest.mark.parametrize('error, said', [
    ('CPU', 'you tried to allocate 4096 bytes'),
    ('python', 'Python found no memory')])
def test_memory_of_the_machine(error, said, tmp_path):
    message = train(config(tmp_path, error=error))
    assert said in message and CP in message and BF16 not in message


def test_other_errors_pass(tmp_path):
    with pytest.raises(RuntimeError, match='^shapes differ$'):
        ResumableRunner.from_cfg(config(tmp_path, error='other')).train()


@pytest.mark.parametrize('tool, mode, knob', [
    ('train.py', 'loss', CP),
    ('test.py', 'predict', 'test_dataloader.batch_size=2')])
def test_the_tools_say_it_without_a_trace(tool, mode, knob, tmp_path,
                                          monkeypatch):
    file, weights = tmp_path / 'config.py', tmp_path / 'weights.pth'
    cfg = config(tmp_path / 'work', mode)
    cfg.dump(file)
    torch.save(MODELS.build(cfg.model).state_dict(), weights)
    arguments = [file] if tool == 'train.py' else [file, weights]
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / tool), run_name='__main__')
    assert end.value.code.startswith('error: out of memory: CUDA out of')
    assert knob in end.value.code
