"""A cohort on the command line: what is written, reused, refused and reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from dataset_conversion import case, convert
from dataset_conversion.cli import main

NAMES = ["CHUM-001", "CHUM-002", "CHUP-001", "CHUP-002", "MDA-001", "MDA-002"]


@pytest.fixture(scope="session")
def images(head):
    """Images with both structures, and with the primary alone."""
    return head().images(), head(node=None).images()


@pytest.fixture
def source(tmp_path, images, written):
    folder = tmp_path / "source"
    for index, name in enumerate(NAMES):
        written(folder, name, images[index % 2])
    return folder


@pytest.fixture
def run(raw, source, capsys):
    """Run the command on the source; return exit status, dataset folder and what it printed."""

    def call(*options, at=source):
        status = main(
            [
                "hecktor",
                str(at),
                "-d",
                "501",
                "--spacing",
                "8",
                "--hold-out",
                "2",
                "--folds",
                "2",
                "--jobs",
                "1",
                *options,
            ]
        )
        return status, raw / "Dataset501_HECKTOR", capsys.readouterr()

    return call


def volumes(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")}


def stamps(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.nii.gz")}


def test_dataset_is_what_nnunet_expects(run):
    status, folder, printed = run()
    assert status == 0
    description = json.loads((folder / "dataset.json").read_text())
    assert description == {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    splits = json.loads((folder / "splits_final.json").read_text())
    development = sorted(splits[0]["train"] + splits[0]["val"])
    held = sorted(set(NAMES) - set(development))
    assert [len(fold["val"]) for fold in splits] == [2, 2]
    assert not set(splits[0]["val"]) & set(splits[1]["val"])
    expected = set()
    for suffix, names in (("Tr", development), ("Ts", held)):
        for name in names:
            expected |= {f"images{suffix}/{name}_{channel}.nii.gz" for channel in ("0000", "0001")}
            expected.add(f"labels{suffix}/{name}.nii.gz")
    assert volumes(folder) == expected
    table = pd.read_csv(folder / "conversion.csv", index_col="case")
    assert list(table.index) == NAMES
    assert (table["outcome"] == "converted").all()
    assert sorted(table.index[table["role"] == "hold-out"]) == held
    for number, fold in enumerate(splits):
        assert sorted(table.index[table["fold"] == number]) == fold["val"]
    assert (table["GTVn_voxels_after"] > 0).tolist() == [True, False] * 3
    assert "4 development cases in 2 folds, 2 held out" in printed.out


def test_processes_give_the_same_dataset_as_one(run, raw, source):
    _, one, _ = run()
    status = main(
        [
            "hecktor",
            str(source),
            "-d",
            "502",
            "--spacing",
            "8",
            "--hold-out",
            "2",
            "--folds",
            "2",
            "--jobs",
            "2",
        ]
    )
    two = raw / "Dataset502_HECKTOR"
    assert status == 0
    assert volumes(one) == volumes(two)
    for name in volumes(one):
        first, second = (sitk.ReadImage(str(folder / name)) for folder in (one, two))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
    assert (one / "conversion.csv").read_text() == (two / "conversion.csv").read_text()


def test_one_bad_case_never_ends_a_cohort(run, source):
    """Each kind of damage fails its own case, with the file's name; the others become the dataset."""
    (source / "imagesTr" / "CHUM-002__PT.nii.gz").unlink()
    broken = source / "imagesTr" / "CHUP-001__CT.nii.gz"
    broken.write_bytes(broken.read_bytes()[:5000])
    status, folder, printed = run("--hold-out", "1")
    assert status == 1
    table = pd.read_csv(folder / "conversion.csv", index_col="case")
    assert table.index[table["outcome"] == "failed"].tolist() == ["CHUM-002", "CHUP-001"]
    assert table.loc[["CHUM-002", "CHUP-001"], "role"].isna().all()
    assert "X__PT.nii.gz" in table.loc["CHUM-002", "message"]
    assert str(broken) in table.loc["CHUP-001", "message"]
    assert "CHUP-001: FAILED" in printed.err
    assert "2 of 6 cases could not be converted and are left out: CHUM-002, CHUP-001" in printed.err
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 3
    assert not [name for name in volumes(folder) if "CHUM-002" in name or "CHUP-001" in name]
    assert "Traceback" not in printed.err + printed.out


