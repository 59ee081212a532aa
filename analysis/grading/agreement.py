"""How far raters agree with each other, who is stricter, and how far a rater agrees with herself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.grading.grades import Grades, each_case_once, parts
from analysis.grading.intervals import BY_CASES, NO_INTERVAL, interval_name
from analysis.grading.usability import clustered_share
from analysis.statistics import Floats, benjamini_hochberg, pearson, signed_rank_test, spearman, weighted_kappa
from analysis.statistics.association import KappaWeights
from analysis.statistics.case_bootstrap import (
    FEWEST_CASES,
    case_draws,
    correlation_of_draws,
    kappa_of_draws,
    percentile_interval,
)

AGREEMENT_COLUMNS = (
    *("graded", "structure", "first", "second", "statistic", "value"),
    *("low", "high", "n", "cases", "interval"),
)
DIFFERENCE_COLUMNS = (
    *("graded", "structure", "first", "second", "n", "cases", "mean_difference", "second_higher", "equal"),
    *("second_lower", "zero_differences", "rank_biserial", "p", "q", "family"),
)
REPEAT_COLUMNS = ("rater", "structure", "statistic", "value", "low", "high", "n", "cases", "interval")

ALL_STRUCTURES = "all"

_WEIGHTS: tuple[KappaWeights, ...] = ("quadratic", "linear", "none")
_NONE = {"low": math.nan, "high": math.nan, "interval": NO_INTERVAL}


def agreement_table(grades: Grades) -> pd.DataFrame:
    """Agreement of each two raters, per part and structure, on the contours that both graded.

    Parameters
    ----------
    grades
        All grades; first showings count.

    Returns
    -------
    DataFrame
        The columns of ``AGREEMENT_COLUMNS``. ``statistic`` is ``kappa_quadratic``, ``kappa_linear``, ``kappa_none``
        (Cohen's kappa on the full scale 1 to 5), ``pearson``, ``spearman``, ``percent_agreement`` or
        ``percent_within_one`` (in per cent). Where a rater gave one grade only, kappa would be 0 whatever the other
        gave: it is NaN, with the reason in ``interval``. Intervals are of large samples where every case is there once,
        and by bootstrap over cases, or with the effective sample size, otherwise.
    """
    records = []
    for part in parts(grades):
        for first, second in part.pairs:
            both = part.of([first, second])
            keys = part.keys | {"first": first, "second": second}
            one, other = (both.grades[rater].to_numpy(dtype=float) for rater in (first, second))
            names = (f"{first} gave", f"{second} gave")
            records += [keys | found for found in _agreement(one, other, both.cases, names)]
    return pd.DataFrame.from_records(records, columns=list(AGREEMENT_COLUMNS))


def _agreement(
    first: Floats, second: Floats, cases: npt.NDArray[Any], names: tuple[str, str]
) -> Iterator[dict[str, Any]]:
    draws = None if each_case_once(cases) else case_draws(cases)
    for weights in _WEIGHTS:
        yield {"statistic": f"kappa_{weights}"} | _kappa(first, second, weights, cases, draws, names)
    for correlate, name, interval in ((pearson, "pearson", "Fisher"), (spearman, "spearman", "Bonett-Wright")):
        found = correlate(first, second)
        low, high = found.low, found.high
        if draws is not None:
            estimates = correlation_of_draws(first, second, draws, ranks=correlate is spearman)
            low, high = percentile_interval(estimates, len(np.unique(cases)))
            interval = BY_CASES
        yield {"statistic": name} | _figures(found.r, low, high, cases, interval)
    yield from _shares(first, second, cases)


def _kappa(
    first: Floats,
    second: Floats,
    weights: KappaWeights,
    cases: npt.NDArray[Any],
    draws: Floats | None,
    names: tuple[str, str],
) -> dict[str, Any]:
    if reason := _why_no_kappa(first, second, names):
        return _figures(math.nan, math.nan, math.nan, cases, "") | {"interval": f"{NO_INTERVAL}: {reason}"}
    found = weighted_kappa(first, second, weights)
    if draws is None:
        return _figures(found.kappa, found.low, found.high, cases, "large-sample")
    low, high = percentile_interval(kappa_of_draws(first, second, weights, draws), len(np.unique(cases)))
    return _figures(found.kappa, low, high, cases, BY_CASES)


def _why_no_kappa(first: Floats, second: Floats, names: tuple[str, str]) -> str:
    single = [name for name, grades in zip(names, (first, second), strict=True) if len(set(grades)) == 1]
    if len(single) == 2 and first[0] == second[0]:
        return "all grades are the same"
    return f"{single[0]} one grade only, so that kappa is 0 by construction" if single else ""


def _shares(first: Floats, second: Floats, cases: npt.NDArray[Any]) -> Iterator[dict[str, Any]]:
    for name, most in (("percent_agreement", 0), ("percent_within_one", 1)):
        hits = (np.abs(second - first) <= most).astype(float)
        yield {"statistic": name} | clustered_share(hits[:, None], cases).in_per_cent()


def _figures(value: float, low: float, high: float, cases: npt.NDArray[Any], interval: str) -> dict[str, Any]:
    counts = {"n": len(cases), "cases": len(np.unique(cases)), "interval": interval_name(low, interval)}
    return {"value": value, "low": low, "high": high} | counts


def difference_table(grades: Grades) -> pd.DataFrame:
    """Test whether one of two raters is stricter, per part and structure.

    Parameters
    ----------
    grades
        All grades; first showings count.

    Returns
    -------
    DataFrame
        The columns of ``DIFFERENCE_COLUMNS``: over ``n`` contours that both graded, how often the second gave the
        higher grade, the same or the lower. Everything else is of one value per case, the mean over its contours of
        second minus first: ``mean_difference`` (negative = the second is stricter), the two-sided signed-rank test
        with its rank-biserial correlation, and ``zero_differences``, of ``cases``. ``q`` is adjusted over the
        ``family`` of all tests of the table.
    """
    records = []
    for part in parts(grades):
        for first, second in part.pairs:
            both = part.of([first, second])
            difference = (both.grades[second] - both.grades[first]).to_numpy(dtype=float)
            records.append(part.keys | {"first": first, "second": second} | _difference(difference, both.cases))
    table = pd.DataFrame.from_records(records, columns=list(DIFFERENCE_COLUMNS))
    family = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    return table.assign(q=family.q, family=family.size)


def _difference(difference: Floats, cases: npt.NDArray[Any]) -> dict[str, Any]:
    of_case = pd.Series(difference).groupby(cases).mean()
    test = signed_rank_test(of_case.to_numpy(dtype=float))
    signs = {"second_higher": difference > 0, "equal": difference == 0, "second_lower": difference < 0}
    return {
        "n": len(difference),
        "cases": len(of_case),
        "mean_difference": float(of_case.mean()) if len(of_case) else math.nan,
        **{name: int(flags.sum()) for name, flags in signs.items()},
        "zero_differences": test.zero_differences,
        "rank_biserial": test.rank_biserial,
        "p": test.p,
    }


def repeat_table(grades: Grades) -> pd.DataFrame:
    """Agreement of each rater with her own first grade of the same contour, from hidden repeats.

    Parameters
    ----------
    grades
        All grades, unperturbed and perturbed ones pooled.

    Returns
    -------
    DataFrame
        The columns of ``REPEAT_COLUMNS``, per rater for ``all`` structures and for each: ``kappa_quadratic``,
        ``kappa_linear``, ``percent_agreement``, ``percent_within_one`` and ``mean_difference`` (hidden repeat minus
        first). No interval below ten pairs or cases. Empty without repeats.
    """
    keys = ["item", "case", "structure", "rater"]
    first, second = (grades.rows.loc[grades.rows["repeat"] == showing, [*keys, "grade"]] for showing in (0, 1))
    pairs = second.merge(first, on=keys, suffixes=("_second", "_first"))
    records = []
    for rater in grades.raters:
        of_rater = pairs[pairs["rater"] == rater]
        for structure in (ALL_STRUCTURES, *grades.structures):
            chosen = of_rater if structure == ALL_STRUCTURES else of_rater[of_rater["structure"] == structure]
            if len(chosen):
                records += [{"rater": rater, "structure": structure} | found for found in _repeats(chosen)]
    return pd.DataFrame.from_records(records, columns=list(REPEAT_COLUMNS))


def _repeats(pairs: pd.DataFrame) -> Iterator[dict[str, Any]]:
    first, second = (pairs[f"grade_{name}"].to_numpy(dtype=float) for name in ("first", "second"))
    cases = np.asarray(pairs["case"], dtype=str)
    draws = None if each_case_once(cases) else case_draws(cases)
    without = {} if len(np.unique(cases)) >= FEWEST_CASES else _NONE
    names = ("the first showings have", "the repeats have")
    for weights in _WEIGHTS[:2]:
        found = _kappa(first, second, weights, cases, draws, names)
        yield {"statistic": f"kappa_{weights}"} | found | ({} if math.isnan(found["value"]) else without)
    for found in _shares(first, second, cases):
        yield found | without
    yield {"statistic": "mean_difference"} | _figures(float((second - first).mean()), math.nan, math.nan, cases, "")
