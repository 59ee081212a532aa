"""The command as a user types it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.cli import main
from analysis.report import write_report


@pytest.fixture
def run(run_of_4: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run_of_4, tmp_path / "run")


def test_prints_where_the_report_is_the_verdict_and_five_cells(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(run)])
    out, err = capsys.readouterr()
    report = write_report(run)
    lines = out.splitlines()
    assert lines[:3] == [f"report: {report.html}", report.verdict_line, "worst cells:"]
    worst = [f"  {i}. {words}" for i, words in enumerate(report.worst_cells, start=1)]
    assert lines[3:] == [*worst, *(f"note: {note}" for note in report.notes)]
    assert len(report.worst_cells) == 5
    assert err == ""


def _bad_input(run: Path, limits_file: Callable[[str], Path]) -> dict[str, tuple[list[str], str]]:
    (run.parent / "no_rows").mkdir()
    shutil.copy(run / "run.toml", run.parent / "no_rows")
    limits = limits_file("[[limit]]\nperturbation = 'blurr'\nmedian_delta_dice = 0.05")
    return {
        "missing folder": ([str(run.parent / "nowhere")], "is no run folder"),
        "no rows": ([str(run.parent / "no_rows")], "no measured rows"),
        "typo": ([str(run), "--limits", str(limits)], "did you mean 'blur'?"),
        "no clinical file": ([str(run), "--clinical", str(run / "nowhere.csv")], "clinical file"),
        "other cohort": ([str(run), "--clinical", str(_clinical(run.parent))], "has none of the run's 4 cases"),
        "no limits": ([str(run), "--limits", str(run / "nowhere.toml")], "cannot be read"),
    }


def _clinical(folder: Path) -> Path:
    path = folder / "clinical.csv"
    path.write_text("PatientID,Age\nX,1\n")
    return path


@pytest.mark.parametrize("what", ["missing folder", "no rows", "typo", "no clinical file", "other cohort", "no limits"])
def test_bad_input_ends_with_one_message_and_status_2(
    what: str, run: Path, limits_file: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, words = _bad_input(run, limits_file)[what]
    with pytest.raises(SystemExit) as end:
        main(["run", *arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_help_names_the_command_and_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "-h"])
    out = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    for words in ("RUN", "--limits FILE", "--model MODEL", "--clinical CSV", "--images DIR", "--labels DIR"):
        assert words in out
    for words in ("report.html", "summary.md", "Exit status"):
        assert words in out


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("analysis.cli", {"numpy", "pandas", "scipy", "matplotlib", "torch", "starlette"}),
        (
            "analysis.report, analysis.model_update, analysis.replication.page, analysis.grading.page",
            {"torch", "torchio", "matplotlib.pyplot"},
        ),
    ],
)
def test_nothing_is_loaded_that_is_not_needed(modules: str, unwanted: set[str]) -> None:
    """Help and wrong options come at once, and a report does without what takes seconds to import."""
    code = f"import sys, {modules}; print({unwanted} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr) == ("set()\n", "")
