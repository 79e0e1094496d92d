"""How IFormer is sharded over GPUs."""
from mmengine._strategy.fsdp import FSDPStrategy
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..backbone.layers import Block


def wrap_blocks(module: nn.Module, recurse: bool,
                nonwrapped_numel: int) -> bool:
    """Policy of FullyShardedDataParallel: each block of each stage of an
    :class:`~mmiformer.IFormer` is a unit, the rest is one more.

    A stage cannot be a unit, since its output norm is used after its
    ``forward`` has returned.

    Args:
        module: The module in question.
        recurse: Whether the question is about its children or itself.
        nonwrapped_numel: Parameters in it that no unit has; not used.

    Returns:
        Whether to recurse into the module, or to make it a unit.
    """
    return recurse or isinstance(module, Block)


class ResumableFSDPStrategy(FSDPStrategy):
    """mmengine's FSDP strategy, which can resume with torch 2.1 and later.

    mmengine 0.10.7 passes the optimizer's state, the model and the optimizer
    in an order that torch had until 2.0.
    """

    def load_optim_state_dict(self, state_dict: dict) -> None:
        self.optim_wrapper.load_state_dict(
            FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model, optim=self.optim_wrapper.optimizer,
                optim_state_dict=state_dict))
