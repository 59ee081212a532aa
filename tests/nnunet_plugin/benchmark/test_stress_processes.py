"""A run under stress: real processes, real folders, a network that costs nothing."""

from __future__ import annotations

import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_plugin.benchmark.catalogue import load_catalogue
from nnunet_plugin.benchmark.perturbations import seed_of
from nnunet_plugin.benchmark.results import RunFolder

KILLS = 20


def assert_undisturbed(stress, undisturbed) -> None:
    """Bit for bit, and no row is in a file twice."""
    pd.testing.assert_frame_equal(stress.rows(), undisturbed.rows, check_exact=True)
    assert stress.lines() == len(undisturbed.rows)


def kill_group(pid: int) -> None:
    os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def small_disk(mount_at, tmp_path):
    """Mounts a small file system at the run folder."""
    return partial(mount_at, tmp_path / "run")


def test_eight_processes_compute_each_case_once(stress, undisturbed):
    workers = [stress.start(seconds=0.005) for _ in range(8)]
    assert [stress.server.wait(worker) for worker in workers] == [0] * 8
    assert stress.predictions() == undisturbed.predictions
    assert_undisturbed(stress, undisturbed)


def test_twenty_kills_lose_nothing_but_what_was_in_flight(stress, undisturbed):
    """Two processes at a time; either one of them or both are killed, in the end always both."""
    chance = random.Random(4)
    for _ in range(KILLS):
        leader = stress.start(before="os.fork()", seconds=0.02)
        try:
            stress.wait_for_predictions(chance.randint(1, 4))
            if chance.random() < 0.5:
                os.kill(leader, signal.SIGKILL)
                stress.wait_for_predictions(chance.randint(1, 2))
        finally:
            kill_group(leader)
        assert stress.server.wait(leader) == -signal.SIGKILL
    kept = len(stress.rows())
    assert 0 < kept < len(undisturbed.rows), "the kills came too early or too late to show anything"
    assert stress.call()[0] == 0
    assert_undisturbed(stress, undisturbed)


def assert_predictions_whole(stress, undisturbed) -> None:
    """Each kept label map has the voxels that its row counted."""
    kept = sorted((stress.run / "predictions").rglob("*"))
    assert sum(file.is_file() for file in kept) == undisturbed.predictions.total()
    for row in undisturbed.rows[undisturbed.rows["structure"] == "GTVp"].itertuples():
        name = "baseline" if row.severity == 0 else f"{row.modality}-{row.perturbation}-{row.severity}"
        image = sitk.ReadImage(str(stress.run / "predictions" / row.case / f"{name}.nii.gz"))
        assert np.count_nonzero(sitk.GetArrayFromImage(image) == 1) == row.tp + row.fp


def test_full_disk(stress, undisturbed, small_disk):
    small_disk("size=56k")
    status, output = stress.call()
    assert status == 2
    assert "No space left on device" in output
    assert "what is there is kept" in output
    kept = len(stress.rows())
    assert 0 < kept < len(undisturbed.rows)
    small_disk("size=8m")
    stress.predictions()
    assert stress.call()[0] == 0
    assert_undisturbed(stress, undisturbed)
    assert stress.predictions().total() <= undisturbed.predictions.total() - kept // 2 + 1


def test_disk_that_fills_while_predictions_are_added(stress, undisturbed, small_disk):
    """ITK reports nothing then; what it left must not pass for a prediction."""
    small_disk("size=8m")
    assert stress.call()[0] == 0
    disk = os.statvfs(stress.run)
    used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
    small_disk(f"size={used + 20_000}")
    status, output = stress.call("--save-predictions")
    assert status == 2
    assert "what is there is kept" in output
    small_disk("size=8m")
    assert stress.call("--save-predictions")[0] == 0
    assert_predictions_whole(stress, undisturbed)
    assert_undisturbed(stress, undisturbed)


def test_rows_files_that_must_not_grow(stress, undisturbed):
    """A quota, where no small disk can be mounted."""
    quota = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    status, output = stress.call(before=quota)
    assert status == 2
    assert "File too large" in output
    assert "what is there is kept" in output
    kept = len(stress.rows())
    assert 0 < kept < len(undisturbed.rows)
    assert stress.call()[0] == 0
    assert_undisturbed(stress, undisturbed)


