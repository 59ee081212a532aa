"""Statistics of many resamples of cases at once: a case that is drawn twice counts its items twice.

A resample is a row of weights, one per item, so that every statistic is a few products of matrices, and two statistics
of the same draws are paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.statistics.association import LIKERT, KappaWeights
from analysis.statistics.resampling import LEVEL, RESAMPLES, Floats, quantile

FEWEST_CASES = 10
"""Below so many cases a bootstrap interval covers far less than it says, and none is given."""

_MOST_WEIGHTS = 4_000_000
"""Weights that are in memory at once where a statistic is computed block by block."""

_DECIMALS = 12
_ROUNDING = 1e-24
"""Mean square up to which values that are at most 1 differ by rounding only."""


def case_draws(cases: Sequence[str] | npt.NDArray[Any], *, seed: int = 0, resamples: int = RESAMPLES) -> Floats:
    """Draw cases with replacement.

    Parameters
    ----------
    cases
        Case of each item.
    seed, resamples
        The same seed and cases give the same draws, in any order of the items.

    Returns
    -------
    ndarray
        How often each item is drawn: resamples by items.
    """
    counts, which = _counts(cases, seed, resamples)
    weights: Floats = counts[:, which]
    return weights


def estimate_of_draws(
    statistic: Callable[[Floats], Floats],
    cases: Sequence[str] | npt.NDArray[Any],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Floats:
    """Compute a statistic of every resample without keeping the weights of all of them.

    Parameters
    ----------
    statistic
        Maps some of the rows of :func:`case_draws` to a number each.
    cases, seed, resamples
        As for :func:`case_draws`.
    """
    counts, which = _counts(cases, seed, resamples)
    blocks = np.array_split(counts, max(1, math.ceil(resamples * len(which) / _MOST_WEIGHTS)))
    return np.concatenate([statistic(block[:, which]) for block in blocks if len(block)])


def _counts(cases: Sequence[str] | npt.NDArray[Any], seed: int, resamples: int) -> tuple[Floats, npt.NDArray[np.intp]]:
    """How often each case is drawn, and the case of each item."""
    names, which = np.unique(np.asarray(cases, dtype=str), return_inverse=True)
    drawn = np.random.default_rng(seed).integers(0, len(names), (resamples, len(names)))
    counts = np.zeros((resamples, len(names)))
    np.add.at(counts, (np.arange(resamples)[:, None], drawn), 1)
    return counts, which


def percentile_interval(estimates: Floats, cases: int) -> tuple[float, float]:
    """Percentile interval of the estimates of resamples.

    Parameters
    ----------
    estimates
        One per resample; undefined ones are left out.
    cases
        Number of cases that were drawn from.

    Returns
    -------
    tuple of float
        Both NaN for fewer than ``FEWEST_CASES`` cases, where over half of the resamples are undefined, and where all
        give the same: then they show no spread, and not that there is none.
    """
    defined = np.round(estimates[~np.isnan(estimates)], _DECIMALS)
    if cases < FEWEST_CASES or 2 * len(defined) < len(estimates) or (defined == defined[:1]).all():
        return math.nan, math.nan
    tail = (1 - LEVEL) / 2
    return quantile(defined, tail), quantile(defined, 1 - tail)


def mean_of_draws(values: Floats, draws: Floats) -> Floats:
    """Mean of every resample; NaN where no item is drawn.

    Parameters
    ----------
    values
        One per item, finite.
    draws
        From :func:`case_draws`, or the columns of some of the items.
    """
    return _ratio(draws @ values, draws.sum(axis=1))


def kappa_of_draws(first: Floats, second: Floats, weights: KappaWeights, draws: Floats) -> Floats:
    """Weighted kappa of every resample, on the full scale of grades; NaN where chance alone agrees fully.

    Parameters
    ----------
    first, second
        Two raters' grades by item.
    weights
        As for :func:`analysis.statistics.weighted_kappa`.
    draws
        From :func:`case_draws`.
    """
    size = len(LIKERT)
    cell = ((first - LIKERT[0]) * size + second - LIKERT[0]).astype(int)
    table = (draws @ np.eye(size * size)[cell]).reshape(-1, size, size)
    distance = np.abs(np.subtract.outer(LIKERT, LIKERT)).astype(float)
    cost = {"none": (distance > 0).astype(float), "linear": distance, "quadratic": distance**2}[weights]
    by_chance = np.einsum("bi,bj->bij", table.sum(axis=2), table.sum(axis=1)) / table.sum(axis=(1, 2))[:, None, None]
    return 1 - _ratio((table * cost).sum(axis=(1, 2)), (by_chance * cost).sum(axis=(1, 2)))


def correlation_of_draws(x: Floats, y: Floats, draws: Floats, *, ranks: bool) -> Floats:
    """Correlation coefficient of every resample; NaN where a column is constant.

    Parameters
    ----------
    x, y
        One value per item, without NaN; infinite ones only have ranks.
    draws
        From :func:`case_draws`.
    ranks
        Whether Spearman's coefficient, of the ranks within the resample; else Pearson's.
    """
    if ranks:
        return _weighted_correlation(_ranks(x, draws), _ranks(y, draws), draws)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.full(len(draws), np.nan)
    return _weighted_correlation(_standardised(x)[None, :], _standardised(y)[None, :], draws)


def auc_of_draws(scores: Floats, positive: npt.NDArray[np.bool_], draws: Floats) -> Floats:
    """Area under the ROC curve of every resample, ties counted half; NaN where all drawn are of one kind.

    Parameters
    ----------
    scores
        One per item, without NaN; higher should mean positive, infinite ones rank as what they are.
    positive
        Which items are positive.
    draws
        From :func:`case_draws`.
    """
    positives, negatives = (_by_level(scores, draws * kind)[0] for kind in (positive, ~positive))
    negatives_below = np.cumsum(negatives, axis=1) - negatives / 2
    total = positives.sum(axis=1) * negatives.sum(axis=1)
    return _ratio((positives * negatives_below).sum(axis=1), total)


def _by_level(values: Floats, weights: Floats) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Sum weights over equal values, in ascending order: resamples by levels, and the level of each item."""
    levels, which = np.unique(values, return_inverse=True)
    order = np.argsort(which, kind="stable")
    starts = np.searchsorted(which[order], np.arange(len(levels)))
    return np.add.reduceat(weights[:, order], starts, axis=1) if len(levels) else weights, which


def _ranks(values: Floats, draws: Floats) -> Floats:
    of_levels, which = _by_level(values, draws)
    ranks = np.cumsum(of_levels, axis=1) - (of_levels - 1) / 2
    # Shares of the total, so that one bound tells a spread from rounding for ranks and values alike.
    shares: Floats = ranks[:, which] / draws.sum(axis=1, keepdims=True)
    return shares


def _standardised(values: Floats) -> Floats:
    # Sums of squares of large values would lose the digits that differ.
    centred = values - values.mean()
    spread = float(np.abs(centred).max(initial=0.0))
    standardised: Floats = centred / spread if spread else centred
    return standardised


def _weighted_correlation(x: Floats, y: Floats, draws: Floats) -> Floats:
    total = draws.sum(axis=1, keepdims=True)
    dx, dy = (values - (values * draws).sum(axis=1, keepdims=True) / total for values in (x, y))
    xx, yy, xy = ((draws * product).sum(axis=1) for product in (dx * dx, dy * dy, dx * dy))
    nothing = _ROUNDING * total[:, 0]
    return np.where((xx > nothing) & (yy > nothing), _ratio(xy, np.sqrt(xx * yy)), np.nan)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return ratio
