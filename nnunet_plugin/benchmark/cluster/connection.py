"""A client of a Dask scheduler, whose troubles come in words and which Ctrl-C always ends."""

from __future__ import annotations

import asyncio
import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

from distributed import Client, Security
from distributed.comm import connect
from distributed.versions import VersionMismatchWarning

from nnunet_plugin.benchmark.cluster.crew import Say
from nnunet_plugin.benchmark.errors import BenchmarkError

_SECONDS_TO_CONNECT = 10


@contextmanager
def remote_client(address: str, say: Say) -> Iterator[Client]:
    """Connect to a scheduler.

    Parameters
    ----------
    address
        What the scheduler prints, e.g. ``tcp://host:8786``.
    say
        Told where the versions of Dask or Python differ.

    Raises
    ------
    BenchmarkError
        Where no scheduler answers within ten seconds.
    """
    client = None
    try:
        with interrupts_wait():
            client = _connected(address, say)
        yield client
    finally:
        if client is not None:
            with interrupts_wait():
                client.close()


def _connected(address: str, say: Say) -> Client:
    try:
        asyncio.run(_greet(address))
    except Exception as error:
        # Whatever listens there may be anything but a scheduler.
        raise BenchmarkError(
            f"--scheduler {address}: no Dask scheduler can be reached there ({' '.join(str(error).split())}); "
            "expected the address that it prints, such as tcp://host:8786, or local"
        ) from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", VersionMismatchWarning)
        client = Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)
    for warning in caught:
        say(f"this machine and the cluster have different versions: {warning.message}")
    return client


async def _greet(address: str) -> None:
    """Connect for a moment: where a client cannot, it is left in a state in which the interpreter waits for it."""
    comm = await connect(address, timeout=_SECONDS_TO_CONNECT, **Security().get_connection_args("client"))
    await comm.close()


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Keep Ctrl-C waiting, and away from all threads and processes that are started here and by those.

    Dask can neither be interrupted while it connects nor while it closes: it would wait for itself.
    """
    resource_tracker.ensure_running()  # which lifts the block when it is started later
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Dask's own log off the terminal: what matters of it is said in words."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client", "tornado.application")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
