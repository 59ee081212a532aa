"""The gate under stress: what a run folder goes through ends in a message and a status, never in a wrong verdict."""

from __future__ import annotations

import importlib
from collections import Counter
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from nnunet_plugin.benchmark.predictor import Ensemble
from nnunet_plugin.benchmark.results import RunFolder

STUB = Path(__file__).parents[1] / "nnunet_plugin" / "benchmark"
SELECTED = ("-k", "PET-noise-1 or CT-noise-2")


@pytest.fixture
def stub(monkeypatch, pytester) -> Path:
    """The network that costs nothing, in every process; gives its log."""
    monkeypatch.setenv("PYTHONPATH", str(STUB))
    monkeypatch.setenv("STUB_LOG", str(pytester.path / "log"))
    return pytester.path / "log"


def values(run: Path) -> pd.DataFrame:
    rows = pd.read_parquet(run / "metrics.parquet")
    return rows.drop(columns=[column for column in rows if column.startswith("seconds_")])


@pytest.mark.slow
def test_eight_workers_compute_each_case_once(configured, pytester, stub, monkeypatch):
    result = pytester.runpytest_subprocess("-p", "stub_network", *configured, "-n", "8", "-k", "noise")
    assert result.ret == pytest.ExitCode.OK
    shared, predicted = values(pytester.path / "run"), Counter(stub.read_text().split())
    assert set(predicted.values()) == {1}
    assert predicted.total() == 3 * (2 * 3 + 1)
    stub.unlink()
    (pytester.path / "run").rename(pytester.path / "shared")
    monkeypatch.syspath_prepend(STUB)
    network = importlib.import_module("stub_network")
    monkeypatch.setattr(Ensemble, "forward", network.forward)
    monkeypatch.setattr(Ensemble, "finish", network.finish)
    result = pytester.runpytest_inprocess(*configured, "-k", "noise")
    assert result.ret == pytest.ExitCode.OK
    assert Counter(stub.read_text().split()) == predicted
    pd.testing.assert_frame_equal(shared, values(pytester.path / "run"), check_exact=True)


def test_garbled_rows_are_measured_again(configured, pytester):
    assert pytester.runpytest_inprocess(*configured, *SELECTED).ret == pytest.ExitCode.OK
    before = values(pytester.path / "run")
    file = pytester.path / "run" / "rows" / "CHUP-002.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"dice": 0.', b'"dice": 0.9')
    file.write_bytes(b"".join(lines))
    again = pytester.runpytest_inprocess(*configured, *SELECTED)
    assert again.ret == pytest.ExitCode.OK
    again.stdout.fnmatch_lines(["REPAIRED *CHUP-002.jsonl: dropped * bytes; they are measured again"])
    pd.testing.assert_frame_equal(values(pytester.path / "run"), before, check_exact=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "run.toml").write_text("seed = "), "*run.toml is damaged*start a new run folder*"),
        (lambda run: link_away(run / "rows" / "CHUP-002.jsonl"), "*CHUP-002.jsonl: found a link*"),
    ],
    ids=["run.toml", "link"],
)
def test_run_folder_that_cannot_be_trusted_is_a_usage_error(configured, pytester, damage, message):
    assert pytester.runpytest_inprocess(*configured, "-k", "PET-noise-1").ret == pytest.ExitCode.OK
    damage(pytester.path / "run")
    result = pytester.runpytest_inprocess(*configured, "-k", "PET-noise-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def link_away(file: Path) -> None:
    file.rename(file.parents[2] / "outside")
    file.symlink_to(file.parents[2] / "outside")


@pytest.fixture
def small_disk(mount_at, pytester):
    """Mounts a small file system at the run folder."""
    return partial(mount_at, pytester.path / "run")


def test_read_only_run_folder_is_a_usage_error(configured, pytester, small_disk):
    small_disk("size=4m")
    assert pytester.runpytest_inprocess(*configured, "-k", "PET-noise-1").ret == pytest.ExitCode.OK
    small_disk("ro")
    result = pytester.runpytest_inprocess(*configured, "-k", "PET-noise-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot write to the run folder*Read-only file system; name a writable folder*"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


def test_full_disk_is_no_verdict(configured, pytester, small_disk):
    small_disk("size=16k")
    result = pytester.runpytest_inprocess(*configured, *SELECTED)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*cannot write*No space left on device*", "FAIL: *", "NOT WRITTEN *metrics.parquet*"])
    assert "PASS" not in result.stdout.str()
    assert "INTERNALERROR" not in result.stdout.str()
    kept = len(RunFolder(pytester.path / "run").rows())
    small_disk("size=4m")
    assert pytester.runpytest_inprocess(*configured, *SELECTED).ret == pytest.ExitCode.OK
    assert 0 < kept < len(values(pytester.path / "run")) == 3 * 3 * 2
