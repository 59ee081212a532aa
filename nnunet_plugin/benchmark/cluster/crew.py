"""The workers of a cluster as they come, go and turn out to be unfit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Sequence

from distributed import Client

from nnunet_plugin.benchmark.cluster.tasks import package_version
from nnunet_plugin.benchmark.errors import BenchmarkError

_SECONDS_BETWEEN_LOOKS = 1.0
_WORKERS_LISTED = 3

Say = Callable[[str], None]
"""Shows the user a line."""


class Crew:
    """Who can be handed work.

    Parameters
    ----------
    client
        Connected to the scheduler.
    say
        Told of every worker that is lost or cannot be used, once.
    """

    def __init__(self, client: Client, say: Say) -> None:
        self._client = client
        self.say = say
        self._here: set[str] = set()
        self._fit: set[str] = set()
        self._refused: dict[str, str] = {}
        self._told: dict[str, str] = {}
        self._has_lost = self._is_waiting = False
        self._looked = -math.inf

    def glance(self) -> bool:
        """See who is there now, unless that was seen within the last second; whether it looked."""
        is_time = time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS
        if is_time:
            self.look()
        return is_time

    def look(self) -> None:
        """See who is there now, and whether newcomers can be used.

        Raises
        ------
        BenchmarkError
            Where there are workers, but none can be used and none that could be was lost and may come back.
        """
        self._looked = time.monotonic()
        try:
            here = set(self._client.nthreads())
            self._examine(here - self._fit - self._refused.keys())
        except OSError:  # the scheduler is lost, which whoever waits for an answer will notice
            return
        self._here = here
        for worker in sorted(self._fit - here):
            self.say(f"lost worker {worker}; another one goes on with what it had in hand")
            self._has_lost = True
        self._fit &= here
        self._give_up_if_hopeless()
        if not self._fit and not self._is_waiting:
            self.say("there is no worker; waiting for one to join")
        self._is_waiting = not self._fit

    def _examine(self, newcomers: Collection[str]) -> None:
        """Leave out those that lack this package: they would not survive their first task."""
        if not newcomers:
            return
        for worker, answer in self._client.run(package_version, workers=list(newcomers), on_error="return").items():
            if isinstance(answer, str):
                self._fit.add(worker)
            elif not isinstance(answer, OSError):  # that one is gone
                self._refused[worker] = f"{answer}; install the same nnunetv2-robustness there"

    def __len__(self) -> int:
        """Workers that are there and can be used."""
        return len(self._fit)

    @property
    def is_unfit(self) -> bool:
        """Whether there are workers, but none that can be used."""
        return bool(self._here) and not self._fit

    def only(self) -> list[str] | None:
        """The workers that a task must be kept to; None while there is none, so that it waits for whoever comes."""
        return sorted(self._fit) or None

    def has_any(self, workers: Collection[str]) -> bool:
        """Whether one of these workers can still be used."""
        return not self._fit.isdisjoint(workers)

    def refuse(self, worker: str, message: str) -> None:
        """Leave a worker out from now on.

        Raises
        ------
        BenchmarkError
            Where none is left, as for :meth:`look`.
        """
        self._refused[worker] = message
        self._fit.discard(worker)
        self._give_up_if_hopeless()

    def _give_up_if_hopeless(self) -> None:
        if self.is_unfit and not self._has_lost and self._here <= self._refused.keys():
            raise self.unfit()

    def unfit(self) -> BenchmarkError:
        """The error that says why workers cannot be used."""
        reasons: dict[str, list[str]] = {}
        for worker, message in self._refused.items():
            reasons.setdefault(message, []).append(worker)
        texts = [f"worker {_listed(workers)}: {message}" for message, workers in reasons.items()]
        return BenchmarkError("no worker can be used: " + "\n".join(texts))

    def announce(self) -> None:
        """Tell the user of the workers that are left out, each once."""
        for worker, message in self._refused.items():
            if worker not in self._told:
                known = message in self._told.values()
                self.say(f"worker {worker} is not used" + (" either" if known else f": {message}"))
                self._told[worker] = message


def cannot_run(error: Exception) -> BenchmarkError:
    """The error of a task that could not even begin, which is no fault of the case."""
    return BenchmarkError(
        f"the cluster cannot run a task ({type(error).__name__}: {' '.join(str(error).split())}); install the same "
        "nnunetv2-robustness and distributed for the scheduler, every worker and this machine"
    )


def _listed(workers: Sequence[str]) -> str:
    more = len(workers) - _WORKERS_LISTED
    return ", ".join(workers[:_WORKERS_LISTED]) + (f" and {more} more" if more > 0 else "")
