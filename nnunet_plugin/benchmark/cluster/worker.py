"""A worker of a Dask cluster: opens the benchmark once, then measures a case at a time.

Rows go straight into the run folder, which all workers share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from distributed import get_worker

from nnunet_plugin.benchmark.cluster.tasks import PROGRESS, Answer, Job, Opened
from nnunet_plugin.benchmark.cohort import Case
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.model_folder import file_sha256
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import RunFolderError
from nnunet_plugin.benchmark.run import Benchmark, attempt
from nnunet_plugin.benchmark.settings import Options, open_benchmark
from nnunet_plugin.benchmark.workers import worker_count


def packed(options: Options) -> dict[str, Any]:
    """Options as plain values; :class:`Options` and paths would make the scheduler import what they need."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}


def open_run(session: str, options: Mapping[str, Any]) -> Opened:
    """Open the benchmark, which makes the run folder.

    Raises
    ------
    BenchmarkError
        Where an option cannot be worked with here.
    """
    benchmark = _opened(session, _unpacked(options))
    count = worker_count(benchmark, options["device"])
    return Opened(str(benchmark.run.path.absolute()), len(benchmark.variants) + 1, count)


def measure(job: Job, name: str) -> Answer:
    """Measure one case of a job, or what is missing of it.

    Raises
    ------
    BenchmarkError
        Where this worker cannot measure, whatever the case.
    """
    options = _unpacked(job.options)
    benchmark = _benchmark(job.session, options, Path(job.run), job.fingerprint)
    # Torch keeps this number for each thread, and Dask calls from a thread of its own.
    torch.set_num_threads(options.threads)
    (case,) = (case for case in benchmark.cohort.cases if case.name == name)
    try:
        outcome = _attempted(benchmark, case, job)
        fault = _fault_of_device(benchmark) if benchmark.run.failed_since(name, job.started) else None
        if fault:
            benchmark.run.clear_failure(name)
    except RunFolderError as error:
        return Answer("unwritable", get_worker().address, str(error))
    if fault:
        raise BenchmarkError(fault)
    return outcome


def _attempted(benchmark: Benchmark, case: Case, job: Job) -> Answer:
    worker, available = get_worker(), 0

    def progress(_case: str, count: int) -> None:
        # The sum, not the step: a case that is handed out again must not be counted twice.
        nonlocal available
        available += count
        worker.log_event(PROGRESS, (job.name, case.name, available))

    held = attempt(benchmark, [case], benchmark.variants, progress, job.started)
    return Answer("held" if held else "measured", worker.address, "")


def _unpacked(options: Mapping[str, Any]) -> Options:
    paths = {name: Path(options[name]) for name in ("model", "images", "labels", "run") if options[name] is not None}
    return Options(**{**options, **paths})


@lru_cache(maxsize=1)
def _opened(session: str, options: Options) -> Benchmark:  # noqa: ARG001
    """One for each session, because files may change between sessions."""
    return open_benchmark(options)


@lru_cache(maxsize=1)
def _benchmark(session: str, options: Options, run: Path, fingerprint: str) -> Benchmark:
    """The benchmark with this run folder: that of the options, or a repeat inside it."""
    try:
        is_shared = file_sha256(run / "run.toml") == fingerprint
    except OSError:
        is_shared = False
    if not is_shared:
        raise BenchmarkError(
            f"it does not see the run folder {run} that the others work in; name a folder with -o that is on a file "
            "system shared by all machines"
        )
    benchmark = _opened(session, options)
    return benchmark if benchmark.run.path.absolute() == run else replace(benchmark, run=RunFolder(run))


def _fault_of_device(benchmark: Benchmark) -> str | None:
    """What is wrong with the device: a GPU that has failed once fails every case after it."""
    device = benchmark.ensemble.device
    try:
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        return f"its device {device} no longer works ({str(error).splitlines()[0]}); start the worker again"
    return None
