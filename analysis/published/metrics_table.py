"""A table of metrics, graded or not: one row per case and structure, with the columns of a run's rows."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError
from analysis.published.layout import STRUCTURES
from analysis.published.strict_table import REMEDY, Line, read_lines

_STRUCTURE = {"Nodal": "GTVn", "Primary": "GTVp"}
_METRICS = (
    *("SUBJECT", "LABEL", "ACURCY", "DICE", "FN", "FP", "HDRFDST"),
    *("JACRD", "REFVOL", "SNSVTY", "SPCFTY", "TN", "TP"),
)
_LIKERT = {"observer_1": "Likert 1", "observer_2": "Likert 2"}
_UNDEFINED_DISTANCE = 1000.0


def read_metrics(path: Path, *, graded: bool = False) -> pd.DataFrame:
    """Read a table of metrics.

    Parameters
    ----------
    path
        The file, separated by semicolons.
    graded
        Whether it has the observers' grades; there an undefined distance is written as 1000.

    Returns
    -------
    DataFrame
        GTVp first, then GTVn, each in the order of the file. ``hd_mm`` is infinite where it is undefined, also
        where both masks are empty; ratios that are 0 / 0 in the authors' tool are NaN.

    Raises
    ------
    AnalysisError
        Where a row is missing, there twice, or cannot be what it says.
    """
    lines = read_lines(path, ";", (*_METRICS, *(_LIKERT.values() if graded else ())))
    seen: dict[tuple[str, str], int] = {}
    records = []
    for line in lines:
        record = _metrics_of(line, graded)
        key = str(record["case"]), str(record["structure"])
        if key in seen:
            raise AnalysisError(
                f"{line.place}: {key[0]} {line.cells['LABEL']} is also in line {seen[key]}; expected each case and "
                f"structure once; {REMEDY}"
            )
        seen[key] = line.number
        records.append(record)
    for case in dict.fromkeys(case for case, _ in seen):
        for label, structure in _STRUCTURE.items():
            if (case, structure) not in seen:
                raise AnalysisError(
                    f"{path}: case {case} has no {label} line; expected Nodal and Primary of every case; the file may "
                    f"be cut short; {REMEDY}"
                )
    order = {name: place for place, name in enumerate(STRUCTURES)}
    frame = pd.DataFrame.from_records(records)
    return frame.sort_values("structure", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def _metrics_of(line: Line, graded: bool) -> dict[str, float | str]:
    tp, fp, fn, tn = (line.whole(column) for column in ("TP", "FP", "FN", "TN"))
    reference, dice = line.whole("REFVOL"), line.number_in("DICE", 0, 1)
    if reference != tp + fn:
        raise AnalysisError(
            f"{line.place}: REFVOL is {reference:g} but TP + FN is {tp + fn:g}; expected the same; {REMEDY}"
        )
    distance = line.number_in("HDRFDST", 0)
    record: dict[str, float | str] = {
        "case": line.text("SUBJECT"),
        "structure": _STRUCTURE[line.text("LABEL", tuple(_STRUCTURE))],
        "dice": dice,
        "hd_mm": math.inf if graded and distance == _UNDEFINED_DISTANCE else distance,
        "jaccard": _defined(line.number_in("JACRD", high=1)),
        "sensitivity": _defined(line.number_in("SNSVTY", high=1)),
        "specificity": _defined(line.number_in("SPCFTY", high=1)),
        "accuracy": line.number_in("ACURCY", 0, 1),
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "tn": tn,
        "reference_mm3": reference,
        "predicted_mm3": tp + fp,
        "outcome": _outcome(dice, reference, tp + fp),
    }
    if graded:
        record |= {name: line.whole(column, 1, 5) for name, column in _LIKERT.items()}
    return record


def _defined(value: float) -> float:
    # The authors' tool writes -inf for 0 / 0.
    return value if math.isfinite(value) else math.nan


def _outcome(dice: float, reference: float, predicted: float) -> str:
    if not reference:
        return "false_positive" if predicted else "true_negative"
    return "detected" if dice > 0 else "missed"
