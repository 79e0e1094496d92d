"""What a check has found."""
from typing import Iterable, List, NamedTuple, Tuple

MAX_SHOWN = 3  # files of a finding that are printed


class Finding(NamedTuple):
    """One thing that is wrong.

    ``level`` is ``stop`` where a run fails as soon as it starts, ``error``
    where it stops later or is spoilt, ``note`` where it may be meant so.
    """
    level: str
    text: str
    files: Tuple[str, ...] = ()


class Report:
    """All findings, and a line on each data set that was read."""

    def __init__(self) -> None:
        self.findings: List[Finding] = []
        self.read: List[str] = []

    def add(self, level: str, text: str, files: Iterable[str] = ()) -> None:
        self.findings.append(Finding(level, text, tuple(files)))

    @property
    def errors(self) -> int:
        return sum(found.level != 'note' for found in self.findings)

    def as_dict(self) -> dict:
        """All of it in plain values, with every file."""
        return dict(
            errors=self.errors, notes=len(self.findings) - self.errors,
            read=self.read, findings=[x._asdict() for x in self.findings])

    def __str__(self) -> str:
        lines = []
        for level, text, files in sorted(
                self.findings, key=lambda found: found.level == 'note'):
            lines.append(f'{"note" if level == "note" else "error"}: {text}')
            lines += [f'    {file}' for file in files[:MAX_SHOWN]]
            if len(files) > MAX_SHOWN:
                lines.append(f'    ... and {len(files) - MAX_SHOWN} more')
        lines += [f'read: {line}' for line in self.read]
        lines.append(f'{self.errors} errors, '
                     f'{len(self.findings) - self.errors} notes')
        return '\n'.join(map(_printable, lines))


def _printable(text: str) -> str:
    """Names out of a damaged file must neither steer a terminal nor fail to
    be written to one."""
    return ''.join(c if c.isprintable() else
                   c.encode('unicode_escape').decode() for c in text)
