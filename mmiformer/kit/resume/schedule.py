"""Learning rates and schedules of a run that resumes with other ones."""
import warnings
from collections import Counter
from typing import Any, Dict, List, Union

from mmengine.optim import OptimWrapper, OptimWrapperDict, _ParamScheduler

# What changes in a scheduler as it steps.
PROGRESS = {'last_step', '_global_step', '_last_value', 'best',
            'num_bad_epochs', 'cooldown_counter'}
REST = PROGRESS | {'base_values', 'verbose'}  # base values: of the groups
Schedulers = Union[None, List[_ParamScheduler],
                   Dict[str, List[_ParamScheduler]]]


class Schedule:
    """An optimizer's hyperparameters and schedulers, as the config sets
    them.

    Args:
        wrapper: Before a checkpoint is loaded.
        schedulers: Likewise.
    """

    def __init__(self, wrapper: OptimWrapper,
                 schedulers: List[_ParamScheduler]) -> None:
        self.wrapper, self.schedulers = wrapper, schedulers
        self.groups = [
            {key: value for key, value in group.items() if key != 'params'}
            for group in wrapper.param_groups]
        self.states = [scheduler.state_dict() for scheduler in schedulers]

    def missing(self) -> List[str]:
        """Hyperparameters that the loaded optimizer lacks."""
        return sorted({
            key for old, new in zip(self.wrapper.param_groups, self.groups)
            for key in new.keys() - old.keys()
            if not key.startswith('initial_')})

    def changes(self, saved: List[dict]) -> List[str]:
        """What differs from a checkpoint, after its optimizer is loaded.

        Args:
            saved: The states of the checkpoint's schedulers.
        """
        found = []
        for old, new in zip(self.wrapper.param_groups, self.groups):
            for key in new.keys() & old.keys():
                # A scheduled value is compared before it was scheduled.
                values = [_text(group.get(f'initial_{key}', group[key]))
                          for group in (old, new)]
                if key.startswith('initial_') or values[0] == values[1]:
                    continue
                found.append(f'{key} {values[0]} -> {values[1]}')
        if len(saved) != len(self.states):
            found.append(f'schedulers {len(saved)} -> {len(self.states)}')
        for old, new, scheduler in zip(saved, self.states, self.schedulers):
            for key in sorted((old.keys() | new.keys()) - REST):
                values = [state.get(key) for state in (old, new)]
                if not callable(values[1]) and (
                        _text(values[0]) != _text(values[1])):
                    found.append(f'{type(scheduler).__name__}.{key} '
                                 f'{_text(values[0])} -> {_text(values[1])}')
        return list(dict.fromkeys(found))

    def apply(self, iterations: int, epochs: int) -> None:
        """Sets the config's values, as they are after so many steps.

        Schedulers that follow a metric start anew.
        """
        for group, values in zip(self.wrapper.param_groups, self.groups):
            for key in [key for key in group if key.startswith('initial_')]:
                del group[key]
            group.update(values)
        for scheduler, state in zip(self.schedulers, self.states):
            scheduler.__dict__ = dict(state, optimizer=scheduler.optimizer)
        length = iterations // epochs if epochs else 0
        with warnings.catch_warnings():  # the optimizer has not stepped yet
            warnings.simplefilter('ignore', UserWarning)
            for _ in range(epochs):
                self._step(False, length)
                self._step(True, 1)
            self._step(False, iterations - epochs * length)

    def _step(self, by_epoch: bool, count: int) -> None:
        schedulers = [
            scheduler for scheduler in self.schedulers
            if scheduler.by_epoch == by_epoch
            and not getattr(scheduler, 'need_val_args', False)]
        for _ in range(count if schedulers else 0):
            for scheduler in schedulers:
                scheduler.step()


def read_schedules(wrapper: Union[OptimWrapper, OptimWrapperDict],
                   schedulers: Schedulers) -> Dict[str, Schedule]:
    """By the optimizer's name; empty if there is one."""
    if not isinstance(wrapper, OptimWrapperDict):
        return {'': Schedule(wrapper, schedulers or [])}
    if not isinstance(schedulers, dict):
        schedulers = dict.fromkeys(wrapper.keys(), schedulers or [])
    return {name: Schedule(part, schedulers.get(name, []))
            for name, part in wrapper.items()}


def saved_states(saved: Union[None, list, dict], name: str) -> List[dict]:
    """Of an optimizer's schedulers, from a checkpoint's
    ``param_schedulers``."""
    return (saved.get(name, []) if isinstance(saved, dict) else saved) or []


def _text(value: Any) -> str:
    if isinstance(value, dict):  # milestones, in a checkpoint a plain dict
        value = sorted(Counter(value).elements())
    return repr(value)
