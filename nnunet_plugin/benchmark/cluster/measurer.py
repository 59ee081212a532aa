"""A Dask cluster that measures: opened through one of its workers, without loading the model here."""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from distributed import CancelledError, Client, Future
from distributed.scheduler import KilledWorker

from nnunet_plugin.benchmark.catalogue import shipped
from nnunet_plugin.benchmark.cluster.connection import quiet, remote_client
from nnunet_plugin.benchmark.cluster.crew import Crew, Say, cannot_run
from nnunet_plugin.benchmark.cluster.local import local_client
from nnunet_plugin.benchmark.cluster.tasks import Job, Opened, Refused, open_here
from nnunet_plugin.benchmark.cluster.waves import Waves
from nnunet_plugin.benchmark.cluster.worker import packed
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.model_folder import file_sha256
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import writing
from nnunet_plugin.benchmark.run import Progress
from nnunet_plugin.benchmark.settings import Options
from nnunet_plugin.benchmark.workers import visible_gpus

LOCAL = "local"
"""Stands for a cluster of this machine alone, in place of an address."""

_SECONDS_BETWEEN_LOOKS = 0.05
_SECONDS_TO_ANSWER = 5.0
_WORKERS_TRIED = 3


class Cluster:
    """Measures on the workers of a Dask cluster; one of them opens the benchmark first, which makes the run folder.

    Parameters
    ----------
    client
        Connected to the scheduler.
    options
        What the user asks for.
    say
        Told of workers that are lost or cannot be used.

    Attributes
    ----------
    run : RunFolder
        The run folder.
    size : int
        Number of volumes to predict.
    worker_count : int
        How many workers there is room for on the machine of the worker that was asked.

    Raises
    ------
    BenchmarkError
        Where no worker can open the benchmark, or this machine does not see the run folder.
    """

    def __init__(self, client: Client, options: Options, say: Say) -> None:
        self._client, self._crew = client, Crew(client, say)
        self._session, self._options = _token(), packed(_with_shared_paths(options))
        opened = _open(client, self._crew, self._session, self._options)
        try:
            self.run = RunFolder(Path(opened.run))
        except BenchmarkError as error:
            raise BenchmarkError(
                f"{error}; a worker has just made it there: name a folder with -o that is on a file system shared by "
                "this machine and the workers"
            ) from error
        self._cases: tuple[str, ...] = tuple(self.run.settings["cohort"]["cases"])
        self.size = len(self._cases) * opened.variants
        self.worker_count = opened.worker_count

    def measure(self, run: RunFolder, progress: Progress) -> None:
        """Measure every case that is not measured yet: :func:`~nnunet_plugin.benchmark.run.measure` on the workers.

        Parameters
        ----------
        run
            :attr:`run`, or a repeat of it that has been made with the same settings.
        progress
            Called in this thread as variants become available, with those found on disk counted too.

        Raises
        ------
        RunFolderError
            Where rows cannot be written.
        BenchmarkError
            Where no worker can be used, or the scheduler is lost.
        """
        folder = run.path.absolute()
        fingerprint = file_sha256(folder / "run.toml")
        job = Job(_token(), self._session, self._options, str(folder), fingerprint, _clock_of(folder))
        Waves(self._client, self._crew, job, self._cases, progress).finish()


@contextmanager
def cluster(scheduler: str, options: Options, say: Say) -> Iterator[Cluster]:
    """Connect to a cluster, or start one here that ends with the context.

    Parameters
    ----------
    scheduler
        Address of a Dask scheduler, or ``local``.
    options, say
        As for :class:`Cluster`.

    Raises
    ------
    BenchmarkError
        Where no scheduler answers, or no worker can open the benchmark.
    """
    is_local = scheduler == LOCAL
    gpus = visible_gpus(options.device) if is_local else []
    with quiet(), local_client(gpus) if is_local else remote_client(scheduler, say) as client:
        try:
            workers = Cluster(client, options, say)
            if is_local:
                client.cluster.scale(len(gpus) or workers.worker_count)
            yield workers
        except KeyboardInterrupt:
            say("stopping" if is_local else "stopping; workers finish the case that they have in hand")
            raise


def _with_shared_paths(options: Options) -> Options:
    """Options that mean the same in every working directory."""
    catalogue = options.catalogue
    return replace(
        options,
        model=options.model.absolute(),
        images=options.images.absolute(),
        labels=options.labels.absolute(),
        run=options.run.absolute() if options.run else None,
        catalogue=catalogue if catalogue in shipped() else str(Path(catalogue).absolute()),
    )


def _open(client: Client, crew: Crew, session: str, options: Mapping[str, Any]) -> Opened:
    """Have one worker open the benchmark, trying a few of them."""
    refusals = 0
    crew.look()
    while refusals < _WORKERS_TRIED:
        crew.glance()
        if crew.is_unfit:
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            continue
        only = crew.only()
        answer = _answer(client.submit(open_here, session, options, pure=False, workers=only), crew, only)
        if isinstance(answer, Opened):
            crew.announce()
            return answer
        if answer is not None:
            crew.refuse(answer.worker, answer.message)
            refusals += 1
    raise crew.unfit()


def _answer(future: Future, crew: Crew, only: list[str] | None) -> Opened | Refused | None:
    """Wait for a task; None where it has to be given out again."""
    while not future.done():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        crew.glance()
        if only is not None and not crew.has_any(only):
            future.cancel()
            return None
    try:
        answer: Opened | Refused = future.result(timeout=_SECONDS_TO_ANSWER)
    except (CancelledError, TimeoutError):  # whoever kept it is gone
        future.cancel()
        return None
    except KilledWorker as error:
        raise BenchmarkError(
            f"{error.allowed_failures + 1} workers died while they opened the benchmark, the last at "
            f"{error.last_worker.address}; is there enough memory?"
        ) from error
    except Exception as error:
        raise cannot_run(error) from error
    return answer


def _clock_of(folder: Path) -> float:
    """Now, by the clock that dates the files of a folder; the clocks of machines differ."""
    with writing(folder, "into the run folder"), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _token() -> str:
    return uuid.uuid4().hex
