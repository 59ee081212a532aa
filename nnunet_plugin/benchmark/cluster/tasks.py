"""What is sent to the workers of a Dask cluster, and what comes back.

The scheduler imports this module too, so that it must stay light, and holds plain values only: a few words per case.
What goes wrong comes back as a value, because the client may not be able to load the exceptions of another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal, NamedTuple, TypeVar

from distributed import get_worker

from nnunet_plugin.benchmark.errors import BenchmarkError

# The network, and all that reads images, is imported where it is used: on the workers.

PROGRESS = "nnunetv2-robustness-progress"
"""Dask topic of the events ``(job, case, variants available)`` that tell clients how far their cases are."""

ANSWERS = "nnunetv2-robustness-answers"
"""Dask topic of the events ``(job, key of the task, *Answer)``, each of which comes before its task is done.

A result would stay on its worker until it is fetched, and be lost with it.
"""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """What all cases of one run have in common.

    Attributes
    ----------
    name
        Tells the events of this job from those of others.
    session
        Tells the client's session from others, whose model may have been another one of the same name.
    options
        Fields of :class:`~nnunet_plugin.benchmark.settings.Options`, paths as absolute ones in strings.
    run
        Path of the run folder, which exists.
    fingerprint
        SHA-256 of its ``run.toml``, so that a worker notices when it sees another folder under that name.
    started
        Cases that have failed since are not tried again: seconds since the epoch by the clock of the file system.
    """

    name: str
    session: str
    options: Mapping[str, Any]
    run: str
    fingerprint: str
    started: float


@dataclass(frozen=True)
class Opened:
    """A worker has opened the benchmark: what the client cannot know without loading the model.

    Attributes
    ----------
    run
        Absolute path of the run folder.
    variants
        Volumes to predict for each case: the grid and the baseline.
    worker_count
        How many workers there is room for on the worker's machine.
    """

    run: str
    variants: int
    worker_count: int


@dataclass(frozen=True)
class Refused:
    """A worker cannot open the benchmark."""

    worker: str
    message: str


class Answer(NamedTuple):
    """How it went with a case.

    Attributes
    ----------
    outcome
        ``measured`` (or recorded as failed); ``held`` by another process; the run folder is ``unwritable``; this
        worker is ``unfit``.
    worker
        Address of the worker.
    message
        The rest in words.
    """

    outcome: Literal["measured", "held", "unwritable", "unfit"]
    worker: str
    message: str


def open_here(session: str, options: Mapping[str, Any]) -> Opened | Refused:
    """Open the benchmark, which makes the run folder, and keep it for the cases to come."""

    def work() -> Opened:
        from nnunet_plugin.benchmark.cluster.worker import open_run

        return open_run(session, options)

    return _unless_unfit(work)


def measure_case(job: Job, case: str) -> None:
    """Measure one case of a job, or what is missing of it."""

    def work() -> Answer:
        from nnunet_plugin.benchmark.cluster.worker import measure

        return measure(job, case)

    worker, answer = get_worker(), _unless_unfit(work)
    if isinstance(answer, Refused):
        answer = Answer("unfit", answer.worker, answer.message)
    worker.log_event(ANSWERS, (job.name, worker.get_current_task(), *answer))


def package_version() -> str:
    """Version of this package here; a worker that cannot answer has not got it."""
    return version("nnunetv2-robustness")


def _unless_unfit(work: Callable[[], Result]) -> Result | Refused:
    worker = get_worker()
    threads = worker.state.nthreads
    if threads != 1:
        message = f"it has {threads} threads, a benchmark needs one; start workers with --nthreads 1"
        return Refused(worker.address, message)
    try:
        return work()
    except BenchmarkError as error:
        return Refused(worker.address, str(error))
    except Exception as error:
        # A broken installation or GPU must not be taken for a fault of the cases.
        return Refused(worker.address, f"{type(error).__name__}: {error}")
