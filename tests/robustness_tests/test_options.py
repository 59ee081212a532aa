"""Each option that reaches the benchmark, through a throw-away project: what it changes in the run."""

from __future__ import annotations

import tomllib

import pandas as pd
import pytest

ONE_VARIANT = '[perturbations.haze]\ntransform = "RandomNoise"\nseverities = [{ std = [0.2, 0.2] }]\n'


@pytest.fixture
def gate(configured, pytester):
    """Run the gate on two variants with more options; gives its settings and rows."""
    (pytester.path / "one.toml").write_text(ONE_VARIANT)
    options = [argument for argument in configured if "limits" not in argument]

    def run(*more: str, ini: str = ""):
        if ini:
            pytester.makeini(f"[pytest]\n{ini}\n")
        assert pytester.runpytest_inprocess(*options, "--robustness-catalogue=one.toml", *more).ret == 0
        settings = tomllib.loads((pytester.path / "run" / "run.toml").read_text())
        return settings, pd.read_parquet(pytester.path / "run" / "metrics.parquet")

    return run


@pytest.mark.parametrize(
    ("option", "key", "expected"),
    [
        ("--robustness-folds=1", ("model", "folds"), ["1"]),
        ("--robustness-step-size=1.0", ("step_size",), 1.0),
        ("--robustness-seed=7", ("seed",), 7),
        ("--robustness-threshold=argmax", ("label_rule",), "argmax"),
        ("--robustness-threads=2", ("torch_threads",), 2),
        ("--robustness-device=cpu", ("device",), "cpu"),
    ],
)
def test_an_option_reaches_the_run(gate, option, key, expected):
    value, _ = gate(option)
    for name in key:
        value = value[name]
    assert value == expected


def test_a_catalogue_of_ones_own(gate):
    settings, rows = gate()
    assert settings["catalogue"]["severities"] == {"haze": 1}
    assert set(rows["perturbation"]) == {"baseline", "haze"}


def test_another_seed_draws_other_images_for_the_same_baseline(gate, pytester):
    _, first = gate()
    (pytester.path / "run").rename(pytester.path / "first")
    _, second = gate("--robustness-seed=1")
    is_clean = first["perturbation"] == "baseline"
    assert first.loc[is_clean, "dice"].tolist() == second.loc[is_clean, "dice"].tolist()
    assert set(first.loc[~is_clean, "seed"]).isdisjoint(second.loc[~is_clean, "seed"])


def test_predictions_are_kept_where_asked_for(gate, pytester):
    gate(ini="robustness_save_predictions = yes")
    kept = sorted(file.name for file in (pytester.path / "run" / "predictions" / "CHUM-001").iterdir())
    assert kept == ["CT-haze-1.nii.gz", "PET-haze-1.nii.gz", "baseline.nii.gz"]
