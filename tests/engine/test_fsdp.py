"""FSDP's units, and the configs of the FlexibleRunner."""
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, STRATEGIES, init_default_scope
from torch.distributed.fsdp.wrap import _recursive_wrap

from mmiformer import IFormer
from mmiformer.backbone.layers import Block
from mmiformer.checks.preflight import find_weight_faults
from mmiformer.engine.resume import resume


class Unit(torch.nn.Module):
    """Stands for FullyShardedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.fixture
def strategy(configs):
    """The strategy of a config of iFormer-L."""
    def read(name):
        cfg = Config.fromfile(configs / f'mask_rcnn/iformer_l_1x_{name}.py')
        assert cfg.runner_type == 'FlexibleRunner'
        assert cfg.model.backbone.arch == 'large'
        return cfg

    return read


def test_each_block_is_a_unit(strategy):
    """By the name in the config, as torch asks it, without memory."""
    wrapper = strategy('fsdp').strategy.model_wrapper
    with FUNCTIONS.switch_scope_and_registry(None):  # as the wrapper does
        policy = FUNCTIONS.get(wrapper.auto_wrap_policy)
    with torch.device('meta'):
        model = torch.nn.ModuleDict(dict(
            backbone=IFormer('large'), head=torch.nn.Linear(640, 80)))
    blocks = {name for name, module in model.named_modules()
              if isinstance(module, Block)}
    assert len(blocks) == sum(model['backbone'].arch['depths']) == 36
    _recursive_wrap(
        model, auto_wrap_policy=partial(policy), wrapper_cls=Unit,
        ignored_modules=set(), ignored_params=set())
    units = {name for name, module in model.named_modules()
             if isinstance(module, Unit)}
    assert units == blocks


def test_fsdp_strategy_writes_files_that_all_can_read(strategy):
    """IFormer compares all names when it loads: none may be left out."""
    from torch.distributed.fsdp import StateDictType
    cfg = strategy('fsdp').strategy
    kind = STRATEGIES.get(cfg.pop('type'))
    assert kind.__name__ == 'ResumableFSDPStrategy'
    made = kind.__new__(kind)  # __init__ starts the process group
    made._init_state_dict_cfg(cfg.state_dict_cfg.to_dict())
    assert made.state_dict_type == StateDictType.FULL_STATE_DICT
    for part in (made.state_dict_config, made.optim_state_dict_config):
        assert part.offload_to_cpu and not part.rank0_only


def test_deepspeed_config(strategy):
    cfg = strategy('deepspeed')
    assert cfg.strategy.type == 'DeepSpeedStrategy'
    assert cfg.strategy.zero_optimization.stage == 2
    assert cfg.optim_wrapper.type == 'DeepSpeedOptimWrapper'
    assert cfg.optim_wrapper.optimizer.lr == 1e-4  # the recipe's


def test_deepspeed_finds_its_checkpoints_itself(strategy, tmp_path):
    """They are folders; mmengine goes on from the last."""
    cfg = strategy('deepspeed')
    cfg.work_dir = str(tmp_path)
    (tmp_path / 'epoch_1.pth').mkdir()
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    resume(cfg)
    assert cfg.resume and cfg.load_from is None
    cfg.model = {}
    assert not find_weight_faults(cfg, ('train', ))


def test_deepspeed_builds(strategy, tmp_path):
    pytest.importorskip('deepspeed')
    if not torch.cuda.is_available():
        pytest.skip('needs a GPU')
    from mmengine.registry import RUNNERS
    cfg = strategy('deepspeed')
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    cfg.work_dir, cfg.launcher = str(tmp_path), 'none'
    runner = RUNNERS.build(cfg)
    assert type(runner.strategy).__name__ == 'DeepSpeedStrategy'
