"""``nnUNetv2_robustness_run`` as its user calls it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from nnunet_plugin import cli
from nnunet_plugin.benchmark.results import RunFolder

CATALOGUE = '[perturbations.noise]\ntransform = "RandomNoise"\nseverities = [{ std = [0.1, 0.1] }]\n'


@pytest.fixture
def arguments(toy, tmp_path) -> list[str]:
    (tmp_path / "noise.toml").write_text(CATALOGUE)
    paths = ["-m", toy.folder, "-i", toy.images, "-l", toy.labels, "-o", tmp_path / "run"]
    return [*map(str, paths), "--catalogue", str(tmp_path / "noise.toml"), "--device", "cpu"]


def test_fills_the_run_folder_and_says_what_comes_next(arguments, tmp_path, capsys):
    assert cli.run([*arguments, "-f", "1", "--step-size", "1.0", "--seed", "3", "--threshold", "argmax"]) == 0
    rows = pd.read_parquet(tmp_path / "run" / "metrics.parquet")
    assert len(rows) == 3 * (2 + 1) * 2
    settings = RunFolder(tmp_path / "run").settings
    assert (settings["seed"], settings["step_size"], settings["label_rule"]) == (3, 1.0, "argmax")
    assert settings["model"]["folds"] == ["1"]
    assert f"nnUNetv2_robustness_report run {tmp_path / 'run'}" in capsys.readouterr().out


def test_repeats_are_measured_anew_and_lie_in_the_run(arguments, tmp_path, capsys):
    assert cli.run([*arguments, "--repeat", "2"]) == 0
    rows = [
        pd.read_parquet(tmp_path / "run" / place / "metrics.parquet").filter(regex="^(?!seconds_)")
        for place in (".", "repeats/01", "repeats/02")
    ]
    # One thread on a CPU repeats itself to the last bit.
    pd.testing.assert_frame_equal(rows[0], rows[1])
    pd.testing.assert_frame_equal(rows[0], rows[2])
    assert f"nnUNetv2_robustness_report run {tmp_path / 'run'}\n" in capsys.readouterr().out


def test_run_folder_is_named_after_model_cohort_and_catalogue(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    at = arguments.index("-o")
    assert cli.run(arguments[:at] + arguments[at + 2 :]) == 0
    (folder,) = (tmp_path / "robustness_runs").iterdir()
    model, *rest = folder.name.split("-")
    assert rest == ["Dataset501_TOY", "noise"]
    assert RunFolder(folder).settings["model"]["sha256"].startswith(model)


def test_bad_case_is_named_and_the_others_are_measured(arguments, toy, tmp_path, capsys):
    labels = Path(shutil.copytree(toy.labels, tmp_path / "labels"))
    (labels / "CHUM-001.nii.gz").unlink()
    arguments[arguments.index("-l") + 1] = str(labels)
    assert cli.run(arguments) == 1
    assert "not measured: CHUM-001: case CHUM-001: label is missing" in capsys.readouterr().err
    assert set(pd.read_parquet(tmp_path / "run" / "metrics.parquet")["case"]) == {"CHUP-002", "CHUS-003"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("-m", "nosuch", "no plans.json"),
        ("-i", "nosuch", "no folder nosuch"),
        ("--catalogue", "nosuch", "cannot read nosuch"),
        ("--step-size", "2", "step size: found 2.0"),
        ("-f", "9", "fold 9; trained folds: 0, 1"),
        ("-o", "/dev/null/run", "cannot write to the run folder"),
    ],
)
def test_wrong_option_is_one_message(arguments, capsys, option, value, message):
    assert cli.run([*arguments, option, value]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nnUNetv2_robustness_run: error: ")
    assert message in error


def test_interrupted_run_says_that_it_can_go_on(arguments, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnunet_plugin.benchmark.run.measure", interrupt)
    assert cli.run(arguments) == 130
    assert "goes on from here" in capsys.readouterr().err
