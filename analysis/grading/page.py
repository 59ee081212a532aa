"""The grading as files: tables, figures, a summary and one self-contained page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.drawing import Drawing
from analysis.errors import AnalysisError
from analysis.grading.agreement import agreement_table, difference_table, repeat_table
from analysis.grading.contest import FEWEST_DEFINED
from analysis.grading.correlation import MEAN_OF_COEFFICIENTS, correlation_table
from analysis.grading.grade_figures import draw_grade_flow, draw_metric_correlations
from analysis.grading.grades import GRADED_WORDS, USABLE_FROM, Grades
from analysis.grading.grades_file import read_grades
from analysis.grading.intervals import FEWEST_OF_KIND
from analysis.grading.limits import limits_of
from analysis.grading.prediction import predict_usability
from analysis.grading.sentences import (
    agreement_sentences,
    difference_sentences,
    mean_words,
    prediction_sentences,
    repeat_sentences,
    usability_sentences,
)
from analysis.grading.usability import MEAN, distribution_table, usability_table
from analysis.pages import render
from analysis.statistics import RESAMPLES
from analysis.statistics.case_bootstrap import FEWEST_CASES

STATISTICS = {
    "kappa_quadratic": "kappa, quadratic weights",
    "kappa_linear": "kappa, linear weights",
    "kappa_none": "kappa, unweighted",
    "pearson": "Pearson's r",
    "spearman": "Spearman's \N{GREEK SMALL LETTER RHO}",
    "percent_agreement": "equal grades, %",
    "percent_within_one": "within one grade, %",
    "mean_difference": "mean difference",
}
"""Statistics of agreement, in words."""


@dataclass(frozen=True)
class GradingReport:
    """What was written.

    Attributes
    ----------
    html, markdown
        The page and the summary.
    summary_lines
        What was found, in a few sentences.
    notes
        What a reader must know of the input and of what was skipped.
    """

    html: Path
    markdown: Path
    summary_lines: tuple[str, ...]
    notes: tuple[str, ...]


def analyse_grades(
    paths: Sequence[Path],
    out: Path,
    *,
    metrics: Path | None = None,
    lower_is_better: Sequence[str] = (),
    note: str = "",
) -> GradingReport:
    """Analyse grades and write ``grading.html``, ``grading.md``, ``tables/*.csv`` and ``figures/*.svg`` and ``*.png``.

    Parameters
    ----------
    paths
        Files of grades, see :func:`analysis.grading.grades_file.read_grades`.
    out
        Folder that is made where it is not there; files of an earlier analysis in it are replaced.
    metrics
        Metrics of the graded contours: a CSV or parquet file, or a run folder.
    lower_is_better
        Metrics, beside distances, whose low values mean a good contour.
    note
        Said in titles and captions; ``phantom`` is added where the grades say that cases are synthetic.

    Raises
    ------
    AnalysisError
        Where the input cannot be used, or ``out`` cannot be written.
    """
    out = Path(out)
    grades = read_grades(paths, metrics)
    note = _note(note, grades)
    tables = grading_tables(grades, lower_is_better)
    notes = (*grades.notes, *limits_of(grades, tables))
    try:
        drawings = list(_draw(grades, tables, out / "figures", note))
        _write_tables(tables, out / "tables")
        context = _context(grades, tables, drawings, notes, note) | {"files": [Path(path).name for path in paths]}
        html, markdown = out / "grading.html", out / "grading.md"
        for file in (html, markdown):
            file.write_text(render(file.name, context), encoding="utf-8")
    except OSError as error:
        raise AnalysisError(
            f"{out}: cannot write the analysis ({error.strerror or error}); name another folder with -o, or make it "
            "writable and free space"
        ) from error
    return GradingReport(html, markdown, tuple(_summary(grades, tables)), notes)


def grading_tables(grades: Grades, lower_is_better: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Make all tables of the grading, by file name.

    Parameters
    ----------
    grades
        All grades.
    lower_is_better
        As for :func:`analyse_grades`.
    """
    prediction = predict_usability(grades, lower_is_better)
    return {
        "grades": distribution_table(grades),
        "usability": usability_table(grades),
        "agreement": agreement_table(grades),
        "rater_differences": difference_table(grades),
        "repeats": repeat_table(grades),
        "metric_correlations": correlation_table(grades),
        "prediction": prediction.auc,
        "best_metric": prediction.best,
        "cut_offs": prediction.cut_offs,
        "not_given": grades.not_given,
    }


def _note(note: str, grades: Grades) -> str:
    is_said = "phantom" in note.lower() or "synthetic" in note.lower()
    return ", ".join(part for part in (note, "" if is_said or not grades.synthetic else "phantom") if part)


def _draw(grades: Grades, tables: dict[str, pd.DataFrame], folder: Path, note: str) -> Iterator[Drawing]:
    drawings = [draw_grade_flow(grades, graded, folder, note) for graded in grades.graded]
    drawings.append(draw_metric_correlations(tables["metric_correlations"], grades, folder, note))
    yield from (drawing for drawing in drawings if drawing is not None)


def _write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def _summary(grades: Grades, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    yield from usability_sentences(grades, tables["usability"])
    yield from agreement_sentences(tables["agreement"])
    yield from difference_sentences(tables["rater_differences"])
    yield from repeat_sentences(tables["repeats"])
    yield from prediction_sentences(tables["best_metric"], tables["cut_offs"], together=False)


def _context(
    grades: Grades, tables: dict[str, pd.DataFrame], drawings: Sequence[Drawing], notes: Sequence[str], note: str
) -> dict[str, Any]:
    correlations = tables["metric_correlations"]
    return {
        "note": note,
        "synthetic": grades.synthetic,
        "summary": {
            "Usability": list(usability_sentences(grades, tables["usability"])),
            "Agreement": [
                *agreement_sentences(tables["agreement"]),
                *difference_sentences(tables["rater_differences"]),
                *repeat_sentences(tables["repeats"]),
            ],
            "Metrics that tell usable contours": list(prediction_sentences(tables["best_metric"], tables["cut_offs"])),
        },
        "notes": notes,
        "choice": grades.choice_words,
        "raters": grades.raters,
        "structures": grades.structures,
        "patients": grades.rows["case"].nunique(),
        "contours": len(grades.first_showings.drop_duplicates(["item", "structure"])),
        "graded_words": GRADED_WORDS,
        "statistics": STATISTICS,
        "usable_from": USABLE_FROM,
        "fewest": FEWEST_CASES,
        "fewest_of_kind": FEWEST_OF_KIND,
        "fewest_defined": FEWEST_DEFINED,
        "mean": MEAN,
        "mean_words": mean_words,
        "resamples": RESAMPLES,
        "mean_of_coefficients": MEAN_OF_COEFFICIENTS,
        "records": {name: table.to_dict("records") for name, table in tables.items()},
        "usability": _usability(tables["usability"]),
        "distribution": _distribution(tables["grades"]),
        "correlations": correlations[correlations["method"] == "spearman"].to_dict("records"),
        "drawings": [(drawing, _width_of(drawing, grades)) for drawing in drawings],
    }


def _usability(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of usability, and whether their count is a share: the mean of raters with gaps is none of all grades."""
    of_raters = table[table["rater"] != MEAN].groupby(["graded", "structure"])["n"]
    has_gaps = (of_raters.min() < of_raters.max()).to_dict()
    return [
        row | {"has_count": row["rater"] != MEAN or not has_gaps[(row["graded"], row["structure"])]}
        for row in table.to_dict("records")
    ]


def _width_of(drawing: Drawing, grades: Grades) -> str:
    is_wide = len(grades.raters) > 2 or (len(grades.graded) > 1 and not drawing.name.startswith("grade_flow"))
    return "wide-figure" if is_wide else "overview"


def _distribution(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Counts of a part and rater side by side."""
    keys = ["graded", "structure", "rater"]
    return [
        {**dict(zip(keys, names, strict=True)), "n": int(of["n"].iloc[0]), "counts": list(of["count"])}
        for names, of in table.groupby(keys, sort=False)
    ]
