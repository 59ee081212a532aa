"""How metrics go together with grades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.grading.grades import Grades, Part, each_case_once, parts
from analysis.grading.intervals import BY_CASES, NO_INTERVAL, interval_name
from analysis.statistics import Correlation, Floats, benjamini_hochberg, pearson, spearman
from analysis.statistics.case_bootstrap import case_draws, correlation_of_draws, percentile_interval

MEAN_OF_COEFFICIENTS = "mean_of_coefficients"
"""Stands in the column ``rater`` for the mean of the raters' coefficients."""

CORRELATION_COLUMNS = (
    *("graded", "structure", "metric", "rater", "method", "r", "p", "q", "family"),
    *("low", "high", "interval", "n", "cases", "undefined", "infinite"),
)

_METHODS = (("spearman", spearman, "Bonett-Wright"), ("pearson", pearson, "Fisher"))


def correlation_table(grades: Grades) -> pd.DataFrame:
    """Correlate every metric with each rater's grades, per part and structure.

    Parameters
    ----------
    grades
        All grades; first showings count.

    Returns
    -------
    DataFrame
        The columns of ``CORRELATION_COLUMNS``: Spearman's and Pearson's ``r`` over ``n`` contours of ``cases`` patients
        with a 95 % interval; ``undefined`` values of the metric are left out, ``infinite`` ones rank as what they are
        (Pearson's ``r`` is NaN then). ``q`` is adjusted over the ``family`` of all tests of the same method. Where a
        patient is there more than once ``p`` is NaN, not tested, and the interval is by bootstrap over cases.
    """
    records = [record for part in parts(grades) for metric in grades.metrics for record in _of_metric(part, metric)]
    table = pd.DataFrame.from_records(records, columns=list(CORRELATION_COLUMNS))
    for method, _, _ in _METHODS:
        of_method = table["method"] == method
        family = benjamini_hochberg(table.loc[of_method, "p"].to_numpy(dtype=float))
        table.loc[of_method, "q"] = np.array(family.q, dtype=float)
        table.loc[of_method, "family"] = family.size
    return table.astype({"q": float, "family": int})


def mean_coefficient(found: Sequence[Correlation]) -> float:
    """Mean of the raters' coefficients; NaN where one has none."""
    return float(np.mean([one.r for one in found]))


def _of_metric(part: Part, metric: str) -> Iterator[dict[str, Any]]:
    values = part.items[metric].to_numpy(dtype=float)
    for method, correlate, interval in _METHODS:
        keys = part.keys | {"metric": metric, "method": method}
        coefficients = []
        for rater in part.raters:
            graded = part.grades[rater].notna().to_numpy()
            of_rater = part.grades[rater].to_numpy(dtype=float)[graded]
            found = correlate(values[graded], of_rater)
            coefficients.append(found)
            cases = part.cases[graded]
            yield keys | {"rater": rater} | _figures(found, values[graded], of_rater, cases, method, interval)
        if len(coefficients) > 1:
            mean = {"rater": MEAN_OF_COEFFICIENTS, "r": mean_coefficient(coefficients), "interval": NO_INTERVAL}
            yield keys | mean | _counts(values, part.cases)


def _figures(
    found: Correlation, values: Floats, grades: Floats, cases: Any, method: str, interval: str
) -> dict[str, Any]:
    defined = ~np.isnan(values)
    p, low, high = found.p, found.low, found.high
    if not each_case_once(cases[defined]):
        draws = case_draws(cases[defined])
        estimates = correlation_of_draws(values[defined], grades[defined], draws, ranks=method == "spearman")
        p, interval = np.nan, BY_CASES
        low, high = percentile_interval(estimates, len(np.unique(cases[defined])))
    figures = {"r": found.r, "p": p, "low": low, "high": high, "interval": interval_name(low, interval)}
    return figures | _counts(values, cases)


def _counts(values: Floats, cases: Any) -> dict[str, int]:
    defined = ~np.isnan(values)
    return {
        "n": int(defined.sum()),
        "cases": len(np.unique(cases[defined])),
        "undefined": int((~defined).sum()),
        "infinite": int(np.isinf(values).sum()),
    }
