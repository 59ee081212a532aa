"""The clinical grading: distribution, share of usable segmentations, agreement, and metrics beside grades."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from analysis.replication.layout import GRADED, OBSERVERS, STRUCTURES
from analysis.replication.published import Study
from analysis.statistics import (
    LEVEL,
    LIKERT,
    Correlation,
    Interval,
    area_under_curve,
    bootstrap_interval,
    pearson,
    spearman,
    weighted_kappa,
)

USABLE_FROM = 3
"""Lowest grade that the study calls usable."""

METRICS = {
    "dice": "dice",
    "hd": "hd_mm",
    "jaccard": "jaccard",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
}
"""Metrics that are correlated with grades, with their column."""

_COLUMNS = {
    "grades": ("graded", "structure", "observer", "grade", "count", "n", "share"),
    "usability": ("graded", "structure", "observer", "usable", "n", "share", "low", "high", "interval"),
    "agreement": ("graded", "structure", "statistic", "value", "low", "high", "p", "n", "interval"),
    "metric_correlations": (
        *("graded", "structure", "metric", "observer", "method", "r", "p", "low", "high"),
        *("n", "undefined", "infinite", "auc_usable"),
    ),
}


def graded_parts(study: Study) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield the graded rows that are there: baseline or perturbed, structure, rows."""
    for graded, table in study.grades.items():
        for structure in STRUCTURES:
            yield graded, structure, table[table["structure"] == structure]


def grade_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Make all tables of the grading, by file name; empty ones where nothing was graded.

    Parameters
    ----------
    study
        The published tables.
    """
    makers = {
        "grades": _distribution,
        "usability": _usability,
        "agreement": _agreement,
        "metric_correlations": _metric_correlations,
    }
    return {
        name: pd.DataFrame.from_records(
            [
                {"graded": graded, "structure": structure, **record}
                for graded, structure, part in graded_parts(study)
                for record in make(part)
            ],
            columns=list(_COLUMNS[name]),
        )
        for name, make in makers.items()
    }


def usable_share(part: pd.DataFrame) -> float:
    """Share of usable grades, the mean of the observers; NaN where nothing was graded."""
    return float((part[list(OBSERVERS)] >= USABLE_FROM).to_numpy(dtype=float).mean()) if len(part) else math.nan


def mean_correlation(part: pd.DataFrame, column: str, correlate: Any = spearman) -> float:
    """Mean of the observers' correlation coefficients of a metric with their grade."""
    return float(np.mean([correlate(part[column], part[observer]).r for observer in OBSERVERS]))


def _distribution(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for observer in OBSERVERS:
        for grade in LIKERT:
            count = int((part[observer] == grade).sum())
            share = count / len(part) if len(part) else math.nan
            yield {"observer": observer, "grade": grade, "count": count, "n": len(part), "share": share}


def _usability(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    n = len(part)
    for observer in OBSERVERS:
        usable = int((part[observer] >= USABLE_FROM).sum())
        low, high = _wilson(usable, n)
        yield _usable_row(observer, usable, n, low, high, "Wilson")
    share_of_case = (part[list(OBSERVERS)] >= USABLE_FROM).mean(axis=1)
    # Two grades of one structure are no two independent trials: cases are drawn, not grades.
    interval: Interval = bootstrap_interval(share_of_case.to_numpy(dtype=float), "mean")
    usable = int((part[list(OBSERVERS)] >= USABLE_FROM).to_numpy().sum())
    yield _usable_row("mean", usable, n * len(OBSERVERS), interval.low, interval.high, "bootstrap over cases")


def _usable_row(observer: str, usable: int, n: int, low: float, high: float, interval: str) -> dict[str, Any]:
    share = usable / n if n else math.nan
    return {
        "observer": observer,
        "usable": usable,
        "n": n,
        "share": share,
        "low": low,
        "high": high,
        "interval": interval,
    }


def _wilson(count: int, n: int) -> tuple[float, float]:
    if not n:
        return math.nan, math.nan
    low, high = proportion_confint(count, n, alpha=1 - LEVEL, method="wilson")
    return float(low), float(high)


def _agreement(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    first, second = (part[observer].to_numpy(dtype=float) for observer in OBSERVERS)
    for weights in ("quadratic", "linear", "none"):
        kappa = weighted_kappa(first, second, weights)
        yield _agreement_row(f"kappa_{weights}", kappa.kappa, kappa.low, kappa.high, len(part), "large-sample")
    for name, found in (("pearson", pearson(first, second)), ("spearman", spearman(first, second))):
        interval = "Fisher" if name == "pearson" else "Bonett-Wright"
        yield _agreement_row(name, found.r, found.low, found.high, len(part), interval, found.p)
    same = int((first == second).sum())
    share = 100 * same / len(part) if len(part) else math.nan
    low, high = (100 * end for end in _wilson(same, len(part)))
    yield _agreement_row("percent_agreement", share, low, high, len(part), "Wilson")


def _agreement_row(
    statistic: str, value: float, low: float, high: float, n: int, interval: str, p: float = math.nan
) -> dict[str, Any]:
    return {
        "statistic": statistic,
        "value": value,
        "low": low,
        "high": high,
        "p": p,
        "n": n,
        "interval": interval,
    }


def _metric_correlations(part: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for metric, column in METRICS.items():
        values = part[column].to_numpy(dtype=float)
        infinite = int(np.isinf(values).sum())
        for method, correlate in (("spearman", spearman), ("pearson", pearson)):
            found = [correlate(values, part[observer].to_numpy(dtype=float)) for observer in OBSERVERS]
            shared = {"metric": metric, "method": method, "infinite": infinite}
            for observer, result in zip(OBSERVERS, found, strict=True):
                yield shared | _of_observer(observer, result, values, part[observer])
            mean = float(np.mean([result.r for result in found]))
            yield shared | {
                "observer": "mean_of_coefficients",
                "r": mean,
                "n": found[0].n,
                "undefined": found[0].undefined,
            }


def _of_observer(observer: str, result: Correlation, values: Any, grades: pd.Series) -> dict[str, Any]:
    defined = ~np.isnan(values)
    usable = (grades >= USABLE_FROM).to_numpy()
    return {
        "observer": observer,
        "r": result.r,
        "p": result.p,
        "low": result.low,
        "high": result.high,
        "n": result.n,
        "undefined": result.undefined,
        "auc_usable": area_under_curve(values[defined], list(usable[defined])),
    }


def missing_grades(study: Study, graded: str) -> str:
    """Name the missing table of grades; empty where it is there."""
    return "" if graded in study.grades else f"Baseline/{GRADED[graded]}"
