"""Show how far a loop over cases is: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_SECONDS_BETWEEN_LINES = 30.0


class CaseProgress:
    """Progress over a number of cases that becomes known with the first of them.

    Parameters
    ----------
    title : str
        What is being done.
    console : rich.console.Console
        Where to show it.
    """

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console) if console.is_terminal else None
        self._task = self._bar.add_task(title, total=None) if self._bar else None
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def __enter__(self) -> CaseProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int) -> None:
        """Say that ``done`` of ``total`` cases are finished."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        elif done == total or time.monotonic() >= self._next_line:
            self.say(f"{self._title}: {done} of {total}")
            self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES

    def say(self, text: str) -> None:
        """Print a line above the bar, as it is: no markup, no wrapping."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
