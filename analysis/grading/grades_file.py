"""Files of grades, read without guessing: one line per rater, item and structure, or the authors' tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.delimited import TextLine, TextTable, number_of, read_text_table
from analysis.errors import AnalysisError, suggestion
from analysis.formatting import counted, listed
from analysis.grading.grades import KEYS, PERTURBED, Grades
from analysis.grading.metrics_file import (
    VARIANT,
    join_metrics,
    numeric_columns,
    same_values,
    value_in_words,
    variant_of,
)
from analysis.grading.samples import SAMPLES
from analysis.pairing import BASELINE
from analysis.published.layout import OBSERVERS
from analysis.published.metrics_table import read_metrics
from analysis.statistics import LIKERT

REQUIRED = ("case", "structure", "rater", "grade")
OPTIONAL = (
    *("item", "modality", "perturbation", "severity", "repeat", "comment"),
    *("given_at", "seconds", "revisions", "sample", "synthetic"),
)
AUTHORS_METRICS = ("dice", "hd_mm", "jaccard", "sensitivity", "specificity", "accuracy")
"""Metrics of the authors' tables that the study correlates with grades."""

_AUTHORS_COLUMNS = ("SUBJECT", "LABEL")
_YES = ("true", "1", "yes", "wahr", "vrai")
_NO = ("", "false", "0", "no", "falsch", "faux")


@dataclass
class _File:
    """What one file says."""

    rows: pd.DataFrame
    metrics: list[str]
    synthetic: bool = False
    sizes: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_grades(paths: Sequence[Path], metrics: Path | None = None) -> Grades:
    """Read grades of one or more files.

    Parameters
    ----------
    paths
        CSV files with the columns ``case``, ``structure``, ``rater`` and ``grade``, separated by commas, semicolons or
        tabs, or the authors' tables with ``Likert 1`` and ``Likert 2``. They are put together: one per rater, or
        unperturbed and perturbed ones.
    metrics
        CSV or parquet file, or run folder, with metrics of the graded contours.

    Raises
    ------
    AnalysisError
        Where a file cannot be used; names file and line, what was found and what to do.
    """
    if not paths:
        raise AnalysisError("found no file of grades, expected at least one; name a CSV file")
    files = [_read(Path(path)) for path in paths]
    rows = pd.concat([file.rows.assign(_file=index) for index, file in enumerate(files)], ignore_index=True)
    _check_items(rows)
    _name_repeats(rows)
    _check_once(rows)
    names = list(dict.fromkeys(name for file in files for name in file.metrics))
    _fill_metrics(rows, names, files)
    if rows["grade"].isna().all():
        raise AnalysisError(
            f"{', '.join(map(str, paths))}: found {counted(len(rows), 'line')} and no grade; expected grades from 1 to "
            "5 in the column grade; fill them in"
        )
    notes = [*_file_notes(files), *_repeat_notes(rows)]
    not_given = _not_given(rows)
    notes += _gap_notes(rows, not_given)
    if metrics is not None:
        rows, names, found = join_metrics(rows, names, Path(metrics))
        notes += found
    kept = rows[rows["grade"].notna()]
    kept = kept[[*KEYS, "sample", *names]].astype({"grade": int}).reset_index(drop=True)
    return Grades(kept, tuple(names), not_given, tuple(notes), any(file.synthetic for file in files))


def authors_rows(table: pd.DataFrame, graded: str) -> pd.DataFrame:
    """Turn a graded table of the authors into long rows.

    Parameters
    ----------
    table
        From :func:`analysis.published.metrics_table.read_metrics`, with both observers' grades.
    graded
        ``baseline`` or ``perturbed``; perturbed cases were chosen as those that lose most.

    Returns
    -------
    DataFrame
        The columns of ``KEYS``, ``sample`` and the study's metrics. ``hd_mm`` is NaN where both masks are empty: that
        contour is right, and a distance that is not there is not the worst one.
    """
    is_perturbed = graded == PERTURBED
    shared = table.assign(
        hd_mm=table["hd_mm"].mask(_both_empty(table)),
        graded=graded,
        item=table["case"] + (f" {PERTURBED}" if is_perturbed else ""),
        modality="",
        perturbation=graded,
        severity=0,
        repeat=0,
        sample="worst" if is_perturbed else "",
    )
    long = [shared.assign(rater=observer, grade=shared[observer]) for observer in OBSERVERS]
    return pd.concat(long, ignore_index=True)[[*KEYS, "sample", *AUTHORS_METRICS]]


