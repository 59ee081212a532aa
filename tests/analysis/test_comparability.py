"""Two runs: what must be the same, and what may differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis.comparability import check_comparable
from analysis.errors import AnalysisError
from nnunet_plugin.benchmark.results import RunFolder

Make = Callable[..., Any]


@pytest.fixture
def two(make_run: Make, make_simulation: Make, make_settings: Make, tmp_path: Path) -> Callable[..., list[RunFolder]]:
    """Candidate and reference of three cases; the candidate's settings can be changed."""

    def make(change: Callable[[dict[str, Any]], object] = lambda _settings: None) -> list[RunFolder]:
        simulation = make_simulation(3, perturbations=("blur",))
        runs = []
        for name in ("candidate", "reference"):
            settings = make_settings(list(simulation))
            if name == "candidate":
                change(settings)
            runs.append(RunFolder(make_run(tmp_path / name, simulation, settings)))
        return runs

    return make


def test_equal_runs_are_comparable(two: Make) -> None:
    assert check_comparable(*two()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.update(seed=1), "seed: 1 here, 0 in the reference"),
        (lambda s: s["catalogue"].update(sha256="x"), "catalogue: 'x' here"),
        (lambda s: s["cohort"].update(modalities=["CT", "MR"]), "modalities: ['CT', 'MR'] here"),
        (lambda s: s["cohort"].update(labels={"GTVp": 2, "GTVn": 1}), "label values"),
        (lambda s: s["cohort"]["cases"].pop(), "cases: CHUS-003 only in the reference"),
        (lambda s: s["cohort"]["cases"].append("X"), "cases: X not in the reference"),
    ],
)
def test_what_differs_is_named(two: Make, change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(AnalysisError) as error:
        check_comparable(*two(change))
    assert words in str(error.value)
    assert "measure the reference model again" in str(error.value)


def test_other_images_under_the_same_names_are_noticed(two: Make, make_row: Make, make_settings: Make) -> None:
    candidate, reference = two()
    other = RunFolder.create(candidate.path.parent / "other", candidate.settings)
    base = (None, "baseline", 0)
    with other.claim("CHUP-002", lambda: {"CT": "1", "PET": "9", "label": "3"}) as rows:
        assert rows is not None
        rows.append([make_row("CHUP-002", base, structure, 0.8) for structure in ("GTVp", "GTVn")])
    with pytest.raises(AnalysisError, match="images or labels of CHUP-002 have other hashes"):
        check_comparable(other, reference)


def test_what_belongs_to_the_pipeline_may_differ_and_is_said(two: Make) -> None:
    notes = check_comparable(*two(lambda s: s.update(label_rule="argmax", device="cuda")))
    assert notes == ["label rule: argmax here, 0.5 in the reference", "device: cuda here, cpu in the reference"]
