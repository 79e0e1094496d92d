"""What is wrong with data, gathered by kind."""
from typing import Dict, List, NamedTuple

NAMES = 5  # of a kind that are shown


class Kind(NamedTuple):
    """A way in which data can be wrong.

    ``effect`` says what the framework does with it, as read in its code;
    ``error`` whether that stops or spoils a training.
    """
    title: str
    effect: str
    error: bool


class Report:
    """Every fault by its kind, and what has been read."""

    def __init__(self) -> None:
        self.faults: Dict[Kind, List[str]] = {}
        self.read: List[str] = []

    def add(self, kind: Kind, name: str) -> None:
        """Takes a fault: the file, what in it, and the value."""
        self.faults.setdefault(kind, []).append(_printable(name))

    def count(self, error: bool) -> int:
        """How many faults are errors, or notes."""
        return sum(len(names) for kind, names in self.faults.items()
                   if kind.error == error)

    @property
    def errors(self) -> int:
        return self.count(error=True)

    def as_dict(self) -> dict:
        """All of it in plain values, no name left out."""
        return dict(
            errors=self.errors, notes=self.count(error=False), read=self.read,
            faults=[dict(kind._asdict(), count=len(names), names=names)
                    for kind, names in self._sorted()])

    def __str__(self) -> str:
        lines = []
        for kind, names in self._sorted():
            lines.append(f'{"error" if kind.error else "note"}: {kind.title}: '
                         f'{len(names)} ({kind.effect})')
            lines += [f'    {name}' for name in names[:NAMES]]
            if len(names) > NAMES:
                lines.append(f'    ... and {len(names) - NAMES} more')
        lines += [f'read: {line}' for line in self.read]
        lines.append(f'{self.errors} errors, {self.count(error=False)} notes')
        return '\n'.join(lines)

    def _sorted(self) -> list:
        return sorted(self.faults.items(), key=lambda item: not item[0].error)


def _printable(text: str) -> str:
    """Names out of a damaged file must neither steer a terminal nor fail to
    be written to one."""
    return ''.join(c if c.isprintable() else
                   c.encode('unicode_escape').decode() for c in text)
