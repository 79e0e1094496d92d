"""The iterations of a recipe on random batches."""
import sys

import iterations
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from small_configs import write_config

from mmiformer.config import load_config


@pytest.fixture(params=['det', 'seg'])
def config(request, tmp_path):
    return str(write_config(tmp_path / f'{request.param}.py', request.param))


def test_batch(config):
    cfg = load_config(config)
    init_default_scope(cfg.default_scope)
    batch = iterations.make_batch(MODELS.build(cfg.model), '64x96@2')
    assert batch['inputs'].shape == (2, 3, 64, 96)
    assert abs(batch['inputs'].mean()) < 0.5  # normalized
    for sample in batch['data_samples']:
        if 'gt_sem_seg' in sample:
            labels = sample.gt_sem_seg.data
            assert labels.shape == (1, 64, 96)
            assert labels.unique().tolist() == [0, 1, 2, 3]
        else:
            assert len(sample.gt_instances.bboxes) == iterations.OBJECTS
            assert sample.gt_instances.masks.masks.shape[1:] == (64, 96)
            assert sample.gt_instances.labels.max() < 3


def test_a_step_trains_all_parameters(config, monkeypatch):
    models, build = [], MODELS.build
    monkeypatch.setattr(MODELS, 'build', lambda *args, **kwargs: models.append(
        build(*args, **kwargs)) or models[-1])
    step = iterations.make_step(config, 'fp32', '64@2', torch.device('cpu'))
    model = next(x for x in models if hasattr(x, 'data_preprocessor'))
    before = {name: value.detach().clone() for name, value in
              model.named_parameters() if value.requires_grad}
    step()
    after = dict(model.named_parameters())
    same = [name for name, value in before.items()
            if torch.equal(after[name], value)]
    assert not [name for name in same if name.startswith('backbone')]
    assert all(value.grad is None for value in after.values())


def test_table(config, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [
        'iterations.py', config, '--size', '64x96@2', '--rounds', '1',
        '--dtypes', 'fp32'])
    iterations.main()
    row, = [text.strip('| ').split(' | ') for text in
            capsys.readouterr().out.splitlines() if text.startswith('| /')]
    assert row[:2] == [config, 'fp32']
    assert float(row[2]) > 0 and int(row[4]) > 1
