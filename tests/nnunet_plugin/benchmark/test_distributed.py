"""Many machines: a real scheduler, real worker processes, and the network that costs nothing.

What one process that nobody disturbs gives is the oracle throughout.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder

distributed = pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")

from nnunet_plugin.benchmark.cluster import connection  # noqa: E402
from nnunet_plugin.benchmark.settings import Options, open_benchmark  # noqa: E402

HERE = {"n_workers": 0, "dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
WORKER = """
import asyncio, os, signal, sys
signal.alarm(900)  # longer than others: the workers outlast a test
os.environ.update(STUB_LOG={log!r}, STUB_SECONDS="0.01")
import distributed
from nnunet_plugin.benchmark.cluster import worker
{before}
async def work():
    async with distributed.Worker({address!r}, nthreads={threads}, memory_limit=0, local_directory={folder!r}) as dask:
        await dask.finished()
asyncio.run(work())
"""


class Fleet:
    """A scheduler in this process, workers and clients in processes of their own.

    Attributes
    ----------
    stress
        The call of the test at hand.
    """

    def __init__(self, cluster: distributed.LocalCluster, server, folder: Path) -> None:
        self.cluster, self._server, self._folder = cluster, server, folder
        self.log = folder / "log"
        self.workers: list[int] = []

    def serve(self, stress) -> None:
        self.stress = stress
        stress.log = self.log
        stress.predictions()

    def hire(self, count: int = 1, *, threads: int = 1, before: str = "") -> list[int]:
        """Start workers and wait until the scheduler knows them."""
        known = len(self.cluster.scheduler.workers)
        values = {"log": str(self.log), "address": self.cluster.scheduler_address, "folder": str(self._folder)}
        code = WORKER.format(before=before, threads=threads, **values)
        hired = [self._server.start(code, self._folder / "workers") for _ in range(count)]
        self.workers += hired
        self._wait_for(known + count)
        return hired

    def fire(self, *workers: int) -> None:
        """Kill workers and wait until the scheduler knows."""
        known = len(self.cluster.scheduler.workers)
        self._kill(*workers)
        self._wait_for(known - len(workers))

    def close(self) -> None:
        self._kill(*self.workers)

    def _kill(self, *workers: int) -> None:
        for number in workers:
            with suppress(ProcessLookupError):  # it went with its scheduler
                os.killpg(number, signal.SIGKILL)
            self._server.wait(number)
            self.workers.remove(number)

    def _wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.cluster.scheduler.workers) != count:
            assert time.monotonic() < deadline, (self._folder / "workers").read_text()
            time.sleep(0.01)

    def start(self, *options: str, before: str = "") -> int:
        return self.stress.start("--scheduler", self.cluster.scheduler_address, *options, before=before)

    def call(self, *options: str, before: str = "") -> tuple[int, str]:
        return self.stress.call("--scheduler", self.cluster.scheduler_address, *options, before=before)

    def output(self) -> str:
        return (self.stress.folder / "output").read_text()


@pytest.fixture
def empty_fleet(stress) -> Iterator[Fleet]:
    with distributed.LocalCluster(**HERE) as cluster:
        fleet = Fleet(cluster, stress.server, stress.folder)
        fleet.serve(stress)
        yield fleet
        fleet.close()


@pytest.fixture(scope="module")
def lasting_fleet(processes, tmp_path_factory) -> Iterator[Fleet]:
    with distributed.LocalCluster(**HERE) as cluster:
        fleet = Fleet(cluster, processes, tmp_path_factory.mktemp("fleet"))
        yield fleet
        fleet.close()


@pytest.fixture
def fleet(lasting_fleet, stress) -> Iterator[Fleet]:
    """Two workers, which take 10 ms for a prediction."""
    lasting_fleet.hire(2 - len(lasting_fleet.workers))
    lasting_fleet.serve(stress)
    yield lasting_fleet
    lasting_fleet.fire(*lasting_fleet.workers[2:])


def assert_undisturbed(fleet: Fleet, undisturbed) -> None:
    """Bit for bit, and no row is in a file twice."""
    pd.testing.assert_frame_equal(fleet.stress.rows(), undisturbed.rows, check_exact=True)
    assert fleet.stress.lines() == len(undisturbed.rows)


def test_rows_are_those_of_one_process_and_nothing_is_computed_twice(fleet, undisturbed):
    status, output = fleet.call(
        before="from nnunet_plugin.benchmark import progress\nprogress._SECONDS_BETWEEN_LINES = 0"
    )
    assert status == 0
    assert_undisturbed(fleet, undisturbed)
    assert fleet.stress.predictions() == undisturbed.predictions
    assert "65 of 65 variants measured" in output
    assert f"nnUNetv2_robustness_report run {fleet.stress.run}" in output


def test_worker_killed_at_work_loses_nothing(fleet, undisturbed):
    # A run of a second or two can end before the client looks again who is there.
    client = fleet.start(before="from nnunet_plugin.benchmark.cluster import crew\ncrew._SECONDS_BETWEEN_LOOKS = 0")
    fleet.stress.wait_for_predictions(10)
    fleet.fire(fleet.workers[0])
    assert fleet.stress.server.wait(client) == 0
    assert_undisturbed(fleet, undisturbed)
    output = fleet.output()
    assert output.count("lost worker tcp://") == 1
    assert "Traceback" not in output
    assert "distributed" not in output  # its own log
    # A case that is taken up again predicts its baseline again, and what was in flight.
    assert fleet.stress.predictions().total() <= undisturbed.predictions.total() + 5


@pytest.mark.slow
def test_last_worker_is_replaced(fleet, undisturbed):
    client = fleet.start()
    fleet.stress.wait_for_predictions(10)
    fleet.fire(*fleet.workers)
    fleet.hire()
    assert fleet.stress.server.wait(client) == 0
    assert_undisturbed(fleet, undisturbed)


def test_client_killed_at_work_goes_on_where_it_was(fleet, undisturbed):
    """The workers may still be at its cases when the next one comes."""
    client = fleet.start()
    fleet.stress.wait_for_predictions(10)
    os.killpg(client, signal.SIGKILL)
    fleet.stress.server.wait(client)
    assert fleet.call()[0] == 0
    assert_undisturbed(fleet, undisturbed)
    assert fleet.stress.predictions().total() <= undisturbed.predictions.total() + 2


def test_interrupted_client_says_so_and_goes_on(fleet, undisturbed):
    client = fleet.start()
    fleet.stress.wait_for_predictions(10)
    os.kill(client, signal.SIGINT)
    assert fleet.stress.server.wait(client) == 130
    output = fleet.output()
    assert "workers finish the case that they have in hand" in output
    assert "the same command goes on from here" in output
    assert "Traceback" not in output
    assert fleet.call()[0] == 0
    assert_undisturbed(fleet, undisturbed)


@pytest.mark.slow
def test_repeats_and_predictions(fleet, undisturbed):
    assert fleet.call("--repeat", "1", "--save-predictions")[0] == 0
    assert_undisturbed(fleet, undisturbed)
    for folder in (fleet.stress.run, fleet.stress.run / "repeats" / "01"):
        assert len(list(folder.glob("predictions/*/*.nii.gz"))) == undisturbed.predictions.total()
    fleet.stress.run = fleet.stress.run / "repeats" / "01"
    assert_undisturbed(fleet, undisturbed)


def test_case_held_by_another_process_comes_last(fleet, undisturbed):
    """The other process is this one, which lets go of the case as soon as the rest is measured."""
    run = fleet.stress.run
    (run / "rows").mkdir(parents=True)
    with RunFolder.claim(HeldRun(run), "CHUM-001", dict):
        client = fleet.start()
        fleet.stress.wait_for_predictions(undisturbed.predictions.total() * 4 // 5)
    assert fleet.stress.server.wait(client) == 0
    assert_undisturbed(fleet, undisturbed)
    assert fleet.stress.predictions() == undisturbed.predictions


@dataclass
class HeldRun:
    """As much of a run folder as a claim needs, before there is one."""

    path: Path
    structures: tuple[str, ...] = ()


RISING_AGAIN = "while pid := os.fork():\n    os.waitpid(pid, 0)"
"""What a nanny does: whenever the worker dies, there is another one."""
KILLER = """
attempt = worker.attempt
def kill(benchmark, cases, *more):
    if cases[0].name != {case!r}:
        return attempt(benchmark, cases, *more)
    with open({deaths!r}, "a") as file:
        file.write("x")
    os._exit(1)
