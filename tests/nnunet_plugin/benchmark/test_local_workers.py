"""``--scheduler local``: worker processes of one call on this machine, with a real network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pandas as pd
import psutil
import pytest
import torch

from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.run import measure
from nnunet_plugin.benchmark.settings import Options, open_benchmark
from nnunet_plugin.benchmark.workers import visible_gpus

pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")

from nnunet_plugin.benchmark.cluster.local import LocalWorkers


@pytest.fixture
def local(toy, tmp_path) -> Iterator[subprocess.Popen[str]]:
    """``--scheduler local`` in a group of its own, with the network of the toy model, at work."""
    command = [sys.executable, "-c", "import sys; from nnunet_plugin.cli import run; sys.exit(run())"]
    command += ["-m", toy.folder, "-i", toy.images, "-l", toy.labels, "-o", tmp_path / "run"]
    command += ["--device", "cpu", "--scheduler", "local"]
    with (tmp_path / "output").open("w") as output:
        call = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, start_new_session=True)
    deadline = time.monotonic() + 300
    while not any(file.stat().st_size > 20_000 for file in (tmp_path / "run" / "rows").glob("*.jsonl")):
        assert call.poll() is None, (tmp_path / "output").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield call
    if call.poll() is None:
        os.killpg(call.pid, signal.SIGKILL)
        call.wait()


def workers_of(call: subprocess.Popen[str]) -> list[psutil.Process]:
    """The oldest first, which has opened the benchmark; a later one may not have joined yet."""
    children = psutil.Process(call.pid).children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return sorted(workers, key=psutil.Process.create_time)


@pytest.mark.slow
def test_local_workers_with_a_real_network_give_the_same_to_the_last_bit(local, toy, tmp_path):
    """All 37 variants; the first worker is killed at work, and its nanny starts another."""
    workers_of(local)[0].kill()
    assert local.wait(300) == 0, (tmp_path / "output").read_text()
    assert (tmp_path / "output").read_text().count("lost worker") == 1
    alone = open_benchmark(Options(toy.folder, toy.images, toy.labels, tmp_path / "alone", device="cpu"))
    measure(alone, alone.variants)
    here, there = (RunFolder(tmp_path / name).rows().filter(regex="^(?!seconds_)") for name in ("alone", "run"))
    assert len(here) == 3 * 37 * 2
    pd.testing.assert_frame_equal(there, here, check_exact=True)


@pytest.mark.slow
def test_ctrl_c_ends_local_workers(local, tmp_path):
    workers = workers_of(local)
    assert workers
    os.killpg(local.pid, signal.SIGINT)  # as a terminal does: to all of them
    assert local.wait(60) == 130
    output = (tmp_path / "output").read_text()
    assert "the same command goes on from here" in output
    assert "Traceback" not in output
    psutil.wait_procs(workers, 5)
    assert [worker for worker in workers if worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE] == []


def test_local_workers_get_a_gpu_each(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(None) == visible_gpus("cuda") == ["0", "1"]
    assert visible_gpus("cuda:1") == visible_gpus("cpu") == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-3")
    assert visible_gpus(None) == ["5", "GPU-3"]
    with LocalWorkers(visible_gpus(None)) as cluster:
        seen = []
        for _ in range(3):
            ((name, spec),) = cluster.new_worker_spec().items()
            seen.append(spec["options"]["env"]["CUDA_VISIBLE_DEVICES"])
            cluster.worker_spec[name] = spec
        cluster.worker_spec.clear()
    assert seen == ["5", "GPU-3", "5"]
