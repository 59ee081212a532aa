"""How two columns go together: correlation, agreement of raters, and how well a score tells two groups apart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from analysis.statistics.resampling import LEVEL, Floats, Values

LIKERT = (1, 2, 3, 4, 5)
"""The study's grades, from useless to perfect."""

_FEWEST_ITEMS = 10

KappaWeights = Literal["none", "linear", "quadratic"]


@dataclass(frozen=True)
class Correlation:
    """A correlation coefficient with its test and interval.

    Attributes
    ----------
    n
        Pairs that were used.
    undefined
        Pairs that were left out because either value is NaN.
    r
        From -1 to 1; NaN for fewer than three pairs or where a column is constant.
    p
        Two-sided, of no correlation; NaN where ``r`` is.
    low, high
        95 % interval by Fisher's transformation; NaN where ``r`` is, for a perfect correlation, and below 4 pairs.
    """

    n: int
    undefined: int
    r: float
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class Kappa:
    """Agreement of two raters beyond chance.

    Attributes
    ----------
    n
        Items that both graded.
    undefined
        Items that were left out because a grade is missing.
    kappa
        1 for full agreement, 0 for that of chance; NaN where chance alone agrees fully or nothing was graded.
    standard_error, low, high
        Large-sample standard error and 95 % interval (Fleiss, Cohen and Everitt 1969), cut at -1 and 1. The interval
        is NaN below ten items, for full agreement or its opposite, and where a rater always gave the same; with fewer
        than about 30 items it covers less than it says.
    agreement
        Share of items with the same grade.
    """

    n: int
    undefined: int
    kappa: float
    standard_error: float
    low: float
    high: float
    agreement: float


def pearson(x: Values, y: Values) -> Correlation:
    """Pearson's product-moment correlation, with its exact t-test and Fisher's interval.

    Parameters
    ----------
    x, y
        One value per case each. Pairs with NaN are left out and counted; an infinite value makes the answer NaN.
    """
    a, b, undefined = _defined_pairs(x, y)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Correlation(len(a), undefined, *(math.nan,) * 4)
    # Dispersion of Fisher's z is 1 / (n - 3).
    return _correlation(a, b, undefined, variance_factor=lambda _r: 1.0)


def spearman(x: Values, y: Values) -> Correlation:
    """Spearman's rank correlation, with a t-test and the interval of Bonett and Wright (2000).

    Parameters
    ----------
    x, y
        One value per case each. Pairs with NaN are left out and counted; infinite values rank as what they are, ties
        get their mean rank.
    """
    a, b, undefined = _defined_pairs(x, y)
    return _correlation(stats.rankdata(a), stats.rankdata(b), undefined, variance_factor=lambda r: 1 + r**2 / 2)


def weighted_kappa(
    first: Values,
    second: Values,
    weights: KappaWeights = "quadratic",
    scale: Sequence[int] = LIKERT,
) -> Kappa:
    """Cohen's kappa of two raters on the full scale, also where a grade is unused.

    Parameters
    ----------
    first, second
        Grades of the same items. Items with NaN are left out and counted.
    weights
        Disagreement grows with the distance of the grades (``linear``), its square (``quadratic``), or not at all
        (``none``).
    scale
        All possible grades, evenly spaced and in order.

    Raises
    ------
    ValueError
        For a grade that the scale does not have.
    """
    a, b, undefined = _defined_pairs(first, second)
    for grade in (*a, *b):
        if grade not in scale:
            raise ValueError(f"found the grade {grade:g}, expected one of {', '.join(map(str, scale))}")
    if not len(a):
        return Kappa(0, undefined, *(math.nan,) * 5)
    edges = np.append(np.asarray(scale, dtype=float) - 0.5, scale[-1] + 0.5)
    table = np.histogram2d(a, b, bins=[edges, edges])[0]
    agreement = float(np.mean(a == b))
    if len(np.unique(np.concatenate([a, b]))) == 1:
        return Kappa(len(a), undefined, *(math.nan,) * 4, agreement)
    # Full agreement has no variance, which statsmodels divides by for a test that is not used here.
    with np.errstate(divide="ignore", invalid="ignore"):
        result = cohens_kappa(table, wt=None if weights == "none" else weights)
    kappa, error = float(result.kappa), _standard_error(float(result.var_kappa))
    # A rater who always gives the same makes kappa 0, and its variance rounding noise, whatever the other one gives.
    is_fixed = abs(kappa) > 1 - 1e-12 or _is_constant(a) or _is_constant(b)
    if len(a) < _FEWEST_ITEMS or is_fixed:
        return Kappa(len(a), undefined, kappa, error, math.nan, math.nan, agreement)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * error
    return Kappa(len(a), undefined, kappa, error, max(-1.0, kappa - half), min(1.0, kappa + half), agreement)


def area_under_curve(scores: Values, positive: Sequence[bool]) -> float:
    """Probability that a positive row scores above a negative one, ties counted half (area under the ROC curve).

    Parameters
    ----------
    scores
        Higher should mean positive. NaN is not allowed; infinite values rank as what they are.
    positive
        Which rows are positive.

    Returns
    -------
    float
        From 0 to 1; NaN where all rows, or none, are positive.
    """
    is_positive = np.asarray(positive, dtype=bool)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        return math.nan
    ranks = stats.rankdata(scores)
    above = float(ranks[is_positive].sum()) - positives * (positives + 1) / 2
    return above / (positives * negatives)


def _defined_pairs(x: Values, y: Values) -> tuple[Floats, Floats, int]:
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"found columns of the shapes {a.shape} and {b.shape}, expected two of one length")
    defined = ~(np.isnan(a) | np.isnan(b))
    return a[defined], b[defined], int((~defined).sum())


def _correlation(a: Floats, b: Floats, undefined: int, variance_factor: Callable[[float], float]) -> Correlation:
    n = len(a)
    if n < 3 or _is_constant(a) or _is_constant(b):
        return Correlation(n, undefined, *(math.nan,) * 4)
    result = stats.pearsonr(a, b)
    # No reordering of n pairs can be rarer than one in n!, whatever a normal theory says of a straight line.
    r, p = float(result.statistic), max(float(result.pvalue), 2 / math.factorial(min(n, 20)))
    if n < 4 or abs(r) >= 1 - 1e-15:
        return Correlation(n, undefined, r, min(p, 1.0), math.nan, math.nan)
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * math.sqrt(variance_factor(r) / (n - 3))
    low, high = (math.tanh(math.atanh(r) + step) for step in (-half, half))
    return Correlation(n, undefined, r, p, low, high)


def _is_constant(values: Floats) -> bool:
    # Beyond lies floating-point noise, of which a correlation says nothing.
    return bool(np.linalg.norm(values - values.mean()) <= 1e-13 * abs(values.mean()) * math.sqrt(len(values)))


def _standard_error(variance: float) -> float:
    # Rounding can turn a variance of 0 negative.
    return math.sqrt(max(0.0, variance))
