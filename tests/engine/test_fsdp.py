"""FSDP's units, and the config of the FlexibleRunner."""
from functools import partial

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import FUNCTIONS, STRATEGIES
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import _recursive_wrap

from mmiformer import IFormer
from mmiformer.backbone.layers import Block


class Unit(torch.nn.Module):
    """Stands for FullyShardedDataParallel."""

    def __init__(self, module):
        super().__init__()
        self.module = module


@pytest.fixture
def strategy(configs):
    return Config.fromfile(
        configs / 'mask_rcnn/iformer_l_1x_fsdp.py').strategy


def test_each_block_is_a_unit(strategy):
    """By the name in the config, as torch asks it, without memory."""
    with FUNCTIONS.switch_scope_and_registry(None):  # as the wrapper does
        policy = FUNCTIONS.get(strategy.model_wrapper.auto_wrap_policy)
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


def test_the_strategy_writes_files_that_all_can_read(strategy):
    """IFormer compares all names when it loads: every rank needs them."""
    kind = STRATEGIES.get(strategy.pop('type'))
    assert kind.__name__ == 'ResumableFSDPStrategy'
    made = kind.__new__(kind)  # __init__ starts the process group
    made._init_state_dict_cfg(strategy.state_dict_cfg.to_dict())
    assert made.state_dict_type == StateDictType.FULL_STATE_DICT
    for part in (made.state_dict_config, made.optim_state_dict_config):
        assert part.offload_to_cpu and not part.rank0_only