def test_an_unforeseen_error_is_reported_like_any_other(run, monkeypatch):
    def explode(*arguments):
        raise ZeroDivisionError("at once")

    monkeypatch.setattr(case, "find_head", explode)
    status, folder, printed = run()
    assert status == 1
    assert "unexpected ZeroDivisionError: at once" in printed.err
    assert "found 0 usable case(s)" in printed.err
    assert not (folder / "dataset.json").exists()
    assert (pd.read_csv(folder / "conversion.csv")["outcome"] == "failed").all()


def test_second_call_reuses_every_case(run):
    _, folder, _ = run()
    before, table = stamps(folder), (folder / "conversion.csv").read_text()
    status, _, printed = run()
    assert status == 0
    assert "(6 reused)" in printed.out
    assert stamps(folder) == before
    assert (folder / "conversion.csv").read_text() == table


def test_changed_source_is_converted_again_and_only_that(run, source, images, written):
    _, folder, _ = run()
    before = stamps(folder)
    written(source, "MDA-001", images[1])
    _, _, printed = run()
    assert "(5 reused)" in printed.out
    changed = {name for name, stamp in stamps(folder).items() if stamp != before[name]}
    assert changed == {"MDA-001_0000.nii.gz", "MDA-001_0001.nii.gz", "MDA-001.nii.gz"}
    assert pd.read_csv(folder / "conversion.csv", index_col="case").loc["MDA-001", "GTVn_voxels_after"] == 0


def test_repaired_case_joins_and_a_changed_split_is_said(run, source, images, written):
    label = source / "labelsTr" / "MDA-002.nii.gz"
    content = label.read_bytes()
    label.write_bytes(content[:100])
    assert run()[0] == 1
    label.write_bytes(content)
    status, folder, printed = run()
    assert status == 0
    assert "(5 reused)" in printed.out
    assert "the cohort changed" in printed.err
    table = pd.read_csv(folder / "conversion.csv", index_col="case")
    for name, role in table["role"].items():
        suffix = "Ts" if role == "hold-out" else "Tr"
        assert {path for path in volumes(folder) if name in path} == {
            f"images{suffix}/{name}_0000.nii.gz",
            f"images{suffix}/{name}_0001.nii.gz",
            f"labels{suffix}/{name}.nii.gz",
        }


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--spacing", "6", "spacing was 8.0, now 6.0"),
        ("--hold-out", "1", "hold_out was 2, now 1"),
        ("--seed", "3", "seed was 0, now 3"),
        ("--split", "authors", "split was stratified, now authors"),
    ],
)
def test_changed_setting_is_refused(run, option, value, told):
    _, folder, _ = run()
    before = stamps(folder)
    status, _, printed = run(option, value)
    assert status == 1
    assert told in printed.err
    assert stamps(folder) == before


def test_another_cohort_is_not_mixed_in(run, tmp_path, images, written):
    run()
    for number in range(4):
        written(tmp_path / "other", f"HGJ-{number}", images[0])
    status, _, printed = run(at=tmp_path / "other")
    assert status == 1
    assert "holds CHUM-001, CHUM-002" in printed.err


def test_dataset_of_someone_else_is_not_touched(run, raw):
    foreign = raw / "Dataset501_HECKTOR" / "imagesTr" / "mine.nii.gz"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    assert "was not made by this command" in run()[2].err
    (raw / "Dataset501_HECKTOR").rename(raw / "Dataset501_Other")
    assert "already has the number 501" in run()[2].err


def test_folds_shrink_to_the_development_cases_with_a_warning(run):
    status, folder, printed = run("--folds", "9")
    assert status == 0
    assert "4 folds instead of 9" in printed.err
    assert len(json.loads((folder / "splits_final.json").read_text())) == 4