worker.attempt = kill
"""


@pytest.mark.slow
def test_case_that_kills_its_workers_is_recorded_and_no_other(empty_fleet, undisturbed):
    """One worker, so that other cases wait behind it and die with it."""
    fleet, deaths = empty_fleet, empty_fleet.stress.folder / "deaths"
    fleet.hire(before=f"{RISING_AGAIN}\n{KILLER.format(case='CHUP-002', deaths=str(deaths))}")
    soon = "from nnunet_plugin.benchmark.cluster import waves\nwaves._DEATHS_ALLOWED = 1"
    status, output = fleet.call(before=soon)
    assert status == 1
    # One at a time where it was kept to the worker that was there; Dask lets four die where it waited for whoever came.
    alone = int(re.search(r"not measured: CHUP-002: (\d+) workers died over it", output)[1])
    before = len(deaths.read_bytes()) - alone
    assert 2 <= before <= 5
    assert 2 <= alone <= 5
    assert output.count("not measured") == 1
    others = undisturbed.rows[undisturbed.rows["case"] != "CHUP-002"].reset_index(drop=True)
    pd.testing.assert_frame_equal(fleet.stress.rows(), others, check_exact=True)


def test_failing_case_is_named_and_the_others_are_measured(fleet, undisturbed):
    images = Path(shutil.copytree(fleet.stress.images, fleet.stress.folder / "images"))
    (images / "HMR-005_0001.nii.gz").unlink()
    fleet.stress.images = images
    status, output = fleet.call()
    assert status == 1
    assert "not measured: HMR-005: case HMR-005: PET is missing" in output
    assert set(fleet.stress.rows()["case"]) == set(undisturbed.rows["case"]) - {"HMR-005"}


OTHER_TORCH = """
from nnunet_plugin.benchmark import settings
version = settings.version
settings.version = lambda name: "1.0" if name == "torch" else version(name)
"""
NO_PACKAGE = "sys.modules['nnunet_plugin.benchmark.cluster.tasks'] = None"
NO_TORCH = "sys.modules['nnunet_plugin.benchmark.cluster.worker'] = None"
OWN_DISK = """
import ctypes, subprocess
CLONE_NEWNS, MS_REC_PRIVATE = 0x20000, 0x44000
libc = ctypes.CDLL(None)
if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None):
    os._exit(77)
