"""The published clinical grading, by the same statistics as any other grading."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.grading.agreement import agreement_table
from analysis.grading.correlation import correlation_table, mean_coefficient
from analysis.grading.grades import KEYS, USABLE_FROM, Grades
from analysis.grading.grades_file import AUTHORS_METRICS, authors_rows
from analysis.grading.prediction import predict_usability
from analysis.grading.usability import clustered_share, distribution_table, usability_table
from analysis.published.layout import GRADED, OBSERVERS
from analysis.published.study import Study
from analysis.statistics import Correlation, Values, spearman

__all__ = ["USABLE_FROM", "grade_tables", "mean_correlation", "missing_grades", "published_grades", "usable_share"]


def published_grades(study: Study) -> Grades:
    """Put the grades of all published tables together; without rows where nothing was graded.

    Parameters
    ----------
    study
        The published tables.
    """
    rows = [authors_rows(table, graded) for graded, table in study.grades.items()]
    columns = [*KEYS, "sample", *AUTHORS_METRICS]
    long = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)
    return Grades(long, AUTHORS_METRICS, pd.DataFrame(columns=["rater", "item", "structure"]))


def grade_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Make all tables of the grading, by file name; empty ones where nothing was graded.

    Parameters
    ----------
    study
        The published tables.
    """
    grades = published_grades(study)
    return {
        "grades": distribution_table(grades),
        "usability": usability_table(grades),
        "agreement": agreement_table(grades),
        "metric_correlations": correlation_table(grades),
        "prediction": predict_usability(grades).auc,
    }


def usable_share(part: pd.DataFrame) -> float:
    """Share of usable grades, the mean of the observers; NaN where nothing was graded."""
    usable = (part[list(OBSERVERS)] >= USABLE_FROM).to_numpy(dtype=float)
    return clustered_share(usable, np.asarray(part["case"], dtype=str)).share


def mean_correlation(
    part: pd.DataFrame, column: str, correlate: Callable[[Values, Values], Correlation] = spearman
) -> float:
    """Mean of the observers' correlation coefficients of a metric with their grade."""
    values = part[column].to_numpy(dtype=float)
    return mean_coefficient([correlate(values, part[observer].to_numpy(dtype=float)) for observer in OBSERVERS])


def missing_grades(study: Study, graded: str) -> str:
    """Name the missing table of grades; empty where it is there."""
    return "" if graded in study.grades else f"Baseline/{GRADED[graded]}"