def _both_empty(table: pd.DataFrame) -> pd.Series:
    return table["outcome"] == "true_negative"


def _read(path: Path) -> _File:
    table = read_text_table(path, (*REQUIRED, *OPTIONAL, *_AUTHORS_COLUMNS))
    if set(_AUTHORS_COLUMNS) <= set(table.columns):
        graded = PERTURBED if path.stem.endswith("_perturbed") else BASELINE
        published = read_metrics(path, graded=True)
        rows = authors_rows(published, graded).assign(_place=str(path))
        return _File(rows, list(AUTHORS_METRICS), notes=_empty_notes(path, published))
    if "case" not in table.columns and "item" in table.columns:
        raise AnalysisError(
            f"{path}: found items and no column case, as in a blinded export; expected to know what was graded; export "
            "again with --key"
        )
    table.require(REQUIRED)
    values, sizes, texts = numeric_columns(table, (*REQUIRED, *OPTIONAL))
    records = [_record(line, table) for line in table.lines]
    columns = [*KEYS, "sample", "_place", "_synthetic"]
    rows = pd.DataFrame.from_records(records, columns=columns).assign(**values)
    return _File(rows.drop(columns="_synthetic"), list(values), bool(rows["_synthetic"].any()), sizes, texts)


def _empty_notes(path: Path, table: pd.DataFrame) -> list[str]:
    empty = table[_both_empty(table)]
    names = [f"{case} {structure}" for case, structure in zip(empty["case"], empty["structure"], strict=True)]
    if not names:
        return []
    return [
        f"{path.name}: no structure and no contour, so that hd_mm is undefined, not infinite: {listed(names, most=5)}."
    ]


def _record(line: TextLine, table: TextTable) -> dict[str, Any]:
    variant = variant_of(line.cells, line.place, table.separator)
    is_baseline = variant["perturbation"] == BASELINE
    case = line.name("case")
    words = "-".join(str(variant[name]) for name in VARIANT if variant[name])
    item = line.cells.get("item", "") or (case if is_baseline else f"{case} {words}")
    record = {"graded": BASELINE if is_baseline else PERTURBED, "item": item, "case": case, **variant}
    record |= {"structure": line.name("structure"), "rater": line.name("rater")}
    record |= {"grade": _grade(line, table.separator), "repeat": _repeat(line, table.separator), "_place": line.place}
    sample = "" if is_baseline else _one_of(line, "sample", ("", *SAMPLES))
    return record | {"sample": sample, "_synthetic": _one_of(line, "synthetic", (*_NO, *_YES)) in _YES}


def _grade(line: TextLine, separator: str) -> float:
    text = line.cells["grade"]
    value = number_of(text, separator) if text else float("nan")
    if value is None or not (np.isnan(value) or value in LIKERT):
        raise AnalysisError(
            f"{line.place}: grade is {text!r}; expected a whole number from {LIKERT[0]} to {LIKERT[-1]}, or an empty "
            "cell for a grade that was not given; correct it"
        )
    return value


def _repeat(line: TextLine, separator: str) -> int:
    text = line.cells.get("repeat", "") or "0"
    value = number_of(text, separator)
    if value not in (0, 1):
        raise AnalysisError(
            f"{line.place}: repeat is {text!r}; expected 0 for the first showing or 1 for the hidden repeat; correct it"
        )
    return int(value)


def _one_of(line: TextLine, column: str, choices: Sequence[str]) -> str:
    text = line.cells.get(column, "").lower()
    if text not in choices:
        known = [choice for choice in choices if choice]
        raise AnalysisError(
            f"{line.place}: {column} is {line.cells[column]!r}; {suggestion(text, known)}expected one of "
            f"{', '.join(known)}, or an empty cell; correct it"
        )
    return text


def _check_items(rows: pd.DataFrame) -> None:
    columns = ["case", *VARIANT]
    first = rows.drop_duplicates("item").set_index("item")
    expected = first.loc[rows["item"], columns].reset_index(drop=True)
    differ = (rows[columns] != expected).any(axis=1)
    if differ.any():
        row = rows[differ].iloc[0]
        raise AnalysisError(
            f"{row['_place']}: item {row['item']} is of case {row['case']}, {row['perturbation']}; found case "
            f"{first.loc[row['item'], 'case']}, {first.loc[row['item'], 'perturbation']} at "
            f"{first.loc[row['item'], '_place']}; expected one case and one variant of an item; correct one of them"
        )


