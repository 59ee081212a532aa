"""Two ways to do the same thing, timed in turns, so that what else the machine does meets both."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from bench.results import Agreement, Row


@dataclass
class Times:
    """Seconds of every repeat of both sides."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Their median over ours."""
        return statistics.median(self.theirs) / statistics.median(self.ours)

    def __add__(self, other: Times) -> Times:
        """Times of doing one thing and then the other, repeat by repeat."""
        sums = [
            [a + b for a, b in zip(*pair, strict=True)]
            for pair in ((self.ours, other.ours), (self.theirs, other.theirs))
        ]
        return Times(*sums)

    @classmethod
    def joined(cls, parts: Sequence[Times]) -> Times:
        """The repeats of several, as those of one."""
        return cls([s for part in parts for s in part.ours], [s for part in parts for s in part.theirs])

    def row(self, name: str, theirs: str, agreement: Agreement | None, **extra: Any) -> Row:
        """The row of these times; ``runs`` and ``spread`` (largest over smallest) say how steady they were."""
        extra["runs"] = {"ours_s": _rounded(self.ours), "theirs_s": _rounded(self.theirs)}
        extra["spread"] = {"ours": _spread(self.ours), "theirs": _spread(self.theirs)}
        medians = statistics.median(self.ours), statistics.median(self.theirs)
        return Row(
            name,
            theirs,
            *medians,
            self.ratio,
            agreement=agreement,
            extra=extra | {"threads": torch.get_num_threads()},
        )


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that something takes, and what it gives."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def interleaved(ours: Callable[[], Any], theirs: Callable[[], Any], repeats: int) -> tuple[Times, Any, Any]:
    """Run theirs, ours, theirs, ours, ...

    Returns
    -------
    tuple
        Times, and what the last call of ``ours`` and of ``theirs`` gave.
    """
    times = Times()
    of_ours = of_theirs = None
    for _ in range(repeats):
        seconds, of_theirs = timed(theirs)
        times.theirs.append(seconds)
        seconds, of_ours = timed(ours)
        times.ours.append(seconds)
    return times, of_ours, of_theirs


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let PyTorch and NumPy's BLAS use so many threads; more than there are idle cores makes either crawl."""
    before = torch.get_num_threads()
    with threadpool_limits(count):
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _rounded(seconds: list[float]) -> list[float]:
    return [float(f"{value:.4g}") for value in seconds]


def _spread(seconds: list[float]) -> float:
    return round(max(seconds) / min(seconds), 3)
