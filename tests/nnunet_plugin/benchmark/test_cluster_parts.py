"""The parts of a cluster one at a time, without processes of its own: what is handed out, sent and kept."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.settings import Options

distributed = pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")

from nnunet_plugin.benchmark.cluster import worker  # noqa: E402
from nnunet_plugin.benchmark.cluster.crew import Crew  # noqa: E402
from nnunet_plugin.benchmark.cluster.tasks import Answer, Job  # noqa: E402
from nnunet_plugin.benchmark.cluster.waves import Waves  # noqa: E402


class MostTasks(distributed.diagnostics.plugin.SchedulerPlugin):
    """Counts what the scheduler holds, where it holds it."""

    def __init__(self, scheduler: distributed.Scheduler) -> None:
        self._tasks = scheduler.tasks
        self.most = self.seen = 0

    def transition(self, _key, start, finish, *_args, **_kwargs) -> None:
        self.most = max(self.most, len(self._tasks))
        self.seen += start == "released" and finish == "waiting"


def test_waves_are_two_cases_a_worker_however_many_there_are(tmp_path, monkeypatch):
    done = []

    def measure(_job: Job, case: str) -> Answer:
        time.sleep(0.01)
        done.append(case)
        return Answer("measured", "", "")

    monkeypatch.setattr(worker, "measure", measure)
    settings = {"cohort": {"structures": ["GTVp"], "modalities": ["CT"], "labels": {"GTVp": 1}, "cases": ["a"]}}
    run = RunFolder.create(tmp_path / "run", settings)
    cases = [f"case-{number:02d}" for number in range(60)]
    with (
        distributed.LocalCluster(
            n_workers=3,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        counter = MostTasks(cluster.scheduler)
        cluster.scheduler.add_plugin(counter)
        crew = Crew(client, done.append)
        crew.look()
        Waves(client, crew, Job("job", "session", {}, str(run.path), "", 0.0), cases, lambda *_: None).finish()
        deadline = time.monotonic() + 60
        while cluster.scheduler.tasks:
            assert time.monotonic() < deadline, "the scheduler keeps what is done"
            time.sleep(0.01)
    assert sorted(done) == cases
    assert counter.seen == 60
    # Two for each worker, and what each has just done, until the scheduler hears that it can go.
    assert 3 < counter.most <= (2 + 1) * 3


def test_what_the_scheduler_imports_is_light():
    code = "import sys, nnunet_plugin.benchmark.cluster.tasks\n"
    code += "assert not {'torch', 'nnunetv2', 'monai', 'pandas', 'SimpleITK'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_survive_as_plain_values():
    options = Options(Path("/m"), Path("/i"), Path("/l"), Path("/r"), "paper", ("0", "1"), "cpu", 0.25, 3, "argmax", 2)
    for given in (options, replace(options, run=None, folds=None, device=None, save_predictions=True)):
        fields = worker.packed(given)
        assert not any(isinstance(value, Path) for value in fields.values())
        assert worker._unpacked(fields) == given


def test_worker_keeps_the_model_for_a_session_and_no_longer(toy, tmp_path):
    """A model or cohort may have changed in its place since the last one."""
    options = Options(toy.folder, toy.images, toy.labels, tmp_path / "run", device="cpu")
    first = worker._opened("first", options)
    assert worker._opened("first", options) is first
    assert worker._opened("second", options) is not first
    worker._opened.cache_clear()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a device that does not work")
def test_broken_device_is_the_fault_of_the_worker(toy, tmp_path, monkeypatch):
    """A stand-in for a GPU that fell off: the case is not recorded as failed, so that another worker can take it."""
    options = Options(toy.folder, toy.images, toy.labels, tmp_path / "run", device="cpu")
    worker._opened.cache_clear()
    benchmark = worker._opened("session", options)
    benchmark.ensemble.device = torch.device("cuda")
    monkeypatch.setattr(worker, "get_worker", lambda: SimpleNamespace(address="tcp://here:1"))
    monkeypatch.setattr(worker, "attempt", lambda b, c, *_: b.run.record_failure(c[0].name, "CUDA error") or [])
    run = tmp_path / "run"
    job = Job("job", "session", worker.packed(options), str(run), worker.file_sha256(run / "run.toml"), 0.0)
    with pytest.raises(worker.BenchmarkError, match="its device cuda no longer works"):
        worker.measure(job, "CHUM-001")
    assert benchmark.run.failures() == {}
    worker._opened.cache_clear()
