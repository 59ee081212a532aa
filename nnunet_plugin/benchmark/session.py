"""A measuring session: a run and its repeats, measured by this process or by the workers of a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console

from nnunet_plugin.benchmark import run as single_process
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.progress import variant_progress
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.run import Progress
from nnunet_plugin.benchmark.settings import Options, open_benchmark


@dataclass(frozen=True)
class Outcome:
    """What a session leaves behind.

    Attributes
    ----------
    run
        The run folder, of which all repeats are a part.
    table
        The table that was written last.
    failures
        Messages of the cases that could not be measured, by case name.
    """

    run: Path
    table: Path
    failures: dict[str, str]


def run_session(options: Options, console: Console, *, scheduler: str | None = None, repeats: int = 0) -> Outcome:
    """Measure a run, and the same again in ``RUN/repeats``; what is there already is not measured again.

    Parameters
    ----------
    options
        What the user asks for.
    console
        Where progress is shown.
    scheduler
        Address of a Dask scheduler, or ``local``; None to measure in this process.
    repeats
        How often to measure again.

    Raises
    ------
    BenchmarkError
        Where an option cannot be worked with or nothing can go on. The tables of what is measured are written.
    """
    failures: dict[str, str] = {}
    with _measurer(options, scheduler, console) as measurer:
        first = run = measurer.run
        for number in range(repeats + 1):
            if number:
                run = RunFolder.create(first.path / "repeats" / f"{number:02d}", first.settings)
            console.print(f"Run folder: {run.path}", highlight=False)
            try:
                with variant_progress(measurer.size, console) as progress:
                    measurer.measure(run, progress)
            finally:
                table = run.write_table()
            failures |= run.failures()
    return Outcome(first.path, table, failures)


class _Measurer(Protocol):
    run: RunFolder
    size: int

    def measure(self, run: RunFolder, progress: Progress) -> None: ...


class _ThisProcess:
    """Measures by itself."""

    def __init__(self, options: Options) -> None:
        self._benchmark = open_benchmark(options)
        self.run = self._benchmark.run
        self.size = self._benchmark.size

    def measure(self, run: RunFolder, progress: Progress) -> None:
        benchmark = replace(self._benchmark, run=run)
        single_process.measure(benchmark, benchmark.variants, progress)


@contextmanager
def _measurer(options: Options, scheduler: str | None, console: Console) -> Iterator[_Measurer]:
    if scheduler is None:
        yield _ThisProcess(options)
        return
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise BenchmarkError(
            "--scheduler needs dask.distributed: pip install 'nnunetv2-robustness[distributed]'"
        ) from error
    from nnunet_plugin.benchmark.cluster.measurer import cluster

    with cluster(scheduler, options, partial(console.print, highlight=False, markup=False)) as workers:
        yield workers
