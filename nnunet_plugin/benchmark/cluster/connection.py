"""A client of a Dask scheduler, whose troubles come in words and which Ctrl-C always ends."""

from __future__ import annotations

import asyncio
import logging
import platform
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import distributed
from distributed import Client, Security, rpc
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
        Told where the versions of Python differ.

    Raises
    ------
    BenchmarkError
        Where no scheduler of this version of Dask answers within ten seconds.
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
        theirs = asyncio.run(_versions(address))
    except Exception as error:
        # Whatever listens there may be anything but a scheduler.
        raise BenchmarkError(
            f"--scheduler {address}: no Dask scheduler can be reached there ({' '.join(str(error).split())}); "
            "expected the address that it prints, such as tcp://host:8786, or local"
        ) from error
    ours = distributed.__version__
    if theirs["distributed"] != ours:
        raise BenchmarkError(
            f"--scheduler {address}: found distributed {theirs['distributed']} there and {ours} here, expected the "
            "same; install the same versions for the scheduler, the workers and this machine"
        )
    if theirs["python"] != platform.python_version():
        say(f"the scheduler has Python {theirs['python']}, this machine {platform.python_version()}")
    with warnings.catch_warnings():
        # The scheduler needs none of the packages that it may lack; those of the workers are compared by the run.
        warnings.simplefilter("ignore", VersionMismatchWarning)
        return Client(address, timeout=_SECONDS_TO_CONNECT, set_as_default=False)


async def _versions(address: str) -> dict[str, str]:
    """Versions of the scheduler: where a client fails to connect, it is left so that the interpreter waits for it."""
    arguments = Security().get_connection_args("client")
    async with rpc(address, timeout=_SECONDS_TO_CONNECT, connection_args=arguments) as scheduler:
        versions = await scheduler.versions()
    python = ".".join(map(str, versions["host"]["python"].split(".")[:3]))
    return {"python": python, "distributed": versions["packages"]["distributed"]}


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
