"""Checkpoints of runs that open anywhere."""
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS

from ...checkpoint import drop_code, to_plain


@HOOKS.register_module(force=True)
class PlainCheckpointHook(Hook):
    """Keeps classes of mmengine and NumPy out of checkpoints.

    They then open with ``torch.load(path, weights_only=True)`` in any process.
    When a run resumes, the training history is turned back into mmengine's
    ``HistoryBuffer``, and a config in ``meta``, which mmengine would run as a
    program, is dropped.
    """

    priority = 'LOWEST'  # after hooks that add something

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        for key in {'meta', 'message_hub', 'param_schedulers'} & {*checkpoint}:
            checkpoint[key] = to_plain(checkpoint[key])

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        drop_code(checkpoint)
        scalars = checkpoint.get('message_hub', {}).get('log_scalars', {})
        for name, value in scalars.items():
            if isinstance(value, dict):
                scalars[name] = HistoryBuffer(
                    value['log'].cpu().numpy(), value['count'].cpu().numpy(),
                    value['max_length'])
