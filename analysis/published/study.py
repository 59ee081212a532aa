"""The authors' per-case tables, read into the columns that a run of ours has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError
from analysis.formatting import listed
from analysis.pairing import BASELINE, is_baseline
from analysis.published.layout import DESCRIPTORS, GRADED, MODALITIES, PERTURBATIONS, SEVERITIES
from analysis.published.metrics_table import read_metrics
from analysis.published.strict_table import REMEDY, Line, read_lines


@dataclass(frozen=True)
class Study:
    """Everything that was published.

    Attributes
    ----------
    folder
        Where it was read from.
    rows
        Metrics of the unperturbed baseline and of all variants that are there, as the rows of a run. Unlike there,
        ``hd_mm`` is infinite also where both masks are empty, as in the authors' tables.
    descriptors
        ``case``, ``structure`` and the 13 descriptors of every structure with a reference; empty where the table is
        missing.
    grades
        Metrics and grades (``observer_1``, ``observer_2``) of the ``baseline`` and the ``perturbed`` graded cases,
        where there.
    missing
        Tables that are not there, relative to the folder.
    """

    folder: Path
    rows: pd.DataFrame
    descriptors: pd.DataFrame
    grades: Mapping[str, pd.DataFrame]
    missing: tuple[str, ...]

    def missing_variants(self, perturbations: Iterable[str] = tuple(PERTURBATIONS)) -> str:
        """Name in words the missing tables of these perturbations; empty where all are there."""
        names = tuple(perturbations)
        parts = []
        for modality in MODALITIES:
            wanted = [f"{modality}/{_variant_file(name, severity)}" for name in names for severity in SEVERITIES]
            gone = [file for file in wanted if file in self.missing]
            # More names than a few tell a reader less than their pattern.
            if 3 < len(gone) == len(wanted):
                folders = ", ".join(PERTURBATIONS[name] for name in names)
                parts.append(f"all {len(gone)} tables {modality}/*/results_*_pymia.csv ({folders}; 1 to 3)")
            elif gone:
                parts.append(", ".join(gone))
        return " and ".join(parts)


def read_study(folder: Path | str) -> Study:
    """Read all tables of a folder.

    Parameters
    ----------
    folder
        With ``Baseline/results_pymia.csv``, and as many of the other tables as there are.

    Raises
    ------
    AnalysisError
        Where the baseline is missing, or a table that is there cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AnalysisError(f"{folder}: is no folder; expected the authors' tables, with Baseline and CT in it")
    baseline_file = folder / "Baseline" / "results_pymia.csv"
    if not baseline_file.is_file():
        raise AnalysisError(
            f"{folder}: found no Baseline/results_pymia.csv, expected the unperturbed results there; name the folder "
            "that holds Baseline, CT and PET"
        )
    baseline = read_metrics(baseline_file)
    missing: list[str] = []
    descriptors = _descriptors(folder, baseline, missing)
    grades = {name: table for name, file in GRADED.items() if (table := _grades(folder, file, missing)) is not None}
    variants = _variants(folder, baseline, baseline_file, missing)
    rows = pd.concat([_labelled(baseline, None, BASELINE, 0), *variants], ignore_index=True)
    return Study(folder, rows, descriptors, grades, tuple(missing))


def baseline_of(study: Study, structure: str) -> pd.DataFrame:
    """Unperturbed rows of one structure."""
    return study.rows[is_baseline(study.rows) & (study.rows["structure"] == structure)]


def _variant_file(perturbation: str, severity: int) -> str:
    name = f"{PERTURBATIONS[perturbation]}{severity}"
    return f"{name}/results_{name}_pymia.csv"


def _variants(folder: Path, baseline: pd.DataFrame, baseline_file: Path, missing: list[str]) -> list[pd.DataFrame]:
    frames = []
    for modality in MODALITIES:
        for perturbation in PERTURBATIONS:
            for severity in SEVERITIES:
                relative = f"{modality}/{_variant_file(perturbation, severity)}"
                if not (folder / relative).is_file():
                    missing.append(relative)
                    continue
                table = read_metrics(folder / relative)
                _check_same_cases(folder / relative, table, baseline_file, baseline)
                frames.append(_labelled(table, modality, perturbation, severity))
    return frames


