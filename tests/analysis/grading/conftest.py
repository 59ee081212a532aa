"""Made-up grades, as lines of a file and as the product reads them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.grading.grades import Grades
from analysis.grading.grades_file import read_grades

Rows = Sequence[Mapping[str, Any]]


def write_grades(path: Path, rows: Rows, separator: str = ",") -> Path:
    """A file of grades with the columns of all rows; a missing value is an empty cell."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, delimiter=separator, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def simulate(
    cases: int = 16,
    raters: Sequence[str] = ("Ann", "Bob"),
    structures: Sequence[str] = ("GTVp", "GTVn"),
    variants: Sequence[tuple[str, str, int]] = (("", "baseline", 0), ("CT", "spike", 2), ("PET", "noise", 3)),
    repeats: bool = False,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Lines in which grades follow Dice; every second case was perturbed, in two ways."""
    rng = np.random.default_rng(seed)
    rows = []
    for case in range(cases):
        for modality, perturbation, severity in variants:
            if perturbation != "baseline" and case % 2:
                continue
            keys = {"case": f"P{case:02d}", "modality": modality, "perturbation": perturbation, "severity": severity}
            keys["sample"] = "" if perturbation == "baseline" else "worst"
            for structure in structures:
                dice = float(np.clip(rng.beta(3, 2) - 0.15 * bool(severity), 0, 1))
                hd95 = float("inf") if dice == 0 else round(50 * (1 - dice) + rng.uniform(0, 9), 3)
                metrics = {"dice": round(dice, 6), "hd95_mm": hd95, "noise": round(rng.uniform(), 6)}
                for strictness, rater in enumerate(raters):
                    for repeat in range(1 + (repeats and case % 2 == 0)):
                        grade = int(np.clip(round(1 + 4 * dice - 0.4 * strictness + rng.normal(0, 0.7)), 1, 5))
                        row = keys | {"structure": structure, "rater": rater, "repeat": repeat, "grade": grade}
                        rows.append(row | metrics)
    return rows


@pytest.fixture(scope="session")
def grades_csv() -> Callable[..., Path]:
    return write_grades


@pytest.fixture(scope="session")
def simulated_lines() -> Callable[..., list[dict[str, Any]]]:
    return simulate


@pytest.fixture
def grades_of(tmp_path: Path) -> Callable[[Rows], Grades]:
    """Write lines, and read them as the product does."""
    return lambda rows: read_grades([write_grades(tmp_path / "grades.csv", rows)])


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Grades:
    """Two raters, unperturbed contours of 16 patients and two perturbed ones of 8 of them."""
    return read_grades([write_grades(tmp_path_factory.mktemp("grades") / "grades.csv", simulate())])


@pytest.fixture(scope="session")
def authors_csv(oracles: Path) -> Path:
    path = oracles.parent / "reference" / "paper_results" / "Baseline" / "Metrics_x_Clinical.csv"
    if not path.is_file():
        pytest.skip(f"no {path}: the study's public tables are not on this machine")
    return path


@pytest.fixture(scope="session")
def authors_grades(authors_csv: Path) -> Grades:
    """The study's unperturbed grades: 32 patients, two structures, two observers."""
    return read_grades([authors_csv])
