"""The authors' public tables, and a small study in their layout whose figures can be worked out by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.replication.page import Replication, write_replication

NAMES = {"bias": "Bias", "blur": "Blur", "ghosting": "Ghost", "motion": "Motion", "noise": "Noise", "spike": "Spike"}
HEADER = "SUBJECT;LABEL;ACURCY;DICE;FN;FP;HDRFDST;JACRD;REFVOL;SNSVTY;SPCFTY;TN;TP"
ADDED = (
    "File Name,Volume,Surface Area,Compactness,Distance from Center,Boundary Length,CT Intensity Var,"
    "PET Intensity Var,CT F/B Contrast,PET F/B Contrast,SUVmax,CT Number (HU),PET Number,Regions,Entropy,,,,,"
)
# Dice in hundredths; "fp" and "none" have no reference, and a prediction or none.
PRIMARY: Sequence[int | str] = (90, 80, 70, 60, 50, "fp")
NODAL: Sequence[int | str] = (80, 70, 60, 0, "none", "fp")
LOSS = {"bias": 20, "blur": 1, "ghosting": 0, "motion": 2, "noise": 10, "spike": 100}
GRADES = {
    "Primary": ((4, 4), (4, 3), (3, 3), (2, 3), (1, 2), (1, 1)),
    "Nodal": ((5, 5),) * 3 + ((2, 1), (3, 4), (1, 1)),
}
LARGEST_DISTANCE = 12.0


def metrics_line(case: str, label: str, index: int, dice: int | str, *, graded: bool = False) -> str:
    """Reference of 100 voxels per case number; as many false positives as false negatives, so that Dice is TP / 100."""
    undefined = "1000" if graded else "inf"
    if dice == "none":
        return f"{case};{label};1.0;1.0;0;0;{undefined};{'1.0' if graded else '-inf'};0.0;-inf;1.0;9000;0"
    if dice == "fp":
        return f"{case};{label};0.99;0.0;0;10;{undefined};0.0;0.0;-inf;0.99;9000;0"
    reference = 100 * (index + 1)
    tp = int(dice) * (index + 1)
    distance = f"{LARGEST_DISTANCE - int(dice) / 10}" if dice else undefined
    return (
        f"{case};{label};0.99;{tp / reference!r};{reference - tp};{reference - tp if tp else 0};{distance};"
        f"{tp / (2 * reference - tp)!r};{float(reference)};{tp / reference!r};0.99;9000;{tp}"
    )


def metrics_table(cases: Sequence[str], loss: int = 0, grades: Mapping[str, Any] | None = None) -> str:
    lines = [HEADER + (";Likert 1;Likert 2" if grades else "")]
    for index, case in enumerate(cases):
        for label, dice in (("Nodal", NODAL[index]), ("Primary", PRIMARY[index])):
            perturbed = max(0, dice - loss) if isinstance(dice, int) else dice
            line = metrics_line(case, label, index, perturbed, graded=grades is not None)
            lines.append(line + ("" if grades is None else ";{};{}".format(*grades[label][index])))
    return "\n".join(lines) + "\n"


def added_table(cases: Sequence[str]) -> str:
    lines = [ADDED]
    for index, case in enumerate(cases):
        for dice in (NODAL[index], PRIMARY[index]):
            if isinstance(dice, str):
                lines.append(f"{case}{',' * 19}")
                continue
            # PET contrast is the Dice itself: where everything is erased it explains all of the loss.
            values = [100.0 * (index + 1), index**2, 0.1 * (index % 2), 7 - index, 3 + index % 3, 20 + index % 4]
            values += [1 + index % 2, 100 + index, dice / 100, 5 + index % 3, 30 - index % 2, 2, 1 + index % 2, index]
            lines.append(",".join([case, *map(str, values), "", "", "", "", ""]))
    return "\n".join(lines) + "\n"


def write_study(
    folder: Path,
    cases: Sequence[str] = tuple(f"C-{number}" for number in range(1, 7)),
    modalities: Sequence[str] = ("CT", "PET"),
    graded: Sequence[str] = ("", "_perturbed"),
    perturbations: Sequence[str] = tuple(LOSS),
) -> Path:
    """Six cases; a perturbation takes its loss, in hundredths of Dice, times the severity."""
    (folder / "Baseline").mkdir(parents=True)
    (folder / "Baseline" / "results_pymia.csv").write_text(metrics_table(cases))
    (folder / "Baseline" / "results_add.csv").write_text(added_table(cases))
    for suffix in graded:
        (folder / "Baseline" / f"Metrics_x_Clinical{suffix}.csv").write_text(metrics_table(cases, grades=GRADES))
    for modality in modalities:
        for perturbation in perturbations:
            for severity in (1, 2, 3):
                name = f"{NAMES[perturbation]}{severity}"
                (folder / modality / name).mkdir(parents=True)
                table = metrics_table(cases, LOSS[perturbation] * severity)
                (folder / modality / name / f"results_{name}_pymia.csv").write_text(table)
    return folder


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Path]:
    return write_study


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_study(tmp_path / "small")


@pytest.fixture(scope="session")
def small_replication(tmp_path_factory: pytest.TempPathFactory) -> Replication:
    """Of the whole small study; tests only read it."""
    folder = tmp_path_factory.mktemp("small")
    return write_replication(write_study(folder / "study"), folder / "out")


@pytest.fixture(scope="session")
def paper_results(oracles: Path) -> Path:
    folder = oracles.parent / "reference" / "paper_results"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: the study's public tables are not on this machine")
    return folder


@pytest.fixture(scope="session")
def public(paper_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Replication:
    """Of the public folder: no PET tables, no grades of perturbed cases."""
    return write_replication(paper_results, tmp_path_factory.mktemp("public"))


@pytest.fixture(scope="session")
def full_folder(paper_results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout test: the CT tables stand in for PET, and 18 unperturbed graded cases for the perturbed ones."""
    folder = shutil.copytree(paper_results, tmp_path_factory.mktemp("full") / "study")
    shutil.copytree(folder / "CT", folder / "PET")
    lines = (folder / "Baseline" / "Metrics_x_Clinical.csv").read_text().splitlines()
    (folder / "Baseline" / "Metrics_x_Clinical_perturbed.csv").write_text("\n".join(lines[:37]) + "\n")
    return folder


@pytest.fixture(scope="session")
def full(full_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Replication:
    return write_replication(full_folder, tmp_path_factory.mktemp("out"))


def _refuse(constant: str) -> float:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture(scope="session")
def read_claims() -> Callable[[Path], dict[str, dict[str, Any]]]:
    """Read claims.json strictly, by id."""

    def read(out: Path) -> dict[str, dict[str, Any]]:
        claims = json.loads((out / "claims.json").read_text(encoding="utf-8"), parse_constant=_refuse)
        assert len({claim["id"] for claim in claims}) == len(claims)
        return {claim["id"]: claim for claim in claims}

    return read
