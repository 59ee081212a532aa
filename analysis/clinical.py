"""The cohort in clinical terms (the study's Table 1), from a CSV file with one row per patient."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.errors import AnalysisError, suggestion
from analysis.formatting import number
from analysis.statistics import quantile

ID_COLUMN = "PatientID"

_HIGHEST_CODE = 9
"""Whole numbers from 0 up to this are categories, others are measurements."""

_MOST_CATEGORIES = 12

_YES_NO = {"0": "no", "1": "yes"}
_SEX = {"M": "male", "F": "female"}
_HPV = {"0": "negative", "1": "positive"}
_CODES = {
    "CenterID": {"1": "CHUM", "2": "CHUP", "3": "CHUS", "4": "CHUV", "5": "MDA", "6": "HGJ", "7": "HMR"},
    **dict.fromkeys(("Gender", "Sex"), _SEX),
    **dict.fromkeys(("HPV status (0=-, 1=+)", "HPV Status"), _HPV),
    **dict.fromkeys(("Task 1", "Task 2", "Tobacco", "Alcohol", "Surgery", "Chemotherapy", "Relapse"), _YES_NO),
}
"""What HECKTOR's codes mean."""

TABLE_COLUMNS = ("characteristic", "value", "count", "known", "missing")
"""Columns of :func:`clinical_table`, in order."""


def clinical_table(path: Path, cases: Sequence[str]) -> pd.DataFrame:
    """Describe the cases of a run by their clinical data.

    Parameters
    ----------
    path
        CSV file with a column ``PatientID``, e.g. HECKTOR's ``hecktor2022_clinical_info_training.csv``; any other
        column is described as it is. Empty cells and ``NaN`` are missing values.
    cases
        Cases of the run.

    Returns
    -------
    DataFrame
        A row per category with its ``count`` of ``known`` values, or per measurement with median, quartiles and
        range in ``value`` (``count`` is then empty); ``missing`` counts cases without a value, cases that the file
        does not have included.

    Raises
    ------
    AnalysisError
        Where the file cannot be read, lacks the column, names a patient twice, or has none of the cases.
    """
    patients = _read(path)
    found = patients.reindex([case for case in cases if case in patients.index])
    if found.empty:
        raise AnalysisError(
            f"{path}: has none of the run's {len(cases)} cases (first: {', '.join(cases[:3])}); found patients such as "
            f"{', '.join(map(str, patients.index[:3]))}; name the clinical file of this cohort"
        )
    records = [("patients", "", str(len(found)), str(len(cases)), len(cases) - len(found))]
    for name in patients.columns:
        records += _characteristic(str(name), found[name].dropna(), len(cases))
    return pd.DataFrame.from_records(records, columns=list(TABLE_COLUMNS))


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, encoding="utf-8-sig", skipinitialspace=True)
    except OSError as error:
        raise AnalysisError(f"clinical file {path}: cannot be read ({error.strerror}); name a CSV file") from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as error:
        raise AnalysisError(
            f"clinical file {path}: no CSV table ({error}); expected comma-separated text with a header"
        ) from error
    table.columns = table.columns.astype(str).str.strip()
    if ID_COLUMN not in table:
        names = ", ".join(table.columns[:8])
        raise AnalysisError(
            f"clinical file {path}: found the columns {names}; {suggestion(ID_COLUMN, table.columns)}"
            f"expected one named {ID_COLUMN}, separated by commas"
        )
    table = table.dropna(subset=ID_COLUMN)
    identifiers = table[ID_COLUMN].str.strip()
    if identifiers.duplicated().any():
        raise AnalysisError(
            f"clinical file {path}: patient {identifiers[identifiers.duplicated()].iloc[0]} is there more than once; "
            "expected one row per patient; delete the wrong one"
        )
    return table.set_index(identifiers).drop(columns=ID_COLUMN)


def _characteristic(name: str, values: pd.Series, cases: int) -> list[tuple[str, str, str, str, int]]:
    missing = cases - len(values)
    if values.empty:
        return [(name, "", "", "0", missing)]
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and not (numbers.between(0, _HIGHEST_CODE) & (numbers % 1 == 0)).all():
        return [(name, _measurement(numbers), "", str(len(values)), missing)]
    categories = values.str.strip()
    if numbers.notna().all():
        # 1, 1.0 and 01 are one category.
        categories = numbers.map(lambda value: f"{value:g}")
    counts = categories.map(lambda value: _CODES.get(name, {}).get(value, value)).value_counts().sort_index()
    if len(counts) > _MOST_CATEGORIES:
        return [(name, f"{len(counts)} different values", "", str(len(values)), missing)]
    return [(name, str(value), str(count), str(len(values)), missing) for value, count in counts.items()]


def _measurement(values: pd.Series) -> str:
    low, first, median, third, high = (quantile(values.to_numpy(dtype=float), q) for q in (0, 0.25, 0.5, 0.75, 1))
    quartiles = f"{number(first, 1)} to {number(third, 1)}"
    return f"median {number(median, 1)} (quartiles {quartiles}, range {number(low, 1)} to {number(high, 1)})"
