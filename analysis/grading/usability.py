"""How often contours are usable, and how grades are distributed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis.grading.grades import Grades, Part, each_case_once, parts
from analysis.grading.intervals import NO_INTERVAL
from analysis.statistics import LEVEL, LIKERT, Floats

MEAN = "mean"
"""Stands in the column ``rater`` for the mean of the raters."""

USABILITY_COLUMNS = ("graded", "structure", "rater", "usable", "n", "cases", "share", "low", "high", "interval")
DISTRIBUTION_COLUMNS = ("graded", "structure", "rater", "grade", "count", "n", "share")


@dataclass(frozen=True)
class Share:
    """A share with its interval.

    Attributes
    ----------
    count, n
        Hits among all values; with several raters who have gaps, ``share`` is the mean of theirs, not count / n.
    cases
        Different cases among them.
    share, low, high
        The share and its 95 % interval.
    interval
        How the interval was made.
    """

    count: int
    n: int
    cases: int
    share: float
    low: float
    high: float
    interval: str

    def in_per_cent(self) -> dict[str, Any]:
        """Value, interval and counts as columns of a table of statistics."""
        value, low, high = (100 * figure for figure in (self.share, self.low, self.high))
        counts = {"n": self.n, "cases": self.cases, "interval": self.interval}
        return {"value": value, "low": low, "high": high} | counts


def clustered_share(hits: Floats, cases: npt.NDArray[Any]) -> Share:
    """Estimate a share from items of which several can be of one case, and that several raters can judge.

    Wilson's interval where every case is there once. Otherwise Wilson's interval with the effective sample size
    p (1 - p) / v (t(n - 1) / t(m - 1))² instead of n: v is the variance of the share with the m cases as clusters
    (linearised, factor m / (m - 1)), t the 97.5 % quantile of Student's t. It never exceeds n, and is m where v is 0.

    Parameters
    ----------
    hits
        1 or 0 by item and rater, NaN for what a rater did not judge. The share is the mean of the raters' shares.
    cases
        Case of each item.

    References
    ----------
    Korn and Graubard (1998) for the effective sample size and its degrees of freedom; Dean and Pagano (2015) for its
    use in Wilson's interval.
    """
    judged = ~np.isnan(hits)
    hits, judged = hits[:, judged.any(axis=0)], judged[:, judged.any(axis=0)]
    kept = judged.any(axis=1)
    n, of_cases = int(judged.sum()), cases[kept]
    count = int(np.nansum(hits))
    if not n:
        return Share(0, 0, 0, math.nan, math.nan, math.nan, NO_INTERVAL)
    distinct = len(np.unique(of_cases))
    shares = np.nansum(hits, axis=0) / judged.sum(axis=0)
    share = float(shares.mean())
    if hits.shape[1] == 1 and each_case_once(of_cases):
        low, high = wilson(share, n)
        return Share(count, n, distinct, share, low, high, "Wilson")
    influence = np.where(judged, hits - shares, 0.0) / (judged.sum(axis=0) * len(shares))
    effective = _effective_size(share, influence.sum(axis=1)[kept], of_cases, n)
    low, high = wilson(share, effective)
    return Share(count, n, distinct, share, low, high, f"Wilson, effective n = {effective:.1f}")


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share of n, which need not be whole."""
    low, high = proportion_confint(share * n, n, alpha=1 - LEVEL, method="wilson")
    return float(low), float(high)


def _effective_size(share: float, influence: Floats, cases: npt.NDArray[Any], n: int) -> float:
    _, which = np.unique(cases, return_inverse=True)
    of_case = np.bincount(which, weights=influence)
    m = len(of_case)
    if m < 2 or not (variance := m / (m - 1) * float((of_case**2).sum())) > 1e-15:
        return float(m)
    upper = 0.5 + LEVEL / 2
    freedom = (stats.t.ppf(upper, n - 1) / stats.t.ppf(upper, m - 1)) ** 2
    return min(float(n), share * (1 - share) / variance * float(freedom))


def usability_table(grades: Grades) -> pd.DataFrame:
    """Share of usable contours per part, structure and rater, and the mean of the raters.

    Parameters
    ----------
    grades
        All grades; first showings count.

    Returns
    -------
    DataFrame
        The columns of ``USABILITY_COLUMNS``: ``usable`` of ``n`` grades, of contours of ``cases`` patients; ``share``
        with its 95 % interval, and how it was made.
    """
    records = [record for part in parts(grades) for record in _usability(part)]
    return pd.DataFrame.from_records(records, columns=list(USABILITY_COLUMNS))


def _usability(part: Part) -> Iterator[dict[str, Any]]:
    usable = part.usable()
    columns = [(rater, usable[:, [index]]) for index, rater in enumerate(part.raters)]
    if len(columns) > 1:
        columns.append((MEAN, usable))
    for rater, hits in columns:
        found = clustered_share(hits, part.cases)
        counts = {"rater": rater, "usable": found.count, "n": found.n, "cases": found.cases}
        interval = {"share": found.share, "low": found.low, "high": found.high, "interval": found.interval}
        yield part.keys | counts | interval


def distribution_table(grades: Grades) -> pd.DataFrame:
    """Count each grade per part, structure and rater.

    Returns
    -------
    DataFrame
        The columns of ``DISTRIBUTION_COLUMNS``: ``count`` of ``n`` grades, and its ``share``.
    """
    records = []
    for part in parts(grades):
        for rater in part.raters:
            given = part.grades[rater].dropna()
            for grade in LIKERT:
                count = int((given == grade).sum())
                figures = {"count": count, "n": len(given), "share": count / len(given)}
                records.append(part.keys | {"rater": rater, "grade": grade} | figures)
    return pd.DataFrame.from_records(records, columns=list(DISTRIBUTION_COLUMNS))