def _check_once(rows: pd.DataFrame) -> None:
    keys = ["item", "structure", "rater", "repeat"]
    twice = rows.duplicated(keys)
    if twice.any():
        row = rows[twice].iloc[0]
        before = rows[(rows[keys] == row[keys]).all(axis=1)].iloc[0]
        raise AnalysisError(
            f"{row['_place']}: {row['rater']}'s grade of {row['item']} {row['structure']} is also at "
            f"{before['_place']}; expected it once; delete the wrong one, or mark a second showing by repeat = 1"
        )


def _name_repeats(rows: pd.DataFrame) -> None:
    """Give each repeat the item of its first showing; hidden, it was shown under a code of its own."""
    first = rows[rows["repeat"] == 0]
    shown = set(zip(first["item"], first["structure"], first["rater"], strict=True))
    contour = ["case", *VARIANT, "structure", "rater"]
    items = first.groupby(contour)["item"].unique().to_dict()
    for index, row in rows[rows["repeat"] == 1].iterrows():
        if (row["item"], row["structure"], row["rater"]) in shown:
            continue
        found = items.get(tuple(row[contour]), ())
        if len(found) != 1:
            what = f"the first showings {', '.join(found)}" if len(found) else "no first showing"
            raise AnalysisError(
                f"{row['_place']}: is a repeat of {row['item']} {row['structure']} for {row['rater']}, found {what}; "
                "expected one line with repeat = 0 of the same case, variant, structure and rater; name its file too, "
                "or give both the same item"
            )
        rows.loc[index, "item"] = found[0]


def _fill_metrics(rows: pd.DataFrame, names: Iterable[str], files: Sequence[_File]) -> None:
    """Give every line of a contour its metrics, also where only another file has them."""
    keys = ["item", "structure"]
    index = pd.MultiIndex.from_frame(rows[keys])
    for name in names:
        known = rows["_file"].isin([number for number, file in enumerate(files) if name in file.metrics])
        first = rows[known].drop_duplicates(keys).set_index(keys)
        expected = first[name].reindex(index).to_numpy(dtype=float)
        differ = known & ~same_values(rows[name].to_numpy(dtype=float), expected)
        if differ.any():
            row = rows[differ].iloc[0]
            other = first.loc[(row["item"], row["structure"])]
            raise AnalysisError(
                f"{row['_place']}: {name} of {row['item']} {row['structure']} is {value_in_words(row[name])}, "
                f"found {value_in_words(other[name])} at {other['_place']}; expected the same for all "
                "raters; correct one of them"
            )
        rows[name] = expected


def _not_given(rows: pd.DataFrame) -> pd.DataFrame:
    keys = ["item", "structure"]
    first = rows[rows["repeat"] == 0]
    contours = first[keys].drop_duplicates()
    wanted = pd.DataFrame({"rater": list(dict.fromkeys(rows["rater"]))}).merge(contours, how="cross")
    given = pd.MultiIndex.from_frame(first.loc[first["grade"].notna(), ["rater", *keys]])
    return wanted[~pd.MultiIndex.from_frame(wanted).isin(given)].reset_index(drop=True)


def _gap_notes(rows: pd.DataFrame, not_given: pd.DataFrame) -> list[str]:
    total = len(rows.loc[rows["repeat"] == 0, ["item", "structure"]].drop_duplicates())
    empty = rows[(rows["repeat"] == 0) & rows["grade"].isna()].groupby("rater").size()
    notes = []
    for rater, of in not_given.groupby("rater", sort=False):
        names = [f"{item} {structure}" for item, structure in zip(of["item"], of["structure"], strict=True)]
        lines = counted(int(empty.get(rater, 0)), "line")
        notes.append(
            f"{rater} gave no grade for {len(of)} of {counted(total, 'contour')} ({lines} with an empty grade): "
            f"{listed(names, most=5)}. This is left out, never filled in; two raters are compared on what both graded."
        )
    return notes


def _repeat_notes(rows: pd.DataFrame) -> list[str]:
    repeats = rows[(rows["repeat"] == 1) & rows["grade"].isna()]
    if repeats.empty:
        return []
    return [f"{counted(len(repeats), 'hidden repeat')} without a grade: left out."]


def _file_notes(files: Sequence[_File]) -> list[str]:
    sizes = list(dict.fromkeys(name for file in files for name in file.sizes))
    texts = list(dict.fromkeys(name for file in files for name in file.texts))
    notes = [note for file in files for note in file.notes]
    if sizes:
        notes.append(f"Not taken as metrics, since they measure no quality: {', '.join(sizes)}.")
    if texts:
        notes.append(f"Columns without numbers were passed by: {', '.join(texts)}.")
    return notes
