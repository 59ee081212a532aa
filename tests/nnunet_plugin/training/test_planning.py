"""From a raw data set to the plans file, with nnU-Net's own planner replaced (the end-to-end test runs it)."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_plugin import cli
from nnunet_plugin.training import planning
from nnunet_plugin.training.planning import PlanningError, copy_splits, find_raw_dataset
from nnunet_plugin.training.plans import PlanSettings

Json = dict[str, Any]
SMALL = PlanSettings(patch_size=(16, 16, 16), features=(4, 6, 8))
FOLDS = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}]


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset_json: Json) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    raw = tmp_path / "nnUNet_raw" / "Dataset501_Toy"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for case in "abcde":
        (raw / "imagesTr" / f"{case}_0000.nii.gz").touch()
        (raw / "labelsTr" / f"{case}.nii.gz").touch()
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    (raw / "splits_final.json").write_text(json.dumps(FOLDS))
    return raw


@pytest.fixture
def preprocessed(raw: Path, tmp_path: Path) -> Path:
    return tmp_path / "nnUNet_preprocessed" / raw.name


@pytest.fixture
def planner_calls(
    raw: Path, preprocessed: Path, monkeypatch: pytest.MonkeyPatch, stock_plans: Json, fingerprint: Json
) -> list[str]:
    """Stand in for nnU-Net's planner; the list grows with every call."""
    calls: list[str] = []

    def plan(dataset_name: str, processes: int) -> None:
        calls.append(f"{dataset_name} {processes}")
        (preprocessed / "dataset.json").write_text((raw / "dataset.json").read_text())
        (preprocessed / "nnUNetPlans.json").write_text(json.dumps(stock_plans))
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))

    monkeypatch.setattr(planning, "_run_planner", plan)
    return calls


def test_plans_are_written_and_planning_happens_once(planner_calls: list[str], preprocessed: Path) -> None:
    target = planning.make_plans(501, SMALL, processes=2)
    first = target.read_text()
    assert target == preprocessed / "DynUNetPlans.json"
    assert json.loads(first)["configurations"]["3d_fullres"]["patch_size"] == [16, 16, 16]
    assert planning.make_plans(501, SMALL, processes=2).read_text() == first
    assert planner_calls == ["Dataset501_Toy 2"]
    assert json.loads((preprocessed / "splits_final.json").read_text()) == FOLDS


def touch_image(raw: Path) -> None:
    later = (raw / "dataset.json").stat().st_mtime + 1000
    os.utime(raw / "imagesTr" / "a_0000.nii.gz", (later, later))


def add_case(raw: Path) -> None:
    (raw / "labelsTr" / "f.nii.gz").touch()
    os.utime(raw / "labelsTr" / "f.nii.gz", (0, 0))


def rename_channel(raw: Path) -> None:
    path = raw / "dataset.json"
    path.write_text(path.read_text().replace("PET", "SUV"))


@pytest.mark.parametrize("change", [touch_image, add_case, rename_channel])
def test_a_changed_data_set_is_planned_anew(
    planner_calls: list[str], raw: Path, change: Callable[[Path], None]
) -> None:
    planning.make_plans(501, SMALL)
    change(raw)
    planning.make_plans(501, SMALL)
    assert len(planner_calls) == 2


def test_new_folds_are_not_mixed_with_old_ones(raw: Path, preprocessed: Path) -> None:
    preprocessed.mkdir()
    copy_splits(raw, preprocessed)
    (raw / "splits_final.json").write_text(json.dumps([{"train": ["b", "a"], "val": ["c"]}]))
    copy_splits(raw, preprocessed)  # the same cases in another order, and fewer folds: nnU-Net takes that, too
    (raw / "splits_final.json").write_text(json.dumps([{"train": ["a", "c"], "val": ["b"]}]))
    with pytest.raises(PlanningError, match=r"its folds differ .* delete the former"):
        copy_splits(raw, preprocessed)
    assert json.loads((preprocessed / "splits_final.json").read_text()) == FOLDS


def test_more_folds_than_before_are_a_difference(raw: Path, preprocessed: Path) -> None:
    preprocessed.mkdir()
    (preprocessed / "splits_final.json").write_text(json.dumps(FOLDS[:1]))
    with pytest.raises(PlanningError, match="its folds differ"):
        copy_splits(raw, preprocessed)


def test_missing_variables_are_named(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw")
    with pytest.raises(PlanningError, match="nnUNet_raw: not set"):
        find_raw_dataset(501)


def test_unknown_and_ambiguous_numbers_are_refused(raw: Path) -> None:
    with pytest.raises(PlanningError, match="no folder Dataset502_"):
        find_raw_dataset(502)
    (raw.parent / "Dataset501_Other").mkdir()
    with pytest.raises(PlanningError, match="found Dataset501_Other, Dataset501_Toy"):
        find_raw_dataset(501)


def test_zero_workers_are_hidden_from_the_planner_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    with planning._at_least_one_worker():
        assert os.environ[planning.WORKERS_VARIABLE] == "1"
    assert os.environ[planning.WORKERS_VARIABLE] == "0"


def damage_json(raw: Path) -> None:
    (raw / "dataset.json").write_text("{")


def drop_labels(raw: Path) -> None:
    (raw / "dataset.json").write_text('{"channel_names": {}}')


def drop_dataset_json(raw: Path) -> None:
    (raw / "dataset.json").unlink()


def drop_images(raw: Path) -> None:
    for path in (raw / "imagesTr").iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_json, "not readable as JSON"),
        (drop_labels, "found no labels, numTraining, file_ending"),
        (drop_dataset_json, "dataset.json: not found"),
        (drop_images, "found no *.nii.gz"),
    ],
)
def test_command_reports_a_broken_data_set_in_one_line(
    raw: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], message: str
) -> None:
    damage(raw)
    assert cli.plan(["-d", "501"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_command_reports_a_data_set_that_was_never_converted(
    planner_calls: list[str], fingerprint: Json, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint["spacings"][0] = [3.0, 1.0, 1.0]
    assert cli.plan(["-d", "501"]) == 2
    assert "nnUNetv2_robustness_convert" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patch", "32", "32"], "found 2 numbers"),
        (["--patch", "30"], "multiples of 32"),
        (["--features", "8", "16"], "at least 3"),
        (["--lr", "0"], "learning rate"),
        (["-np", "0"], "whole number"),
        (["-d", "1000"], "from 1 to 999"),
        (["-d", "one"], "from 1 to 999"),
    ],
)
def test_command_refuses_options_out_of_range(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.plan(["-d", "501", *options])
    assert message in capsys.readouterr().err


def test_command_stores_every_option(planner_calls: list[str], preprocessed: Path, capsys: Any) -> None:
    options = "--patch 32 16 48 --features 4 6 8 --epochs 7 --iterations 5 --lr 3e-3 --batch-size 3 -np 2"
    assert cli.plan(["-d", "501", *options.split(), "--batch-norm-passes", "9"]) == 0
    configuration = json.loads((preprocessed / "DynUNetPlans.json").read_text())["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [32, 16, 48]
    assert configuration["batch_size"] == 3
    assert configuration["architecture"]["arch_kwargs"]["filters"] == [4, 6, 8]
    assert configuration["dynunet_training"] == {
        "num_epochs": 7,
        "num_iterations_per_epoch": 5,
        "num_val_iterations_per_epoch": 1,
        "initial_lr": 3e-3,
        "batch_norm_passes": 9,
    }
    assert "nnUNetv2_preprocess -d 501 -plans_name DynUNetPlans -c 3d_fullres" in capsys.readouterr().out
