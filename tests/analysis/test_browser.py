"""Reports in a real browser: of numbers alone, with pictures, and of real PET/CT."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.report import Report, write_report
from analysis.results import Sources

LooksRight = Callable[[Path, int], None]


def figures_of(report: Report) -> int:
    """An SVG and a PNG file each."""
    return len(report.figures) // 2


def test_a_report_of_numbers(looks_right: LooksRight, run_of_4: Path, tmp_path: Path) -> None:
    report = write_report(shutil.copytree(run_of_4, tmp_path / "run"))
    looks_right(report.html, figures_of(report))


def test_a_report_with_pictures(looks_right: LooksRight, run_with_images: Path, toy: Any, tmp_path: Path) -> None:
    run = shutil.copytree(run_with_images, tmp_path / "run")
    report = write_report(run, sources=Sources(model=toy.folder))
    assert any(file.name.startswith("worst_") for file in report.figures)
    looks_right(report.html, figures_of(report))


@pytest.mark.slow
def test_a_report_of_real_petct(looks_right: LooksRight, real_petct: Path, toy: Any, tmp_path: Path) -> None:
    """Real images, converted and measured by the commands; the model is the toy, so the figures mean nothing."""
    scripts = Path(sys.executable).parent
    convert = [scripts / "nnUNetv2_robustness_convert", "hecktor", real_petct, "-d", "502", "--labels", "GTVp", "GTVn"]
    convert += ["--spacing", "4", "--hold-out", "2", "--folds", "2"]
    subprocess.run(convert, check=True, env={"nnUNet_raw": str(tmp_path), "PATH": str(scripts)})
    raw = tmp_path / "Dataset502_HECKTOR"
    (tmp_path / "one.toml").write_text(
        '[perturbations.haze]\ntransform = "RandomNoise"\nseverities = [{ std = [0.5, 0.5] }]\n'
    )
    measure = [scripts / "nnUNetv2_robustness_run", "-m", toy.folder, "-i", raw / "imagesTs", "-l", raw / "labelsTs"]
    measure += ["-o", tmp_path / "run", "--catalogue", tmp_path / "one.toml", "--step-size", "1", "--device", "cpu"]
    subprocess.run(measure, check=True)
    report = write_report(tmp_path / "run", sources=Sources(model=toy.folder))
    assert not [note for note in report.notes if "descriptors" in note]
    looks_right(report.html, figures_of(report))
