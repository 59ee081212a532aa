"""The gate as its user runs it: in a throw-away project, on the toy model."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import psutil
import pytest
import SimpleITK as sitk
import torch

import robustness_tests
from robustness_tests.gate import Gate
from robustness_tests.options import benchmark_options, limits_file


def rows(pytester) -> pd.DataFrame:
    return pd.read_parquet(pytester.path / "run" / "metrics.parquet")


def test_one_test_per_cell_and_only_what_is_selected_is_computed(configured, pytester):
    result = pytester.runpytest_inprocess(*configured, "-k", "spike and not CT-spike-3", "-v", "--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=10, deselected=62)
    result.stdout.fnmatch_lines(["*test_delta_dice[[]CT-spike-2-GTVp[]] PASSED*"])
    result.stdout.fnmatch_lines(
        ["*median ΔDice by severity, worst first*", "PASS: every limit is kept (10 of 10 cells*"]
    )
    measured = rows(pytester)
    assert set(measured["perturbation"]) == {"baseline", "spike"}
    assert len(measured) == 3 * (5 + 1) * 2
    cases = ElementTree.parse(pytester.path / "junit.xml").iter("testcase")
    properties = {p.get("name"): p.get("value") for p in next(cases).iter("property")}
    cell = measured[(measured["modality"] == "CT") & (measured["severity"] == 1) & (measured["structure"] == "GTVp")]
    baseline = measured[(measured["perturbation"] == "baseline") & (measured["structure"] == "GTVp")]
    delta = baseline.set_index("case")["dice"] - cell.set_index("case")["dice"]
    assert float(properties["median_delta_dice"]) == pytest.approx(delta.median(), abs=1e-6)
    assert properties["n"] == "3"
    assert properties["worst_case"] == delta.idxmax()


def test_broken_limit_fails_with_the_figure_and_the_limit(configured, pytester):
    pytester.makefile(".toml", limits='[[limit]]\nperturbation = "blur"\nmean_delta_dice = -0.9\n')
    result = pytester.runpytest_inprocess(*configured, "-k", "CT-blur-1 or CT-noise-1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, failed=2, deselected=68)
    result.stdout.fnmatch_lines(
        ["*mean ΔDice * is not below its limit -0.9 (n = *)*", "FAIL: 2 cells break a limit*(2 of 4 cells*"]
    )


@pytest.mark.slow
def test_workers_share_the_cases(configured, pytester):
    """Two xdist workers; every row is there once and equals that of a single process."""
    result = pytester.runpytest_subprocess(*configured, "-n", "2", "-k", "PET-noise or PET-blur")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=12)
    shared = rows(pytester)
    assert len(shared) == 3 * (6 + 1) * 2
    assert not shared.duplicated(["case", "modality", "perturbation", "severity", "structure"]).any()
    (pytester.path / "run").rename(pytester.path / "shared")
    assert pytester.runpytest_inprocess(*configured, "-k", "PET-noise or PET-blur").ret == pytest.ExitCode.OK
    values = [column for column in shared if not column.startswith("seconds_")]
    pd.testing.assert_frame_equal(shared[values], rows(pytester)[values], check_exact=True)


def test_case_that_cannot_be_measured_fails_the_session(configured, pytester, toy):
    images = Path(shutil.copytree(toy.images, pytester.path / "images"))
    (images / "CHUP-002_0000.nii.gz").write_bytes(b"no image")
    result = pytester.runpytest_inprocess(*configured, f"--robustness-images={images}", "-k", "PET-spike-1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=2, deselected=70)
    result.stdout.fnmatch_lines(["NOT MEASURED CHUP-002: *CHUP-002_0000.nii.gz*", "FAIL: 0 cells *1 case could*"])


def test_gate_that_is_not_named_on_the_command_line_judges_all_the_same(configured, pytester, toy, monkeypatch):
    """Found by walking a folder: no verdict there would be a false pass."""
    images = Path(shutil.copytree(toy.images, pytester.path / "images"))
    (images / "CHUP-002_0000.nii.gz").write_bytes(b"no image")
    gate = Path(robustness_tests.__file__).parent
    (pytester.path / "checks").mkdir()
    shutil.copy(gate / "test_delta_dice.py", pytester.path / "checks" / "test_delta_dice.py")
    options = [argument for argument in configured if argument not in {"--pyargs", "robustness_tests"}]
    result = pytester.runpytest_inprocess("checks", *options, f"--robustness-images={images}", "-k", "PET-spike-1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT MEASURED CHUP-002: *", "FAIL: *"])
    assert set(rows(pytester)["case"]) == {"CHUM-001", "CHUS-003"}


def test_failures_of_a_run_do_not_touch_sessions_without_the_gate(configured, pytester):
    (pytester.path / "run" / "failures").mkdir(parents=True)
    (pytester.path / "run" / "failures" / "A.txt").write_text("old")
    pytester.makepyfile("def test_other(): pass")
    options = [argument for argument in configured if argument not in {"--pyargs", "robustness_tests"}]
    assert pytester.runpytest_inprocess(*options).ret == pytest.ExitCode.OK


def test_structure_whose_name_pytest_escapes(configured, pytester, toy):
    model = Path(shutil.copytree(toy.folder, pytester.path / "model"))
    text = (model / "dataset.json").read_text()
    (model / "dataset.json").write_text(text.replace('"GTVn"', '"Rückenmark"'))
    result = pytester.runpytest_inprocess(*configured, f"--robustness-model={model}", "-k", "PET-spike-1")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["PET spike Rückenmark *"])


def test_structure_that_is_absent_everywhere_is_skipped_with_the_reason(configured, pytester, toy):
    labels = Path(shutil.copytree(toy.labels, pytester.path / "labels"))
    for file in labels.iterdir():
        label = sitk.ReadImage(str(file))
        sitk.WriteImage(sitk.Cast(label == 1, sitk.sitkUInt8), str(file))
    result = pytester.runpytest_inprocess(*configured, f"--robustness-labels={labels}", "-k", "PET-spike-1", "-rs")
    result.assert_outcomes(passed=1, skipped=1, deselected=70)
    result.stdout.fnmatch_lines(["*no reference contour of this cohort has GTVn*"])


def test_unconfigured_says_in_two_lines_how_to_configure(pytester, monkeypatch):
    for variable in ("MODEL", "IMAGES", "LABELS"):
        monkeypatch.delenv(f"ROBUSTNESS_{variable}", raising=False)
    result = pytester.runpytest_inprocess("--pyargs", "robustness_tests")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line]
    assert len(lines) == 2
    assert "--robustness-model" in lines[0]
    assert "ROBUSTNESS_MODEL" in lines[1]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--robustness-model=nosuch", "*nosuch: found no plans.json*"),
        ("--robustness-images=nosuch", "*no folder*nosuch*"),
        ("--robustness-catalogue=papr", "*'papr'*"),
        ("--robustness-seed=one", "*--robustness-seed (robustness_seed, ROBUSTNESS_SEED): found 'one'*"),
        ("--robustness-step-size=7", "*step size: found 7*"),
        ("--robustness-limits=misspelt.toml", "*spyke*did you mean 'spike'*"),
        ("--robustness-limits=nosuch.toml", "*nosuch.toml*"),
        ("--robustness-limits=severe.toml", "*severity = 4 names nothing*expected one of 1, 2, 3*"),
    ],
)
def test_wrong_option_is_a_usage_error(configured, pytester, argument, message):
    pytester.makefile(".toml", misspelt='[[limit]]\nperturbation = "spyke"\nmedian_delta_dice = 0.1\n')
    pytester.makefile(".toml", severe="[[limit]]\nseverity = 4\nmedian_delta_dice = 0.1\n")
    result = pytester.runpytest_inprocess(*configured, argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in result.stderr.str()


def test_other_settings_in_the_same_run_folder_are_a_usage_error(configured, pytester):
    assert pytester.runpytest_inprocess(*configured, "-k", "PET-spike-1").ret == pytest.ExitCode.OK
    result = pytester.runpytest_inprocess(*configured, "--robustness-seed=1", "-k", "PET-spike-1")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*seed: the folder has 0, this call 1*"])


def test_command_line_over_ini_over_environment(pytester, monkeypatch, tmp_path):
    """Relative paths belong to where they were written."""
    monkeypatch.setenv("ROBUSTNESS_MODEL", "/from/environment")
    monkeypatch.setenv("ROBUSTNESS_SEED", "1")
    monkeypatch.setenv("ROBUSTNESS_IMAGES", "images")
    ini = "[pytest]\nrobustness_model = from_ini\nrobustness_seed = 2\nrobustness_labels = labels\n"
    pytester.makeini(
        ini + "robustness_folds = 0 1\nrobustness_save_predictions = yes\nrobustness_limits = limits.toml\n"
    )
    below = pytester.mkdir("below")
    monkeypatch.chdir(below)
    config = pytester.parseconfig("--robustness-seed=3", "--rootdir", str(pytester.path), "-c", "../tox.ini")
    options = benchmark_options(config)
    assert options.seed == 3
    assert options.model == pytester.path / "from_ini"
    assert options.labels == pytester.path / "labels"
    assert options.images == below / "images"
    assert options.folds == ("0", "1")
    assert options.save_predictions is True
    assert options.catalogue == "paper"
    assert limits_file(config) == pytester.path / "limits.toml"


def test_installed_plugin_costs_other_projects_nothing(pytester):
    """Neither torch nor pandas is imported where no gate is asked for."""
    pytester.makepyfile(
        "import sys\ndef test_light():\n    assert not {'torch', 'pandas', 'torchio'} & set(sys.modules)"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:hypothesispytest"]
    result = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout


def test_automatic_workers_follow_gpus_memory_and_cases(configured, pytester, monkeypatch):
    config = pytester.parseconfig(*configured)
    gate = Gate(config)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    memory = psutil.virtual_memory()
    assert gate.workers() == 3  # as many as there are cases
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=5 * 2**30))
    assert gate.workers() == 2
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=2**20))
    assert gate.workers() == 1
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert gate.workers() == 1  # cpu was asked for
    one = [argument.replace("device=cpu", "device=cuda:1") for argument in configured]
    gate = Gate(pytester.parseconfig(*one))
    gate.__dict__["benchmark"] = Gate(config).benchmark
    assert gate.workers() == 1
    on_any_device = [argument for argument in configured if "device" not in argument]
    gate = Gate(pytester.parseconfig(*on_any_device))
    gate.__dict__["benchmark"] = Gate(config).benchmark  # this machine cannot open the model on a GPU
    assert gate.workers() == 2