def test_authors_draw_is_over_all_cases_so_that_a_failed_one_moves_no_other(run, source, raw):
    _, folder, _ = run("--split", "authors")
    whole = json.loads((folder / "splits_final.json").read_text())
    held = np.random.RandomState(42).choice(NAMES, 2, replace=False)
    assert {path.split("/")[1] for path in volumes(folder) if "labelsTs" in path} == {f"{name}.nii.gz" for name in held}
    (source / "labelsTr" / f"{whole[0]['val'][0]}.nii.gz").write_bytes(b"")
    status = main(f"hecktor {source} -d 502 --spacing 8 --hold-out 2 --folds 2 --jobs 1 --split authors".split())
    assert status == 1
    rest = json.loads((raw / "Dataset502_HECKTOR" / "splits_final.json").read_text())
    assert rest[0]["val"] == whole[0]["val"][1:]
    assert rest[1]["val"] == whole[1]["val"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--hold-out", "5"], "found 6 usable case(s) with --hold-out 5; expected at least two"),
        (["--labels", "GTV", "GTV"], "--labels: found GTV GTV; expected different names"),
        (["--labels", "background"], "none of them background or ignore"),
        (["--split", "authors", "--seed", "1"], "--seed: found 1; expected 42"),
    ],
)
def test_senseless_settings_are_refused_before_anything_is_written(run, options, told):
    status, folder, printed = run(*options)
    assert status == 1
    assert told in printed.err
    assert not folder.exists()


def test_one_structure_name_for_two_label_values_fails_the_cases_that_have_both(run):
    _, folder, printed = run("--labels", "GTVp", "--hold-out", "0")
    assert "found label value(s) 2; expected 0 to 1" in printed.err
    assert json.loads((folder / "dataset.json").read_text())["labels"] == {"background": 0, "GTVp": 1}


def test_without_nnunet_raw_the_error_says_how_to_set_it(run, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    status, _, printed = run()
    assert status == 1
    assert "nnUNet_raw is not set" in printed.err
    assert "export nnUNet_raw=" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["hecktor", "x", "-d", "0"],
        ["hecktor", "x", "-d", "1", "--spacing", "nan"],
        ["hecktor", "x", "-d", "1", "--folds", "1"],
        ["hecktor", "x", "-d", "1", "--name", "../up"],
        ["phantom", "-o", "x", "--cases", "0"],
    ],
)
def test_bad_options_are_usage_errors_that_name_what_was_expected(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "expected" in capsys.readouterr().err


def test_interrupt_leaves_no_half_file_and_the_next_call_goes_on(run, monkeypatch):
    original, calls = case.convert_case, []

    def interrupted(files, settings, folder):
        if len(calls) == 3:
            monkeypatch.setattr(case.Path, "replace", stop)
        calls.append(files.name)
        return original(files, settings, folder)

    def stop(self, target):
        raise KeyboardInterrupt

    with monkeypatch.context():
        monkeypatch.setattr(convert, "convert_case", interrupted)
        status, folder, printed = run()
        monkeypatch.undo()
    assert status == 130
    assert "goes on from there" in printed.err
    assert len(volumes(folder)) == 9
    assert not list(folder.glob(".partial-*"))
    assert not (folder / "dataset.json").exists()


def test_ctrl_c_in_a_terminal_stops_the_processes_and_a_second_call_completes(source, raw):
    command = [sys.executable, "-c", "import sys; from dataset_conversion.cli import main; sys.exit(main())"]
    command += f"hecktor {source} -d 501 --spacing 3 --hold-out 2 --folds 2 --jobs 2".split()
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    folder = raw / "Dataset501_HECKTOR"
    deadline = time.monotonic() + 60
    while not list(folder.glob("conversion/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    done = {path.stem for path in folder.glob("conversion/*.json")}
    assert 1 <= len(done) < 6
    assert len(volumes(folder)) == 3 * len(done)
    assert not list(folder.glob(".partial-*"))
    again = subprocess.run(command, check=True, capture_output=True, text=True)
    assert f"({len(done)} reused)" in again.stdout


def test_phantom_converts_with_an_incomplete_case_held_out(raw, tmp_path, capsys):
    """The cohort and the options of the demonstration."""
    assert main(["phantom", "-o", str(tmp_path / "phantom")]) == 0
    assert "34 synthetic cases (34 new)" in capsys.readouterr().out
    arguments = f"hecktor {tmp_path / 'phantom'} -d 501 --spacing 4 --hold-out 4 --folds 5".split()
    assert main(arguments) == 0
    table = pd.read_csv(raw / "Dataset501_HECKTOR" / "conversion.csv", index_col="case")
    assert (table["head_finder"] == "brain").all()
    assert not table["crop_moved"].any()
    held = table[table["role"] == "hold-out"]
    assert len(held) == 4
    incomplete = (held["GTVp_voxels_after"] == 0) | (held["GTVn_voxels_after"] == 0)
    assert incomplete.sum() >= 1
    assert (~incomplete).sum() >= 1
    assert len(json.loads((raw / "Dataset501_HECKTOR" / "splits_final.json").read_text())) == 5
