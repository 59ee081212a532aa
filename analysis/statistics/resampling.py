"""Quantiles in which infinite values keep their rank, and intervals by resampling cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
LEVEL = 0.95

FEWEST_VALUES = 6
"""The whole range of fewer values covers a median in less than 95 % of samples (1 - 2^(1 - n))."""

Values: TypeAlias = Sequence[float] | npt.NDArray[np.floating[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; both ends are NaN where too little was given for one."""

    low: float
    high: float
    level: float
    resamples: int


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
        Both ends are NaN for fewer than six values: from so few, no interval of a median reaches 95 %. Of a mean
        with rare large values it covers too little below about 30.
    """
    # Sorted, so that the order of the cases changes nothing.
    sample = np.sort(np.asarray(values, dtype=float))
    sample = sample[~np.isnan(sample)]
    if len(sample) < FEWEST_VALUES:
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
