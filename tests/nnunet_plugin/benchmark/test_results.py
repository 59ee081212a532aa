"""The run folder: what survives, what is refused, what is repaired."""

from __future__ import annotations

import json
import math
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import ROW_COLUMNS, RunFolderError

SETTINGS = {
    "seed": 0,
    "model": {"sha256": "a", "folds": ["0"]},
    "cohort": {
        "name": "toy",
        "modalities": ["CT"],
        "structures": ["GTVp", "GTVn"],
        "labels": {"GTVp": 1, "GTVn": 2},
        "cases": ["A", "B"],
    },
    "provenance": {"created": "today"},
}
HASHES = {"CT": "1", "label": "2"}


def rows_of(modality: str | None, perturbation: str, severity: int, **changes: object) -> list[dict[str, object]]:
    base = dict.fromkeys(ROW_COLUMNS, 0.5) | {"case": "A", "seed": 2**62 + 1, "parameters": "{}", "outcome": "detected"}
    key = {"modality": modality, "perturbation": perturbation, "severity": severity}
    return [base | key | {"structure": name} | changes for name in ("GTVp", "GTVn")]


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", SETTINGS)


def fill(run: RunFolder, n: int = 3) -> Path:
    with run.claim("A", lambda: HASHES) as rows:
        rows.append(rows_of(None, "baseline", 0, seed=None))
        for severity in range(1, n + 1):
            rows.append(rows_of("CT", "spike", severity, hd95_mm=math.inf))
    return run.path / "rows" / "A.jsonl"


def test_rows_come_back_as_they_were_written(run):
    fill(run)
    frame = run.rows()
    assert tuple(frame.columns) == ROW_COLUMNS
    assert len(frame) == 8
    assert frame["seed"].dropna().eq(2**62 + 1).all()
    assert frame.loc[0, "perturbation"] == "baseline"
    assert pd.isna(frame.loc[0, "modality"])
    assert (frame["hd95_mm"] == math.inf).sum() == 6
    assert list(frame["structure"][:2]) == ["GTVp", "GTVn"]
    table = pd.read_parquet(run.write_table())
    pd.testing.assert_frame_equal(table, frame, check_dtype=False)
    assert table["seed"].dropna().eq(2**62 + 1).all()


def test_same_settings_reopen_and_others_are_told_apart(run):
    again = json.loads(json.dumps(SETTINGS)) | {"provenance": {"created": "tomorrow"}}
    assert RunFolder.create(run.path, again).settings == run.settings
    other = SETTINGS | {"seed": 1, "model": {"sha256": "b", "folds": ["0"]}}
    with pytest.raises(
        BenchmarkError, match=r"(?s)other settings.*model\.sha256: the folder has 'a', this call 'b'.*seed"
    ):
        RunFolder.create(run.path, other)


@settings(max_examples=40, deadline=None)
@example(cut=1155, garbage=b"\n")  # a whole variant
@given(cut=st.integers(0, 10_000), garbage=st.binary(max_size=40))
def test_any_broken_end_is_cut_back_to_whole_variants(tmp_path_factory, cut, garbage):
    """What a kill at any moment, or a full disk, can leave behind."""
    run = RunFolder.create(tmp_path_factory.mktemp("run"), SETTINGS)
    file = fill(run)
    whole = file.read_bytes()
    broken = whole[:cut] + garbage
    file.write_bytes(broken)
    with run.claim("A", lambda: HASHES) as rows:
        done = rows.done
        for severity in range(1, 4):
            if ("CT", "spike", severity) not in done:
                rows.append(rows_of("CT", "spike", severity, hd95_mm=math.inf))
        if (None, "baseline", 0) not in done:
            rows.append(rows_of(None, "baseline", 0, seed=None))
    assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert whole.startswith(b'{"case"')
    if broken and not (whole.startswith(broken) and broken.endswith(b"\n")):
        assert rows.repaired is not None


def test_garbage_in_the_middle_is_reported_and_what_follows_is_measured_again(run):
    file = fill(run)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[5] = b"\x00\xff garbage\n"
    file.write_bytes(b"".join(lines))
    with run.claim("A", lambda: HASHES) as rows:
        assert rows.done == {(None, "baseline", 0), ("CT", "spike", 1)}
        assert "A.jsonl" in rows.repaired


def test_changed_image_is_refused(run):
    fill(run)
    with (
        pytest.raises(BenchmarkError, match=r"A: CT changed since.*delete that file"),
        run.claim("A", lambda: HASHES | {"CT": "other"}),
    ):
        pass


def test_a_held_case_is_left_alone(run):
    def hold(ready, release):
        with run.claim("A", lambda: HASHES):
            ready.set()
            release.wait(30)

    context = multiprocessing.get_context("fork")
    ready, release = context.Event(), context.Event()
    process = context.Process(target=hold, args=(ready, release))
    process.start()
    assert ready.wait(30)
    with run.claim("A", lambda: HASHES) as rows:
        assert rows is None
    process.kill()  # the lock of a killed process is free at once
    process.join()
    with run.claim("A", lambda: HASHES) as rows:
        assert rows is not None


def test_failures_are_remembered_until_cleared(run):
    run.record_failure("B", "B_0001.nii.gz: truncated")
    assert run.failures() == {"B": "B_0001.nii.gz: truncated"}
    assert run.failed_since("B", 0)
    assert not run.failed_since("B", 4e9)
    assert not run.failed_since("A", 0)
    run.clear_failure("B")
    assert run.failures() == {}


def test_no_run_folder_and_damaged_one(tmp_path):
    with pytest.raises(BenchmarkError, match=r"is no run folder.*run\.toml"):
        RunFolder(tmp_path)
    (tmp_path / "run.toml").write_text("seed = ")
    with pytest.raises(BenchmarkError, match="damaged"):
        RunFolder(tmp_path)


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchmarkError, match="cannot write to the run folder"):
        RunFolder.create(tmp_path / "file" / "run", SETTINGS)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is always full")
def test_full_disk_stops_with_a_message(run):
    fill(run)
    with run.claim("A", lambda: HASHES) as rows:
        (run.path / "rows" / "A.jsonl").rename(run.path / "kept")
        (run.path / "rows" / "A.jsonl").symlink_to("/dev/full")
        with pytest.raises(RunFolderError, match=r"cannot write rows.*No space left"):
            rows.append(rows_of("CT", "noise", 1))
