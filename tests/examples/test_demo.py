"""The demo's path on a cohort of its own, as small as it goes: every command for real, through to the report."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

REPOSITORY = Path(__file__).parents[2]


def run_demo(source: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/demo.py", "--source", str(source), "-o", str(output), *more]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_source_to_report_and_a_second_call_that_reuses_everything(tmp_path, request):
    convert = str(Path(sys.executable).parent / "nnUNetv2_robustness_convert")
    source, output = tmp_path / "cohort", tmp_path / "demo"
    subprocess.run([convert, "phantom", "-o", str(source), "--cases", "5", "--spacing", "8"], check=True)
    small = ["--folds", "2", "--hold-out", "1", "--spacing", "8", "--patch", "16", "--features", "4", "8", "8"]
    small += ["--batch-size", "2", "--epochs", "1", "--iterations", "2"]
    first = run_demo(source, output, *small)
    assert first.returncode == 0, first.stdout + first.stderr
    rows = pd.read_parquet(output / "run" / "metrics.parquet")
    assert len(rows) == 1 * 37 * 2
    report = (output / "run" / "report" / "report.html").read_text()
    assert "phantom" in report
    assert str(output / "run" / "report" / "report.html") in first.stdout
    assert first.stdout.count("median ΔDice") >= 5
    figures = {file.name for file in (output / "run" / "report" / "figures").iterdir()}
    assert any(name.startswith("worst_") for name in figures) or "no case lost Dice" in first.stdout
    assert '<th scope="row">HPV status (0=-, 1=+)</th>' in report
    assert "no lesion descriptors" not in first.stdout
    if shutil.which("chromium"):  # the rest is worth testing without a browser too
        looks_right = request.getfixturevalue("looks_right")
        looks_right(output / "run" / "report" / "report.html", sum(name.endswith(".svg") for name in figures))
    model = next((output / "nnUNet_results").rglob("plans.json")).parent
    assert len(list(model.glob("fold_*/checkpoint_final.pth"))) == 2
    block = json.loads((model / "plans.json").read_text())["configurations"]["3d_fullres"]["dynunet_training"]
    assert (block["num_epochs"], block["num_iterations_per_epoch"]) == (1, 2)
    files = [output / "run" / "rows", *model.glob("fold_*/checkpoint_final.pth")]
    before = [file.stat().st_mtime_ns for file in files]
    second = run_demo(source, output, *small)
    assert second.returncode == 0, second.stdout + second.stderr
    assert [file.stat().st_mtime_ns for file in files[1:]] == before[1:]
    assert "nnUNetv2_train" not in second.stdout
    pd.testing.assert_frame_equal(pd.read_parquet(output / "run" / "metrics.parquet"), rows)


def test_a_step_that_fails_says_which_and_where_its_output_is(tmp_path):
    (tmp_path / "empty").mkdir()
    result = run_demo(tmp_path / "empty", tmp_path / "demo")
    assert result.returncode == 1
    assert "The demo stopped: convert ended with status" in result.stdout
    assert "convert.log" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
