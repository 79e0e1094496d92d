"""How a check runs: what it reads, how it shows progress, where it reports."""
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Callable, Iterable, Iterator, List, Optional, Tuple

from .kinds import Kind, Report

BATCH = 1024  # files that are handed to the threads at once


@dataclass
class CheckContext:
    """How much to read, and where the faults go.

    Attributes:
        report: Gathers the faults.
        progress: Shows it; takes items, a label and how many there are.
        sample: Maximum of files of a data set that are touched, and of class
            folders that are listed; None for all.
        max_annotation_bytes: Larger annotation files are not parsed.
    """
    report: Report = field(default_factory=Report)
    progress: Callable[[Iterable, str, int], Iterable] = (
        lambda items, label, total: items)
    sample: Optional[int] = None
    max_annotation_bytes: Optional[int] = None

    @property
    def brief(self) -> bool:
        return self.sample is not None

    def add(self, kind: Kind, name: str) -> None:
        """Reports a fault: the file, what in it, and the value."""
        self.report.faults.setdefault(kind, []).append(name)

    def choose(self, items: list) -> list:
        """All items, or as many as may be touched, evenly spaced."""
        if self.sample is None or len(items) <= self.sample:
            return items
        return [items[i * (len(items) - 1) // (self.sample - 1)]
                for i in range(self.sample)]

    def read_each(self, function: Callable, items: list, label: str
                  ) -> Iterator[tuple]:
        """Yields chosen items, each with the function's result. It runs in
        threads: decoders release the GIL."""
        items = self.choose(items)

        def results() -> Iterator[tuple]:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                for start in range(0, len(items), BATCH):
                    batch = items[start:start + BATCH]
                    yield from zip(batch, pool.map(function, batch))

        yield from self.progress(results(), label, len(items))


@dataclass
class CheckResult:
    """What a data set reads: the images; and the classes in the order of the
    labels, where its files decide that."""
    images: List[str] = field(default_factory=list)
    classes: Optional[Tuple[str, ...]] = None