def test_read_only_run_folder(stress, small_disk):
    """A finished run and one that is not begun."""
    small_disk("size=8m")
    assert stress.call()[0] == 0
    small_disk("ro")
    for folder in (stress.run, stress.run / "new"):
        stress.run = folder
        status, output = stress.call()
        assert status == 2
        assert f"cannot write to the run folder {folder}: Read-only file system; name a writable folder" in output


def test_only_the_mended_case_is_measured_again(stress, undisturbed):
    images = Path(shutil.copytree(stress.images, stress.folder / "images"))
    broken = images / "HMR-005_0001.nii.gz"
    content = broken.read_bytes()
    broken.write_bytes(content[:-500])
    stress.images = images
    status, output = stress.call()
    assert status == 1
    assert f"not measured: HMR-005: {broken}: broken or cut short" in output
    assert set(stress.rows()["case"]) == set(undisturbed.rows["case"]) - {"HMR-005"}
    stress.predictions()
    broken.write_bytes(content)
    assert stress.call()[0] == 0
    assert stress.predictions().total() == undisturbed.predictions.total() / 5
    assert_undisturbed(stress, undisturbed)


def test_changed_checkpoint_leaves_the_rows_alone(stress):
    stress.model = Path(shutil.copytree(stress.model, stress.folder / "model"))
    assert stress.call()[0] == 0
    before = {file: file.read_bytes() for file in stress.run.rglob("*") if file.is_file()}
    with (stress.model / "fold_1" / "checkpoint_final.pth").open("ab") as file:
        file.write(b"\0")
    status, output = stress.call()
    assert status == 2
    assert "model.checkpoints_sha256.1: the folder has" in output
    assert {file: file.read_bytes() for file in stress.run.rglob("*") if file.is_file()} == before


def test_two_runs_in_one_folder_at_once(stress):
    """Whichever comes second is refused, though both found the folder empty."""
    slow = "import time\nfrom nnunet_plugin.benchmark import results\nwrite = results.write_atomically\n"
    slow += "results.write_atomically = lambda *content: (time.sleep(1), write(*content))\n"
    workers = [stress.start("--seed", str(seed), before=slow) for seed in (1, 2)]
    statuses = [stress.server.wait(worker) for worker in workers]
    assert sorted(statuses) == [0, 2]
    winner = 1 + statuses.index(0)
    output = (stress.folder / "output").read_text()
    assert f"seed: the folder has {winner}, this call {3 - winner}" in output
    assert "Traceback" not in output
    assert RunFolder(stress.run).settings["seed"] == winner
    rows, entries = stress.rows(), load_catalogue(str(stress.catalogue)).entries
    cases = set(rows["case"])
    drawn = {
        seed_of(winner, entry, case, modality) for entry in entries for case in cases for modality in ("CT", "PET")
    }
    assert set(rows["seed"].dropna()) == drawn
    assert len(rows) == stress.lines() == 2 * (len(drawn) + len(cases))


def test_garbled_rows_are_reported_and_measured_again(stress, undisturbed):
    assert stress.call()[0] == 0
    files = sorted((stress.run / "rows").glob("*.jsonl"))
    for file, damage in zip(files, ("digit", "twice", "zeros", "header", "cut"), strict=True):
        lines = file.read_bytes().splitlines(keepends=True)
        if damage == "digit":
            lines[4] = lines[4].replace(b'"hd95_mm": ', b'"hd95_mm": 1')
        elif damage == "twice":
            lines += lines[-2:]
        elif damage == "zeros":
            lines[7] = bytes(len(lines[7]))
        elif damage == "header":
            del lines[0]
        else:
            lines[-1] = lines[-1][:100]
        file.write_bytes(b"".join(lines))
    status, output = stress.call()
    assert status == 0
    assert all(f"{file}: dropped" in output for file in files)
    assert_undisturbed(stress, undisturbed)


def test_predictions_come_whole(stress, undisturbed):
    """A process that is killed while it adds predictions to a finished run leaves none that is cut short."""
    assert stress.call()[0] == 0
    worker = stress.start("--save-predictions", seconds=0.002)
    stress.wait_for_predictions(12)
    kill_group(worker)
    stress.server.wait(worker)
    assert stress.call("--save-predictions")[0] == 0
    assert_predictions_whole(stress, undisturbed)
    assert_undisturbed(stress, undisturbed)
