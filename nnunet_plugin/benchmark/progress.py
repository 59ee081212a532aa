"""How far a measurement is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from nnunet_plugin.benchmark.run import Progress

_SECONDS_BETWEEN_LINES = 15.0


def time_left(gained: int, missing: int, seconds: float) -> str:
    """Words for the time that ``missing`` variants take if ``gained`` took ``seconds``; empty where unknown."""
    if not gained:
        return ""
    minutes = seconds / gained * missing / 60
    return f", about {minutes:.0f} min left" if minutes >= 1 else ", less than a minute left"


@contextmanager
def variant_progress(total: int, console: Console) -> Iterator[Progress]:
    """Show progress over ``total`` variants; gives the callback that ``measure`` takes."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("variants", total=total)
            yield lambda case, count: bar.update(task, advance=count, description=case)
        return
    lines = _Lines(total, console)
    yield lines.advance


class _Lines:
    def __init__(self, total: int, console: Console) -> None:
        self._total, self._console = total, console
        self._found = self._gained = 0
        self._start = self._last = time.monotonic()

    def advance(self, _case: str, count: int) -> None:
        # What an earlier call measured arrives in one piece per case; it says nothing about the speed of this one.
        if count == 1:
            self._gained += 1
        else:
            self._found += count
        now, done = time.monotonic(), self._found + self._gained
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            left = time_left(self._gained, self._total - done, now - self._start)
            self._console.print(f"{done} of {self._total} variants measured{left}", highlight=False)
