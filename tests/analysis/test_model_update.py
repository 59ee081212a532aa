"""The comparison of two runs through its command: worse on purpose, the same, and better; pages and exit status."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.cli import main
from analysis.comparison import Margins
from analysis.errors import AnalysisError
from analysis.model_update import load_margins

Make = Callable[..., Any]
Change = Callable[[str, Any, dict[str, Any]], dict[str, Any]]
CASES = 60


@pytest.fixture(scope="module")
def simulation(make_simulation: Make) -> Any:
    return make_simulation(CASES, perturbations=("blur", "noise"))


@pytest.fixture(scope="module")
def reference(simulation: Any, make_run: Make, make_settings: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = make_run(tmp_path_factory.mktemp("reference") / "run", simulation, make_settings(list(simulation)))
    return folder


@pytest.fixture
def candidate(simulation: Any, make_run: Make, make_settings: Make, tmp_path: Path) -> Callable[[Change], Path]:
    """Write a run in which each row has been changed."""

    def write(change: Change) -> Path:
        rows = {
            case: {variant: [change(case, variant, row) for row in of_variant] for variant, of_variant in of.items()}
            for case, of in simulation.items()
        }
        folder: Path = make_run(tmp_path / "candidate", rows, make_settings(list(simulation)))
        return folder

    return write


def with_dice(row: dict[str, Any], dice: float) -> dict[str, Any]:
    """The row with another Dice, where its contour has the structure."""
    if not row["reference_mm3"]:
        return row
    return row | {"dice": dice, "outcome": "detected" if dice > 0 else "missed"}


def outcome(candidate: Path) -> dict[str, Any]:
    written: dict[str, Any] = json.loads((candidate / "update" / "update.json").read_text())
    return written


def test_the_same_model_measured_again_is_equivalent(
    candidate: Callable[[Change], Path], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = candidate(lambda _case, _variant, row: row)
    main(["compare", str(run), str(reference), "--fail", "--strict"])
    assert "PASS: harm beyond the margins is excluded" in capsys.readouterr().out
    written = outcome(run)
    assert {written[name]["state"] for name in ("clean", "perturbed", "lesions")} == {"equivalent"}


def test_a_model_with_noise_in_it_is_caught(
    candidate: Callable[[Change], Path], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    run = candidate(lambda _c, _v, row: with_dice(row, max(0.01, row["dice"] - abs(rng.normal(0.08, 0.05)))))
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run), str(reference), "--fail"])
    assert end.value.code == 1
    out = capsys.readouterr().out
    assert "REGRESSION" in out
    assert "worse: mean loss of Dice without perturbation" in out


def test_a_structure_suppressed_in_some_cases_is_caught_and_named(
    candidate: Callable[[Change], Path], reference: Path, simulation: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    suppressed = {case for index, case in enumerate(simulation) if index % 6 == 0}

    def suppress(case: str, _variant: Any, row: dict[str, Any]) -> dict[str, Any]:
        return with_dice(row, 0.0) if case in suppressed and row["structure"] == "GTVp" else row

    run = candidate(suppress)
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run), str(reference), "--fail"])
    assert end.value.code == 1
    named = {lesion["case"] for lesion in outcome(run)["changed_lesions"] if "baseline" in lesion["newly_missed"]}
    assert named == suppressed
    page = (run / "update" / "update.html").read_text()
    for case in suppressed:
        assert f'<th scope="row">{case}</th>' in page
    assert "newly missed without perturbation" in capsys.readouterr().out


def test_a_better_model_passes_and_its_gains_are_listed(
    candidate: Callable[[Change], Path], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def better(_case: str, variant: Any, row: dict[str, Any]) -> dict[str, Any]:
        return with_dice(row, min(1.0, row["dice"] + 0.06)) if variant[1] == "noise" and row["dice"] else row

    run = candidate(better)
    main(["compare", str(run), str(reference), "--fail", "--strict"])
    assert "PASS" in capsys.readouterr().out
    written = outcome(run)
    assert written["perturbed"]["state"] == "superior"
    improved = {(cell["perturbation"], cell["structure"]) for cell in written["improved_cells"]}
    assert improved == {("noise", "GTVp"), ("noise", "GTVn")}
    assert "CT-noise-1-GTVp" in (run / "update" / "update.md").read_text()


def test_a_row_that_is_missing_prevents_a_pass(candidate: Callable[[Change], Path], reference: Path) -> None:
    run = candidate(lambda _case, _variant, row: row)
    file = sorted((run / "rows").glob("*.jsonl"))[0]
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-2]))
    main(["compare", str(run), str(reference)])
    written = outcome(run)
    assert written["outcome"] == "inconclusive"
    assert len(written["gaps"]) == 2
    assert any(note.startswith("candidate: Variants are missing in 1 case") for note in written["notes"])


def test_other_cases_end_with_status_4(candidate: Callable[[Change], Path], reference: Path, tmp_path: Path) -> None:
    run = candidate(lambda _case, _variant, row: row)
    text = (run / "run.toml").read_text()
    (run / "run.toml").write_text(text.replace("seed = 0", "seed = 3", 1))
    with pytest.raises(SystemExit) as end:
        main(["compare", str(run), str(reference)])
    assert end.value.code == 4


def test_repeated_runs_of_the_reference_set_the_noise_floor(
    candidate: Callable[[Change], Path], reference: Path, tmp_path: Path
) -> None:
    run = candidate(lambda _case, _variant, row: row)
    in_use = shutil.copytree(reference, tmp_path / "in use")
    for number in range(9):
        shutil.copytree(reference, in_use / "repeats" / f"{number:02d}")
    main(["compare", str(run), str(in_use)])
    assert any("9 repeated runs" in note for note in outcome(run)["notes"])
    shutil.copytree(reference, in_use / "repeats" / "10")
    main(["compare", str(run), str(in_use)])
    assert outcome(run)["noise"]["clean_sd"] == 0


def test_the_page_needs_nothing_but_itself_and_escapes(
    candidate: Callable[[Change], Path], reference: Path, tmp_path: Path
) -> None:
    run = candidate(lambda _case, _variant, row: row).rename(tmp_path / "<script>x")
    main(["compare", str(run), str(reference), "-o", str(tmp_path / "out")])
    page = (tmp_path / "out" / "update.html").read_text()
    assert "<script" not in page
    assert not re.findall(r'(?:src|href)\s*=\s*"(?!#|data:)', page)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("margins = 3", "expected a table [margins]"),
        ("[margins]\nclaen = 0.1", "did you mean 'clean'?"),
        ("[margins]\nclean = 0", "margin clean = 0; expected a fraction above 0"),
        ("[margins", "cannot be read"),
    ],
)
def test_margins_that_are_not_understood_are_refused(text: str, words: str, limits_file: Callable[[str], Path]) -> None:
    with pytest.raises(AnalysisError) as error:
        load_margins(limits_file(text))
    assert words in str(error.value)


def test_margins_that_are_not_set_keep_their_default(limits_file: Callable[[str], Path]) -> None:
    assert load_margins(None) == Margins()
    assert load_margins(limits_file("[margins]\ncell = 0.2\n")) == Margins(cell=0.2)
