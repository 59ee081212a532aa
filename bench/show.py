"""What the user sees: how far it is, and the table of results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from bench.registry import Benchmark
from bench.results import Row

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def progress(console: Console, title: str) -> Iterator[Callable[[str], None]]:
    """Show what is being measured: a line that changes on a terminal, a new line now and then elsewhere."""
    if console.is_terminal:
        with console.status(title) as status:
            yield lambda text: status.update(f"{title}: {text}")
        return
    console.print(title, highlight=False)
    last = time.monotonic()

    def show(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            console.print(f"  {text}", highlight=False)

    yield show


def table(rows: Sequence[Row]) -> Table:
    """The ratios, with what was asked and how equal the results were."""
    result = Table(Column("benchmark", no_wrap=True), "theirs", "theirs, s", "ours, s", "ratio", "target", "agreement")
    for row in rows:
        if row.skipped:
            result.add_row(row.name, escape(f"skipped: {row.skipped}"), style="dim")
            continue
        agreement = escape(row.agreement.text) if row.agreement else ""
        if row.agreement and not row.agreement.holds:
            agreement = f"[bold red]violated:[/] {agreement}"
        numbers = (_number(row.theirs_s), _number(row.ours_s), _number(row.ratio))
        result.add_row(row.name, row.theirs, *numbers, _target(row), agreement)
    return result


def listing(benchmarks: Sequence[Benchmark]) -> Table:
    """The benchmarks there are, with the names and targets of their rows."""
    result = Table(Column("benchmark", no_wrap=True), "compares", "rows (target)")
    for benchmark in benchmarks:
        targets = ", ".join(name + (f" ({target:g})" if target else "") for name, target in benchmark.targets.items())
        result.add_row(benchmark.name, benchmark.about, targets)
    return result


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{row.target:g} [green]met[/]" if row.met else f"{row.target:g} [yellow]missed[/]"
