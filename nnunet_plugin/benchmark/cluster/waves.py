"""Hand out the cases of one run in waves: a few for each worker, whoever comes and goes."""

from __future__ import annotations

import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from distributed import Client, Future
from distributed.scheduler import KilledWorker

from nnunet_plugin.benchmark.cluster.crew import Crew, cannot_run
from nnunet_plugin.benchmark.cluster.tasks import ANSWERS, PROGRESS, Answer, Job, measure_case
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import RunFolderError
from nnunet_plugin.benchmark.run import Progress

_DEATHS_ALLOWED = 3
_FUTURES_PER_WORKER = 2
_TICK_SECONDS = 1.0
_SECONDS_UNTIL_TRIED_AGAIN = 2.0
_TIMES_HELD_IN_SILENCE = 15


@dataclass(frozen=True)
class _Flight:
    """A case that has been handed out.

    Attributes
    ----------
    future
        Dask's handle.
    case
        Its name.
    available
        Variants that were known to be available then.
    only
        The workers that it was kept to, if it was.
    is_alone
        Whether nothing else was handed out, so that whatever kills a worker is this case.
    """

    future: Future
    case: str
    available: int
    only: Sequence[str] | None
    is_alone: bool


class Waves:
    """The cases of one run on their way to the workers and back.

    Everything that happens elsewhere is put into one queue and dealt with by the thread that calls :meth:`finish`.

    Parameters
    ----------
    client, crew
        The cluster.
    job
        What is handed out with each case.
    cases
        Their names.
    progress
        Called as variants become available, with those found on disk counted too.
    """

    def __init__(self, client: Client, crew: Crew, job: Job, cases: Sequence[str], progress: Progress) -> None:
        self._client, self._crew, self._job, self._progress = client, crew, job, progress
        self._run = RunFolder(job.run)
        self._waiting = deque(cases)
        self._held: deque[tuple[float, str]] = deque()
        self._suspects: deque[str] = deque()
        self._flying: dict[str, _Flight] = {}
        self._available: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._times_held: Counter[str] = Counter()
        self._answers: dict[str, Answer] = {}
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def finish(self) -> None:
        """Return when every case is measured or has failed.

        Raises
        ------
        RunFolderError
            Where rows cannot be written.
        BenchmarkError
            Where no worker can be used, or the scheduler is lost.
        """
        self._client.subscribe_topic(PROGRESS, self._heard_progress)
        self._client.subscribe_topic(ANSWERS, self._heard_answer)
        try:
            while self._waiting or self._held or self._suspects or self._flying:
                if self._client.status == "running":
                    self._look()
                    self._hand_out()
                elif self._client.status != "connecting":
                    raise BenchmarkError("the scheduler is gone; the same command goes on from here")
                with suppress(queue.Empty):
                    self._inbox.get(timeout=_TICK_SECONDS)()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Take back what no worker has begun."""
        if self._client.status != "running":
            return
        with suppress(OSError):  # the scheduler is lost just now
            self._client.unsubscribe_topic(PROGRESS)
            self._client.unsubscribe_topic(ANSWERS)
            self._client.cancel([flight.future for flight in self._flying.values()])

    def _look(self) -> None:
        """Take back cases that are kept to workers that are all gone."""
        if not self._crew.glance():
            return
        self._crew.announce()
        for key, flight in list(self._flying.items()):
            if flight.only is not None and not self._crew.has_any(flight.only):
                del self._flying[key]
                flight.future.cancel()
                self._died(flight, 1)

    def _hand_out(self) -> None:
        while self._held and self._held[0][0] <= time.monotonic():
            self._waiting.append(self._held.popleft()[1])
        if self._crew.is_unfit or any(flight.is_alone for flight in self._flying.values()):
            return
        for _ in range(_FUTURES_PER_WORKER * max(1, len(self._crew)) - len(self._flying)):
            if self._waiting:
                self._submit(self._waiting.popleft())
        if self._suspects and not self._flying:
            self._submit(self._suspects.popleft(), is_alone=True)

    def _submit(self, case: str, is_alone: bool = False) -> None:
        only = self._crew.only()
        # Keys without the case's name: the scheduler remembers every new beginning of a key for good.
        future = self._client.submit(measure_case, self._job, case, pure=False, workers=only)
        self._flying[future.key] = _Flight(future, case, self._available[case], only, is_alone)
        future.add_done_callback(lambda done: self._inbox.put(partial(self._landed, done.key)))

    def _heard_progress(self, event: tuple[float, tuple[str, str, int]]) -> None:
        job, case, available = event[1]
        if job == self._job.name:
            self._inbox.put(partial(self._gained, case, available))

    def _heard_answer(self, event: tuple[float, tuple[Any, ...]]) -> None:
        job, key, *answer = event[1]
        if job == self._job.name:
            self._inbox.put(partial(self._answers.__setitem__, key, Answer(*answer)))

    def _gained(self, case: str, available: int) -> None:
        if available > self._available[case]:
            self._progress(case, available - self._available[case])
            self._available[case] = available

    def _landed(self, key: str) -> None:
        """Deal with a task that is done, whose answer has come before."""
        answer = self._answers.pop(key, None)
        flight = self._flying.pop(key, None)
        if flight is None:  # taken back
            return
        error = flight.future.exception() if flight.future.status == "error" else None
        if answer is not None:
            self._answered(flight.case, answer)
        elif isinstance(error, KilledWorker):
            self._died(flight, error.allowed_failures + 1)
        elif error is not None:
            raise cannot_run(error) from error
        else:  # the connection to the scheduler was lost meanwhile
            self._waiting.append(flight.case)
        flight.future.release()

    def _answered(self, case: str, answer: Answer) -> None:
        if answer.outcome == "unfit":
            self._crew.refuse(answer.worker, answer.message)
            self._crew.announce()
            self._waiting.append(case)
        elif answer.outcome == "held":
            self._held.append((time.monotonic() + _SECONDS_UNTIL_TRIED_AGAIN, case))
            self._times_held[case] += 1
            if self._times_held[case] == _TIMES_HELD_IN_SILENCE:
                self._crew.say(f"case {case} is held by another process; waiting for it")
        elif answer.outcome == "unwritable":
            raise RunFolderError(answer.message)

    def _died(self, flight: _Flight, workers: int) -> None:
        """Decide on a case whose workers died: it is to blame, or one that was handed out with it, or none."""
        case = flight.case
        got_on = self._available[case] > flight.available  # then they were taken away, for whatever reason
        self._deaths[case] = 0 if got_on else self._deaths[case] + workers
        if self._deaths[case] <= _DEATHS_ALLOWED:
            (self._suspects if flight.is_alone else self._waiting).append(case)
        elif not flight.is_alone:
            self._deaths[case] = 0
            self._suspects.append(case)
        else:
            message = f"{self._deaths[case]} workers died over it; is there enough memory for this case?"
            self._run.record_failure(case, message)