os.makedirs({run!r}, exist_ok=True)
subprocess.run(["mount", "-t", "tmpfs", "none", {run!r}], check=True)
"""


@pytest.fixture
def with_run(fleet) -> Fleet:
    """The run folder is there, so that whoever comes first does not settle what the others have to be like."""
    stress = fleet.stress
    options = Options(stress.model, stress.images, stress.labels, stress.run, str(stress.catalogue), device="cpu")
    open_benchmark(options)
    return fleet


@pytest.mark.parametrize(
    ("unfit", "message"),
    [
        ({"threads": 2}, "is not used: it has 2 threads, a benchmark needs one; start workers with --nthreads 1"),
        ({"before": OTHER_TORCH}, "versions.torch: the folder has"),
        ({"before": NO_TORCH}, "is not used: ModuleNotFoundError"),
        ({"before": NO_PACKAGE}, "install the same nnunetv2-robustness there"),
    ],
    ids=["threads", "other torch", "broken installation", "no package"],
)
def test_unfit_worker_is_left_out_in_words(with_run, undisturbed, unfit, message):
    fleet = with_run
    fleet.hire(**unfit)
    status, output = fleet.call()
    assert status == 0
    assert message in output
    assert output.count("is not used") == 1
    assert "not measured" not in output
    assert_undisturbed(fleet, undisturbed)
    assert fleet.stress.predictions() == undisturbed.predictions


def test_worker_that_does_not_see_the_run_folder_is_left_out(with_run, undisturbed):
    """It has a disk of its own in that place, as machines have in theirs."""
    fleet = with_run
    try:
        fleet.hire(before=OWN_DISK.format(run=str(fleet.stress.run)))
    except AssertionError:
        pytest.skip("no mount of its own for a process here")
    status, output = fleet.call()
    assert status == 0
    assert f"it does not see the run folder {fleet.stress.run} that the others work in" in output
    assert_undisturbed(fleet, undisturbed)


def test_no_fit_worker_is_an_error_with_its_address(empty_fleet):
    fleet = empty_fleet
    fleet.hire(threads=2)
    status, output = fleet.call()
    assert status == 2
    (address,) = fleet.cluster.scheduler.workers
    assert f"error: no worker can be used: worker {address}: it has 2 threads" in output
    assert not fleet.stress.run.exists()


def test_wrong_option_is_the_error_of_one_process(fleet):
    status, output = fleet.call("-f", "9")
    assert status == 2
    assert "fold 9; trained folds: 0, 1" in output
    assert not fleet.stress.run.exists()


def test_full_disk_ends_the_run_in_words(fleet, undisturbed, mount_at):
    mount_at(fleet.stress.run, "size=56k")
    status, output = fleet.call()
    assert status == 2
    assert "No space left on device" in output
    assert "what is there is kept" in output
    mount_at(fleet.stress.run, "size=8m")
    assert fleet.call()[0] == 0
    assert_undisturbed(fleet, undisturbed)


SOON = "from nnunet_plugin.benchmark.cluster import connection\nconnection._SECONDS_TO_CONNECT = 1"


@pytest.mark.slow
def test_lost_scheduler_ends_the_run_in_words(empty_fleet):
    fleet = empty_fleet
    fleet.hire()
    client = fleet.start(before=SOON)
    fleet.stress.wait_for_predictions(5)
    fleet.cluster.close()  # and with it the workers
    assert fleet.stress.server.wait(client) == 2
    output = fleet.output()
    assert "the scheduler is gone; the same command goes on from here" in output
    assert "Traceback" not in output


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "tls://127.0.0.1:1", "gopher://127.0.0.1:1"])
def test_unreachable_scheduler(stress, address):
    status, output = stress.call("--scheduler", address, before=SOON)
    assert status == 2
    assert f"--scheduler {address}: no Dask scheduler can be reached there" in output
    assert "Exception" not in output


def test_other_version_of_dask_is_refused_in_words(monkeypatch):
    async def versions(_address: str) -> dict[str, str]:
        return {"python": "3.11.0", "distributed": "2024.1.0"}

    monkeypatch.setattr(connection, "_versions", versions)
    with (
        pytest.raises(BenchmarkError, match=r"found distributed 2024\.1\.0 there and .* here, expected the same"),
        connection.remote_client("tcp://127.0.0.1:1", print),
    ):
        pass


def test_missing_extra(stress):
    status, output = stress.call("--scheduler", "tcp://127.0.0.1:1", before="sys.modules['distributed'] = None")
    assert status == 2
    assert "--scheduler needs dask.distributed: pip install 'nnunetv2-robustness[distributed]'" in output


def test_address_needs_a_run_folder(stress, capsys):
    from nnunet_plugin import cli

    with pytest.raises(SystemExit, match="2"):
        cli.run(["-m", "model", "-i", "images", "-l", "labels", "--scheduler", "tcp://127.0.0.1:1"])
    assert "--scheduler ADDRESS needs -o RUN" in capsys.readouterr().err
