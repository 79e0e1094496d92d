"""How IFormer is cut where its parameters are sharded over GPUs."""
from torch import nn

from ..backbone.layers import Block


def wrap_blocks(module: nn.Module, recurse: bool,
                nonwrapped_numel: int) -> bool:
    """Policy of FullyShardedDataParallel: each block of each stage of an
    :class:`~mmiformer.IFormer` is a unit, the rest is one more.

    A stage cannot be a unit, since its output norm is used after its
    ``forward`` has ended; and a block is what is gathered at a time.

    Args:
        module: Asked about.
        recurse: Whether about its children, or about itself.
        nonwrapped_numel: Parameters in it that no unit has; not looked at.
    """
    return recurse or isinstance(module, Block)
