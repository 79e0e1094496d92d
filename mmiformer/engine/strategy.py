"""mmengine's FSDP strategy, that it can resume beside torch 2.1 and later."""
from mmengine._strategy.fsdp import FSDPStrategy
from torch.distributed.fsdp import FullyShardedDataParallel


class ResumableFSDPStrategy(FSDPStrategy):
    """mmengine 0.10.7 gives torch the optimiser's state, the model and the
    optimiser in an order that torch had until 2.0."""

    def load_optim_state_dict(self, state_dict: dict) -> None:
        self.optim_wrapper.load_state_dict(
            FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model, optim=self.optim_wrapper.optimizer,
                optim_state_dict=state_dict))
