"""Statistics of paired differences and samples: pure functions with a defined answer for degenerate input."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

DECIMALS = 10
"""Differences are rounded to this before zeros and ties are looked for: beyond lies floating-point noise."""

EXACT_UP_TO = 50
"""Largest number of non-zero differences whose null distribution is enumerated."""

RESAMPLES = 2000
LEVEL = 0.95

Values: TypeAlias = Sequence[float] | npt.NDArray[np.floating[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]


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


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends are NaN where fewer than two values were given."""

    low: float
    high: float
    level: float
    resamples: int


def signed_rank_test(differences: Values, method: Literal["auto", "exact", "asymptotic"] = "auto") -> SignedRankTest:
    """Test whether paired differences are symmetric about zero.

    Zeros are dropped before ranking (Wilcoxon's own rule) and counted, ties get their mean rank. The exact
    p-value is that of all sign flips of the ranks that are there, so that it holds with ties too; the
    asymptotic one is normal with correction for ties and without correction for continuity.

    Parameters
    ----------
    differences
        One per pair. NaN is left out and counted, infinite ones rank as the largest.
    method
        ``auto`` takes ``exact`` for up to ``EXACT_UP_TO`` non-zero differences.

    Returns
    -------
    SignedRankTest
        Fewer than three differences: p is NaN. All zero: p is 1 and the effect 0. None at all: the effect is
        NaN.

    References
    ----------
    Wilcoxon (1945) for the test; Kerby (2014) for the matched-pairs rank-biserial correlation.
    """
    given = np.asarray(differences, dtype=float)
    defined = np.round(given[~np.isnan(given)], DECIMALS)
    nonzero = defined[defined != 0]
    n, zeros, undefined = len(defined), len(defined) - len(nonzero), len(given) - len(defined)
    if not len(nonzero):
        p, effect = (1.0 if n >= 3 else math.nan), (0.0 if n else math.nan)
        return SignedRankTest(n, zeros, undefined, 0.0, p, effect, "none")
    ranks = stats.rankdata(np.abs(nonzero))
    positive, total = float(ranks[nonzero > 0].sum()), float(ranks.sum())
    statistic, effect = min(positive, total - positive), (2 * positive - total) / total
    if n < 3:
        return SignedRankTest(n, zeros, undefined, statistic, math.nan, effect, "none")
    if method == "exact" or (method == "auto" and len(nonzero) <= EXACT_UP_TO):
        return SignedRankTest(n, zeros, undefined, statistic, _exact_p(ranks, statistic), effect, "exact")
    asymptotic = stats.wilcoxon(nonzero, zero_method="wilcox", correction=False, method="asymptotic")
    return SignedRankTest(n, zeros, undefined, statistic, float(asymptotic.pvalue), effect, "asymptotic")


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


def bootstrap_interval(
    values: Values,
    statistic: Literal["median", "mean"],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """Percentile bootstrap interval over cases, with its own random generator.

    Parameters
    ----------
    values
        One value per case; NaN is left out, infinite values rank as what they are.
    statistic
        What the interval is for.
    seed
        The same seed and values give the same interval.
    resamples, level
        Number of resamples and nominal coverage.

    Returns
    -------
    Interval
        Both ends are NaN for fewer than two values: one case says nothing about the next.
    """
    # Sorted, so that the order of the cases changes nothing.
    sample = np.sort(np.asarray(values, dtype=float))
    sample = sample[~np.isnan(sample)]
    if len(sample) < 2:
        return Interval(math.nan, math.nan, level, resamples)
    drawn = sample[np.random.default_rng(seed).integers(0, len(sample), (resamples, len(sample)))]
    # Infinite values of both signs in one resample have no mean: NaN, as for the sample itself.
    with np.errstate(invalid="ignore"):
        estimates = np.median(drawn, axis=1) if statistic == "median" else drawn.mean(axis=1)
    tail = (1 - level) / 2
    return Interval(quantile(estimates, tail), quantile(estimates, 1 - tail), level, resamples)


def quantile(values: Values, q: float) -> float:
    """Linearly interpolated quantile in which an infinite value keeps its rank.

    ``numpy.quantile`` answers NaN between two infinite values; this is infinite there, and infinite between a
    finite and an infinite one, so that a missed lesion can only make a distance worse.

    Parameters
    ----------
    values
        NaN is left out; with nothing left the answer is NaN.
    q
        From 0 to 1.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    ordered = ordered[~np.isnan(ordered)]
    if not len(ordered):
        return math.nan
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    low, high = float(ordered[below]), float(ordered[math.ceil(position)])
    share = position - below
    # Where the rank is whole or the two are equal there is nothing to interpolate: infinities would give NaN.
    return low if share == 0 or low == high else low + share * (high - low)