def _labelled(table: pd.DataFrame, modality: str | None, perturbation: str, severity: int) -> pd.DataFrame:
    labels = pd.Series([modality] * len(table), index=table.index, dtype=object)
    # What was drawn was not published.
    return table.assign(modality=labels, perturbation=perturbation, severity=severity, parameters="{}")


def _check_same_cases(path: Path, table: pd.DataFrame, baseline_file: Path, baseline: pd.DataFrame) -> None:
    here, there = set(table["case"]), set(baseline["case"])
    differences = ((there - here, "lacks"), (here - there, "has"))
    found = [f"{words} {listed(sorted(names), most=5)}" for names, words in differences if names]
    if found:
        raise AnalysisError(f"{path}: {' and '.join(found)}; expected the cases of {baseline_file}; {REMEDY}")
    both = table.merge(baseline, on=["case", "structure"], suffixes=("", "_baseline"))
    differ = both[both["reference_mm3"] != both["reference_mm3_baseline"]]
    if len(differ):
        first = differ.iloc[0]
        raise AnalysisError(
            f"{path}: the reference of {first['case']} {first['structure']} has {first['reference_mm3']:g} voxels, "
            f"expected {first['reference_mm3_baseline']:g} as in {baseline_file}; {REMEDY}"
        )


def _grades(folder: Path, file: str, missing: list[str]) -> pd.DataFrame | None:
    path = folder / "Baseline" / file
    if not path.is_file():
        missing.append(f"Baseline/{file}")
        return None
    return read_metrics(path, graded=True)


def _descriptors(folder: Path, baseline: pd.DataFrame, missing: list[str]) -> pd.DataFrame:
    path = folder / "Baseline" / "results_add.csv"
    columns = ["case", "structure", *DESCRIPTORS]
    if not path.is_file():
        missing.append("Baseline/results_add.csv")
        return pd.DataFrame(columns=columns)
    lines = read_lines(path, ",", ("File Name", *DESCRIPTORS.values()))
    of_case: dict[str, list[Line]] = {}
    for line in lines:
        of_case.setdefault(line.text("File Name"), []).append(line)
    reference = baseline.set_index(["case", "structure"])["reference_mm3"]
    _check_descriptor_cases(path, of_case, list(dict.fromkeys(baseline["case"])))
    records = []
    for case, pair in of_case.items():
        for structure, line in zip(("GTVn", "GTVp"), pair, strict=True):
            values = _descriptors_of(line, float(reference[case, structure]))
            records += [{"case": case, "structure": structure, **values}] if values else []
    return pd.DataFrame.from_records(records, columns=columns)


def _check_descriptor_cases(path: Path, of_case: Mapping[str, Sequence[Line]], cases: Sequence[str]) -> None:
    for case in (*cases, *of_case):
        found = len(of_case.get(case, ()))
        expected = 2 if case in cases else 0
        if found != expected:
            raise AnalysisError(
                f"{path}: case {case} has {found} lines, expected {expected} (Nodal, then Primary, of the cases of "
                f"results_pymia.csv); {REMEDY}"
            )


def _descriptors_of(line: Line, reference: float) -> dict[str, float]:
    columns = list(DESCRIPTORS.values())
    blank = line.is_blank(columns)
    volume = 0.0 if blank else line.number_in("Volume", 0)
    if volume != reference:
        raise AnalysisError(
            f"{line.place}: Volume is {line.cells['Volume']!r}, expected {reference:g} as REFVOL in results_pymia.csv; "
            f"lines of a case must be in the order Nodal, Primary; {REMEDY}"
        )
    if blank:
        return {}
    values = {name: line.number_in(column) for name, column in DESCRIPTORS.items()}
    for name, value in values.items():
        if not np.isfinite(value):
            raise AnalysisError(f"{line.place}: {DESCRIPTORS[name]} is {value:g}; expected a finite number; {REMEDY}")
    return values
