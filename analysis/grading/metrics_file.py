"""Metrics of the graded contours: columns of the grades' own table, or rows of a run joined to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.delimited import TextTable, number_of, read_text_table
from analysis.errors import AnalysisError
from analysis.formatting import listed
from analysis.pairing import BASELINE

NO_METRICS = (
    *("seed", "seconds", "seconds_perturb", "seconds_predict", "seconds_measure", "revisions"),
    *("tp", "tn", "fp", "fn", "reference_mm3", "predicted_mm3", "dice_to_baseline_prediction"),
)
"""Numeric columns that are bookkeeping, sizes, or how far the contour moved, not measures of how good it is."""

LOWER_IS_BETTER = ("hd95_mm", "hd_mm")
"""Metrics whose low values mean a good contour."""

VARIANT = ("modality", "perturbation", "severity")
JOINED_BY = ("case", *VARIANT, "structure")

ROUNDING = 1e-6
"""Relative difference up to which two values are the same: spreadsheets cut digits off."""

_TEXT = ("outcome", "parameters")


def variant_of(cells: Mapping[str, str], place: str, separator: str = ",") -> dict[str, Any]:
    """Read how a contour's image was perturbed; that of the baseline is ``'', 'baseline', 0``.

    Parameters
    ----------
    cells
        Text by column; ``modality``, ``perturbation`` and ``severity`` may be absent or empty.
    place
        File and line.
    separator
        Between the cells of the file.
    """
    perturbation = cells.get("perturbation", "")
    if perturbation in ("", BASELINE):
        return {"modality": "", "perturbation": BASELINE, "severity": 0}
    text = cells.get("severity", "")
    severity = number_of(text, separator) if text else 0.0
    if severity is None or not float(severity).is_integer() or severity < 0:
        raise AnalysisError(f"{place}: severity is {text!r}; expected a whole number such as 2; correct it")
    return {"modality": cells.get("modality", ""), "perturbation": perturbation, "severity": int(severity)}


def numeric_columns(table: TextTable, known: Iterable[str]) -> tuple[dict[str, list[float]], list[str], list[str]]:
    """Find the metrics among a table's further columns.

    Parameters
    ----------
    table
        The text table.
    known
        Columns that have a meaning of their own.

    Returns
    -------
    tuple
        Values by metric; numeric columns that are no metrics; columns of text, or without a value.
    """
    values: dict[str, list[float]] = {}
    sizes, texts = [], []
    for column in table.columns:
        if not column or column in known:
            continue
        if column in NO_METRICS:
            sizes.append(column)
        elif (numbers := table.numbers(column)) is None:
            texts.append(column)
        else:
            values[column] = numbers
    return values, sizes, texts


def read_metric_rows(path: Path) -> pd.DataFrame:
    """Read metrics by case, variant and structure.

    Parameters
    ----------
    path
        A text table, a parquet file such as a run's ``metrics.parquet``, or a run folder that holds one.

    Returns
    -------
    DataFrame
        The columns of ``JOINED_BY``, then the metrics.

    Raises
    ------
    AnalysisError
        Where the file cannot be used, has no metric, or has two rows of the same contour.
    """
    file = path / "metrics.parquet" if path.is_dir() else path
    rows = _of_parquet(file) if file.suffix == ".parquet" else _of_text(file)
    if len(rows.columns) == len(JOINED_BY):
        raise AnalysisError(
            f"{file}: found no column of numbers beside {', '.join(JOINED_BY)}; expected metrics such as dice; name "
            "a run folder or its metrics.parquet"
        )
    twice = rows.duplicated(list(JOINED_BY))
    if twice.any():
        raise AnalysisError(
            f"{file}: has more than one row of {in_words(rows[twice].iloc[0])}; expected one per case, variant and "
            "structure; delete the wrong one"
        )
    return rows


def _of_parquet(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise AnalysisError(
            f"{file}: is not there; expected a run's rows; name a run folder that was measured to its end, or a CSV "
            "file of metrics"
        )
    try:
        rows = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise AnalysisError(f"{file}: is no parquet file that can be read ({error}); name another file") from error
    for column in ("case", "structure"):
        if column not in rows:
            raise AnalysisError(
                f"{file}: column {column!r} is missing; found {', '.join(map(str, rows.columns))}; name a run's rows"
            )
    metrics = [
        name
        for name in rows.select_dtypes("number").columns
        if name not in (*JOINED_BY, *NO_METRICS) and not pd.api.types.is_bool_dtype(rows[name])
    ]
    columns = {name: rows[name] if name in rows else pd.Series([""] * len(rows)) for name in JOINED_BY}
    keys = pd.DataFrame(columns, dtype=object).fillna("")
    baseline = keys["perturbation"].isin(["", BASELINE])
    keys.loc[baseline, list(VARIANT)] = ["", BASELINE, 0]
    keys["severity"] = [int(value or 0) for value in keys["severity"]]
    return pd.concat([keys, rows[metrics].astype(float)], axis=1)


def _of_text(file: Path) -> pd.DataFrame:
    table = read_text_table(file, JOINED_BY)
    table.require(("case", "structure"))
    values, _, _ = numeric_columns(table, (*JOINED_BY, *_TEXT))
    keys = [
        {"case": line.name("case"), **variant_of(line.cells, line.place, table.separator)}
        | {"structure": line.name("structure")}
        for line in table.lines
    ]
    return pd.DataFrame(keys, columns=list(JOINED_BY)).assign(**values)


def join_metrics(rows: pd.DataFrame, metrics: Sequence[str], path: Path) -> tuple[pd.DataFrame, list[str], list[str]]:
    """Put metrics of a file beside the grades.

    Parameters
    ----------
    rows
        Long table of grades.
    metrics
        Metrics that it has already.
    path
        As for :func:`read_metric_rows`.

    Returns
    -------
    tuple
        The rows with all metrics, the names of these, and notes that name contours without a row of metrics.

    Raises
    ------
    AnalysisError
        Where a metric of the file differs from the same one in the grades.
    """
    found = read_metric_rows(path).set_index(list(JOINED_BY))
    wanted = pd.MultiIndex.from_frame(rows[list(JOINED_BY)].astype(object))
    here = wanted.isin(found.index)
    joined, names = rows.copy(), list(metrics)
    for name in found.columns:
        values = found[name].reindex(wanted).to_numpy(dtype=float)
        if name in names:
            own = joined[name].to_numpy(dtype=float)
            _check_same(rows, name, own, values, here, path)
            values = np.where(here, values, own)
        else:
            names.append(name)
        joined[name] = values
    if not here.any():
        raise AnalysisError(
            f"{path}: has metrics of none of the {len(rows.drop_duplicates(list(JOINED_BY)))} graded contours (first: "
            f"{in_words(rows.iloc[0])}); found such as {in_words(found.reset_index().iloc[0])}; name the run that "
            "was graded"
            if len(found)
            else f"{path}: has no row; expected metrics of the graded contours; name the run that was graded"
        )
    missing = list(dict.fromkeys(in_words(row) for _, row in rows[~here].iterrows()))
    notes = [f"{path.name} has no metrics of {listed(missing, most=5)}."] if missing else []
    return joined, names, notes


def _check_same(rows: pd.DataFrame, name: str, own: Any, other: Any, here: Any, path: Path) -> None:
    differ = here & ~same_values(own, other)
    if differ.any():
        first = int(np.flatnonzero(differ)[0])
        raise AnalysisError(
            f"{path}: {name} of {in_words(rows.iloc[first])} is {value_in_words(other[first])}, found "
            f"{value_in_words(own[first])} beside its grade; expected the same; name the run that was graded, or take "
            "the column out of the grades"
        )


def same_values(first: Any, second: Any) -> Any:
    """Which values are the same but for digits that a spreadsheet cut off; undefined ones are the same."""
    return np.isclose(first, second, rtol=ROUNDING, atol=0, equal_nan=True)


def value_in_words(value: float) -> str:
    """Write a metric's value for a message."""
    return "undefined" if np.isnan(value) else f"{value:g}"


def in_words(row: Any) -> str:
    """Name a contour: ``CHUM-001 CT-spike-2 GTVp``."""
    variant = [str(row[name]) for name in VARIANT if row[name] not in ("", 0)]
    return f"{row['case']} {'' if row['perturbation'] == BASELINE else '-'.join(variant) + ' '}{row['structure']}"
