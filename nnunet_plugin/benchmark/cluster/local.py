"""A cluster of this machine alone, which lives as long as the session."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster

from nnunet_plugin.benchmark.cluster.connection import interrupts_wait


class LocalWorkers(LocalCluster):
    """Worker processes on this machine, none to begin with; nobody else can reach them.

    Parameters
    ----------
    gpus
        What each worker finds in ``CUDA_VISIBLE_DEVICES``, in turn; empty where they use none.
    """

    def __init__(self, gpus: list[str]) -> None:
        self._gpus = gpus
        super().__init__(
            n_workers=0,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its port is taken even without one
            memory_limit=0,  # Dask pauses and kills by a share of the memory that knows nothing of images
            security=True,  # an open port would let every user of this machine run code as this one
            silence_logs=logging.CRITICAL,
        )

    def new_worker_spec(self) -> dict[int, dict[str, Any]]:
        """Name and description of the next worker."""
        ((name, spec),) = super().new_worker_spec().items()
        if self._gpus:
            env = {"CUDA_VISIBLE_DEVICES": self._gpus[name % len(self._gpus)]}
            spec = {**spec, "options": {**spec["options"], "env": env}}
        return {name: spec}


@contextmanager
def local_client(gpus: list[str]) -> Iterator[Client]:
    """Start a cluster of one worker; in the end, or on Ctrl-C, no process is left of it, whatever it is at."""
    cluster = client = None
    try:
        with interrupts_wait():
            cluster = LocalWorkers(gpus)
            cluster.scale(1)
            client = Client(cluster, set_as_default=False)
        yield client
    finally:
        with interrupts_wait():
            for part in (client, cluster):
                if part is not None:
                    part.close()
