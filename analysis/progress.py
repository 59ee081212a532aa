"""How far a report is: a bar per step on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many steps of it are done, and of how many."""

_SECONDS_BETWEEN_LINES = 15.0


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Say nothing."""


@contextmanager
def step_progress(console: Console) -> Iterator[Progress]:
    """Show steps as they are done; gives the callback to call."""
    if console.is_terminal:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Bar(*columns, console=console, transient=True) as bar:
            yield _Bars(bar).advance
        return
    yield _Lines(console).advance


class _Bars:
    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def advance(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(what, total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = time.monotonic()

    def advance(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            self._console.print(f"{what}: {done} of {total}", highlight=False)
