"""Tests of paired differences, and what they could have found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.power import TTestPower

from analysis.statistics.resampling import Floats, Values

DECIMALS = 10
"""Differences are rounded to this before zeros and ties are looked for: beyond lies floating-point noise."""

EXACT_UP_TO = 50
"""Largest number of non-zero differences whose null distribution is enumerated."""

_FEWEST_DIFFERENCES = 10

ZeroMethod = Literal["wilcox", "pratt"]


@dataclass(frozen=True)
class SignedRankTest:
    """A two-sided paired Wilcoxon signed-rank test.

    Attributes
    ----------
    n
        Differences that were tested, zeros included.
    zero_differences
        How many of them are zero.
    undefined
        NaN differences that were left out.
    statistic
        The smaller of the two rank sums.
    p
        Two-sided p-value; NaN where ``n`` is below 3.
    rank_biserial
        (W+ - W-) / (W+ + W-), from -1 to 1; positive where positive differences prevail.
    method
        ``exact``, ``asymptotic`` or ``none``.
    """

    n: int
    zero_differences: int
    undefined: int
    statistic: float
    p: float
    rank_biserial: float
    method: Literal["exact", "asymptotic", "none"]


@dataclass(frozen=True)
class AdjustedFamily:
    """P-values of a family, adjusted for multiple testing.

    Attributes
    ----------
    q
        Adjusted values in the order of the input; NaN where the p-value was.
    size
        Number of p-values in the family, NaN not counted.
    """

    q: tuple[float, ...]
    size: int


def signed_rank_test(
    differences: Values, method: Literal["auto", "exact", "asymptotic"] = "auto", *, zeros: ZeroMethod = "wilcox"
) -> SignedRankTest:
    """Test whether paired differences are symmetric about zero.

    Zeros are counted, ties get their mean rank. The exact p-value is that of all sign flips of the ranks that
    are there, so that it holds with ties too; the asymptotic one is normal with correction for ties and without
    correction for continuity.

    Parameters
    ----------
    differences
        One per pair. NaN is left out and counted, infinite ones rank as the largest.
    method
        ``auto`` takes ``exact`` for up to ``EXACT_UP_TO`` non-zero differences.
    zeros
        ``wilcox`` drops zeros before ranking, ``pratt`` ranks them and drops their ranks.

    Returns
    -------
    SignedRankTest
        Fewer than three differences: p is NaN. All zero: p is 1 and the effect 0. None at all: the effect is
        NaN.

    References
    ----------
    Wilcoxon (1945) for the test; Pratt (1959) for his treatment of zeros; Kerby (2014) for the matched-pairs
    rank-biserial correlation.
    """
    given = np.asarray(differences, dtype=float)
    defined = np.round(given[~np.isnan(given)], DECIMALS)
    nonzero = defined[defined != 0]
    n, zero_count, undefined = len(defined), len(defined) - len(nonzero), len(given) - len(defined)
    if not len(nonzero):
        p, effect = (1.0 if n >= 3 else math.nan), (0.0 if n else math.nan)
        return SignedRankTest(n, zero_count, undefined, 0.0, p, effect, "none")
    ranked = nonzero if zeros == "wilcox" else defined
    ranks = stats.rankdata(np.abs(ranked))[ranked != 0]
    positive, total = float(ranks[nonzero > 0].sum()), float(ranks.sum())
    statistic, effect = min(positive, total - positive), (2 * positive - total) / total
    if n < 3:
        return SignedRankTest(n, zero_count, undefined, statistic, math.nan, effect, "none")
    if method == "exact" or (method == "auto" and len(nonzero) <= EXACT_UP_TO):
        return SignedRankTest(n, zero_count, undefined, statistic, _exact_p(ranks, statistic), effect, "exact")
    asymptotic = stats.wilcoxon(ranked, zero_method=zeros, correction=False, method="asymptotic")
    return SignedRankTest(n, zero_count, undefined, statistic, float(asymptotic.pvalue), effect, "asymptotic")


def _exact_p(ranks: Floats, statistic: float) -> float:
    # Mean ranks are multiples of one half, so doubled they index an array.
    doubled = np.rint(2 * ranks).astype(int)
    probability = np.zeros(int(doubled.sum()) + 1)
    probability[0] = 1.0
    for rank in doubled:
        flipped = np.zeros_like(probability)
        flipped[rank:] = probability[:-rank]
        probability = (probability + flipped) / 2
    lower_tail = probability[: round(2 * statistic) + 1].sum()
    return min(1.0, float(2 * lower_tail))


def benjamini_hochberg(p_values: Values) -> AdjustedFamily:
    """Adjust p-values for the false discovery rate (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p_values
        The whole family. NaN stands for a test that was not possible: not part of the family, and NaN in the
        result.
    """
    p = np.asarray(p_values, dtype=float)
    q = np.full(len(p), math.nan)
    tested = ~np.isnan(p)
    if tested.any():
        q[tested] = stats.false_discovery_control(p[tested], method="bh")
    return AdjustedFamily(tuple(float(value) for value in q), int(tested.sum()))


def minimum_detectable_difference(differences: Values, *, power: float = 0.8, alpha: float = 0.05) -> float:
    """Smallest true mean difference that a two-sided paired t-test finds with the given power.

    From the spread and number of the differences that were seen, by the noncentral t distribution. The signed-rank
    test needs about 5 % more cases for the same where differences are normal, and can have far less power where few
    cases lose much.

    Parameters
    ----------
    differences
        One per pair, in any unit; the answer has the same. NaN is left out.
    power, alpha
        Wanted power and two-sided significance level.

    Returns
    -------
    float
        NaN for fewer than ten differences, an infinite one, or where all are equal: the spread is not known then.
    """
    given = np.asarray(differences, dtype=float)
    defined = np.round(given[~np.isnan(given)], DECIMALS)
    if len(defined) < _FEWEST_DIFFERENCES or not np.isfinite(defined).all() or not np.ptp(defined):
        return math.nan
    return float(defined.std(ddof=1)) * _detectable_effect(len(defined), power, alpha)


def _detectable_effect(n: int, power: float, alpha: float) -> float:
    def excess(effect: float) -> float:
        return float(TTestPower().power(effect, n, alpha)) - power

    # Far beyond the answer the noncentral t distribution cannot be evaluated: the bracket grows up to it.
    upper = 0.01
    while excess(upper) < 0:
        upper *= 2
    return float(optimize.brentq(excess, 0.0, upper))
