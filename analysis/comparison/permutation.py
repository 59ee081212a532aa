"""Sign-flip permutation tests with the case as unit: one quantity, or all cells at once.

Under the hypothesis of no change the two models are interchangeable, and with them the sign of a case's differences.
What is flipped is always everything of a case together, so that any dependence within a case is kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.comparison.record import Record
from analysis.statistics import Values, benjamini_hochberg

FLIPS = 9999
EXACT_UP_TO = 12
"""Largest number of cases whose sign flips are all enumerated (4096)."""

Floats = npt.NDArray[np.float64]
# Sums of the same numbers in another order differ by less than this share of their size.
_ROUNDING = 1e-10


@dataclass(frozen=True)
class SignFlipTest(Record):
    """A one-sided sign-flip test of a mean.

    Attributes
    ----------
    n
        Cases that were tested, zeros included.
    zeros
        Cases without any difference; flipping them changes nothing.
    undefined
        NaN that was left out.
    p
        Probability of a mean at least this large by chance; 1 where nothing differs or nothing was given.
    exact
        Whether all flips were enumerated.
    """

    n: int
    zeros: int
    undefined: int
    p: float
    exact: bool


@dataclass(frozen=True)
class MaxTest(Record):
    """One-sided sign-flip tests of many columns of the same cases.

    Attributes
    ----------
    p
        Of each column by itself.
    adjusted
        Step-down max-T adjusted: the chance of a single false alarm among all columns is bounded (Westfall and Young).
    q
        Benjamini-Hochberg of ``p``: the expected share of false alarms among those called is bounded.
    exact
        Whether all flips were enumerated.
    """

    p: tuple[float, ...]
    adjusted: tuple[float, ...]
    q: tuple[float, ...]
    exact: bool

    @property
    def p_any(self) -> float:
        """Of no change in any column; 1 where there is no column."""
        return min(self.adjusted, default=1.0)


def sign_flip_test(values: Values, *, flips: int = FLIPS, seed: int = 0) -> SignFlipTest:
    """Test whether the mean of paired differences is above zero.

    Parameters
    ----------
    values
        One per case, positive = harm. NaN is left out and counted.
    flips
        Random sign flips; with up to ``EXACT_UP_TO`` non-zero differences all flips are enumerated instead.
    seed
        The same seed and values, in any order, give the same answer.

    Returns
    -------
    SignFlipTest
        Random flips: ``(1 + b) / (flips + 1)``, where ``b`` counts means at least as large as the observed one; with
        all enumerated: their share, the observed one included.

    References
    ----------
    Phipson and Smyth (2010) for the p-value of random permutations.
    """
    given = np.asarray(values, dtype=float)
    # Sorted, so that the order of the cases changes nothing.
    defined = np.sort(given[~np.isnan(given)])
    result = sign_flip_max_test(defined[:, np.newaxis], flips=flips, seed=seed)
    zeros = int((defined == 0).sum())
    return SignFlipTest(len(defined), zeros, len(given) - len(defined), result.p[0], result.exact)


def sign_flip_max_test(matrix: npt.ArrayLike, *, flips: int = FLIPS, seed: int = 0) -> MaxTest:
    """Test whether the mean of any column is above zero, and of which, by step-down max-T.

    The statistic of a column is the sum of its differences over the root of their sum of squares. Flips do not change
    that root: the statistic has variance 1 under the null in every column, whatever its spread, number of cases and
    share of zeros; it orders the flips of a column as the mean and Student's t do, and is defined where all
    differences are equal. A plain mean would let the columns with the widest spread hide all others.

    Parameters
    ----------
    matrix
        A row per case, a column per cell, positive = harm. NaN (the case lacks the structure) counts as no difference.
        A column without any difference has a p of 1.
    flips, seed
        As in :func:`sign_flip_test`; a flip holds for a whole row.

    References
    ----------
    Westfall and Young (1993), *Resampling-Based Multiple Testing*, algorithm 2.8 (step-down).
    """
    values = np.nan_to_num(np.asarray(matrix, dtype=float), nan=0.0)
    values = values[np.any(values != 0, axis=1)]
    scale = np.sqrt((values**2).sum(axis=0))
    values = values / np.where(scale > 0, scale, 1.0)
    signs, exact = _signs(len(values), flips, seed)
    observed = values.sum(axis=0)
    drawn = signs @ values
    extra = 0 if exact else 1
    total = len(signs) + extra
    p = ((drawn >= observed - _ROUNDING).sum(axis=0) + extra) / total
    adjusted = _step_down(observed, drawn, extra)
    # A column without differences can be ordered before one that improves, but is never a finding.
    p, adjusted = (np.where(scale > 0, column, 1.0) for column in (p, adjusted))
    return MaxTest(_tuple(p), _tuple(adjusted), benjamini_hochberg(p).q if len(p) else (), exact)


def hodges_lehmann(values: Values) -> float:
    """Median of the means of all pairs of cases, each with itself included.

    Parameters
    ----------
    values
        One per case; NaN is left out. With nothing left the answer is NaN.

    References
    ----------
    Hodges and Lehmann (1963).
    """
    given = np.asarray(values, dtype=float)
    defined = given[~np.isnan(given)]
    if not len(defined):
        return math.nan
    first, second = np.triu_indices(len(defined))
    return float(np.median((defined[first] + defined[second]) / 2))


def _step_down(observed: Floats, drawn: Floats, extra: int) -> Floats:
    """Compare each column with the maximum over itself and all columns of smaller statistics."""
    if not len(observed):
        return observed
    order = np.argsort(-observed, kind="stable")
    maxima = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
    reached = (maxima >= observed[order] - _ROUNDING).sum(axis=0) + extra
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate(reached / (len(drawn) + extra))
    return adjusted


def _signs(rows: int, flips: int, seed: int) -> tuple[Floats, bool]:
    if rows <= EXACT_UP_TO:
        bits = np.arange(2**rows)[:, np.newaxis] >> np.arange(rows) & 1
        return np.where(bits == 1, -1.0, 1.0), True
    return np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(flips, rows)), False


def _tuple(values: npt.NDArray[Any]) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
