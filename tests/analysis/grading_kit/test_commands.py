"""The commands as their user calls them: select to figures with simulated raters, one message for what is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis import cli
from analysis.grading.kit import open_kit

EXAMPLE = Path(__file__).parents[3] / "examples" / "simulated_raters.py"


def call(*arguments):
    cli.main(["grading", *map(str, arguments)])


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        call(*arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    return error


def test_from_select_to_figures_with_simulated_raters(run_with_images, toy, tmp_path, capsys):
    (tmp_path / "scale.txt").write_text("schlecht\nmäßig\nbrauchbar\n\ngut\nsehr gut\n", encoding="utf-8")
    kit, key = tmp_path / "kit", tmp_path / "elsewhere" / "key"
    options = ["--key", key, "--top", 2, "--per", 3, "--raters", 3, "--repeat", 2, "--scale", tmp_path / "scale.txt"]
    call("select", run_with_images, "-o", kit, "--model", toy.folder, "--sample", "stratified", *options)
    said = capsys.readouterr().out
    assert f"key: {key} (keep it from raters" in said
    assert "drawn one from each part" in said
    assert open_kit(kit).scale[1] == "mäßig"
    assert len(open_kit(kit).items) == 3 + 2 * 2 * 3 + 2
    subprocess.run([sys.executable, EXAMPLE, kit, key, "-o", tmp_path / "grades.csv"], check=True)
    call("import", kit, tmp_path / "grades.csv")
    call("export", kit, "--key", key, "-o", tmp_path / "all.csv")
    assert "note" not in capsys.readouterr().out
    call("analyse", tmp_path / "all.csv", "-o", tmp_path / "out", "--note", "simulated raters")
    assert "grading.html" in capsys.readouterr().out
    page = (tmp_path / "out" / "grading.html").read_text()
    assert "simulated raters, phantom" in page
    assert "lose most" not in page
    pairs = pd.read_csv(tmp_path / "out" / "tables" / "agreement.csv")[["first", "second"]].drop_duplicates()
    assert len(pairs) == 3
    repeats = pd.read_csv(tmp_path / "out" / "tables" / "repeats.csv")
    assert set(repeats.loc[repeats["structure"] == "all", "n"]) == {4}
    figures = {file.name for file in (tmp_path / "out" / "figures").iterdir()}
    assert {"grade_flow_baseline.png", "grade_flow_perturbed.png"} <= figures


def test_select_without_a_model(run_with_images, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("ROBUSTNESS_MODEL", raising=False)
    assert "--model: name the measured model folder" in fails(capsys, "select", run_with_images, "-o", tmp_path / "kit")


def test_select_of_what_is_no_run(toy, tmp_path, capsys):
    assert "run.toml" in fails(capsys, "select", tmp_path, "-o", tmp_path / "kit", "--model", toy.folder)


def test_select_with_images_that_moved(run_with_images, toy, tmp_path, capsys):
    error = fails(
        capsys, "select", run_with_images, "-o", tmp_path / "kit", "--model", toy.folder, "--images", tmp_path / "gone"
    )
    assert "no such folder of images" in error


@pytest.mark.parametrize("content", [b"one\ntwo\n", b"\xff\xfe", b""])
def test_a_scale_that_is_none(run_with_images, toy, tmp_path, capsys, content):
    (tmp_path / "scale.txt").write_bytes(content)
    arguments = ["select", run_with_images, "-o", tmp_path / "kit", "--model", toy.folder]
    assert "--scale" in fails(capsys, *arguments, "--scale", tmp_path / "scale.txt")


def test_the_key_of_another_kit(made, folders, tmp_path, capsys):
    file = folders.key / "key.toml"
    file.write_text(file.read_text().replace(folders.open().sha256, "0" * 64))
    error = fails(capsys, "export", folders.kit, "--key", folders.key, "-o", tmp_path / "grades.csv")
    assert "is not the key of" in error
    assert not (tmp_path / "grades.csv").exists()


def test_no_key_where_one_is_named(folders, tmp_path, capsys):
    error = fails(capsys, "export", folders.kit, "--key", tmp_path / "gone", "-o", tmp_path / "grades.csv")
    assert "is no key that can be read" in error


def test_export_of_a_kit_that_was_changed(folders, tmp_path, capsys):
    shutil.rmtree(next((folders.kit / "items").iterdir()))
    assert "is missing" in fails(capsys, "export", folders.kit, "-o", tmp_path / "grades.csv")


def test_analyse_of_a_blinded_export(folders, tmp_path, capsys):
    call("export", folders.kit, "-o", tmp_path / "grades.csv")
    error = fails(capsys, "analyse", tmp_path / "grades.csv", "-o", tmp_path / "out")
    assert "export again with --key" in error


def test_interrupted(monkeypatch, folders, tmp_path, capsys):
    def interrupt(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.grading.exchange.export_grades", interrupt)
    with pytest.raises(SystemExit) as ended:
        call("export", folders.kit, "-o", tmp_path / "grades.csv")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"
