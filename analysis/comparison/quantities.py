"""One gated quantity: estimates, test, interval, and what the interval shows about the margin."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from analysis.comparison.permutation import hodges_lehmann, sign_flip_test
from analysis.comparison.record import Record
from analysis.comparison.settings import Settings
from analysis.statistics import DECIMALS, Interval, Values, bootstrap_interval

LEVEL = 0.90
"""Of the interval: its upper end is a one-sided 95 % limit."""

POWER = 0.80
"""Chance with which the suggested number of cases decides."""

State = Literal["superior", "equivalent", "non-inferior", "inferior", "inconclusive"]


@dataclass(frozen=True)
class Quantity(Record):
    """A mean over cases, positive = harm.

    Attributes
    ----------
    name
        ``clean``, ``perturbed`` or ``lesions``.
    n, zeros, undefined
        Cases with a value, how many of them are zero, and cases without one.
    mean, median, hodges_lehmann
        The mean decides; the others say what a typical case does. NaN without a case.
    low, high
        90 % bootstrap interval of the mean over cases, from :func:`mean_interval`; NaN for fewer than two.
    margin
        Largest accepted harm.
    p, exact
        One-sided sign-flip test, and whether all flips were enumerated.
    holm_p
        ``p`` adjusted for the family; NaN before the family is known.
    state
        ``superior``: the interval is below 0; ``equivalent``: within the margin on both sides; ``non-inferior``: below
        the margin; ``inferior``: above the margin; else ``inconclusive``. The first that holds, but cases that are
        all zero are ``equivalent`` whatever their number.
    cases_to_decide
        Where inconclusive: cases with which a mean and spread as seen here would be told from the margin with a chance
        of 80 % (normal approximation); None where no number would do, or none can be given.
    is_regression
        Significant in the family, and the mean above the margin.
    """

    name: str
    n: int
    zeros: int
    undefined: int
    mean: float
    median: float
    hodges_lehmann: float
    low: float
    high: float
    margin: float
    p: float
    exact: bool
    holm_p: float
    state: State
    cases_to_decide: int | None
    is_regression: bool

    @property
    def is_non_inferior(self) -> bool:
        """Whether harm up to the margin is excluded, which equivalence and superiority include."""
        return self.state in {"superior", "equivalent", "non-inferior"}

    def in_family(self, holm_p: float, alpha: float) -> Quantity:
        """Add what is known once all tests of the family are."""
        return replace(self, holm_p=holm_p, is_regression=holm_p <= alpha and self.mean > self.margin)


def quantity(name: str, values: Values, margin: float, settings: Settings) -> Quantity:
    """Estimate and test one quantity.

    Parameters
    ----------
    name
        What it is called.
    values
        One per case, positive = harm. NaN is left out and counted.
    margin
        Largest accepted harm, in the unit of the values.
    settings
        Numbers of flips and resamples, seed.
    """
    given = np.asarray(values, dtype=float)
    # Rounded, so that a sum in another order neither makes nor breaks a zero.
    defined = np.sort(np.round(given[~np.isnan(given)], DECIMALS))
    test = sign_flip_test(defined, flips=settings.flips, seed=settings.seed)
    interval = mean_interval(defined, settings)
    # As the margin is compared with it: floating-point noise must not lift a mean over its margin.
    mean = round(float(defined.mean()), DECIMALS) if len(defined) else math.nan
    state = "equivalent" if len(defined) and not defined.any() else state_of(interval, margin)
    return Quantity(
        name=name,
        n=test.n,
        zeros=test.zeros,
        undefined=len(given) - test.n,
        mean=mean,
        median=float(np.median(defined)) if len(defined) else math.nan,
        hodges_lehmann=hodges_lehmann(defined),
        low=interval.low,
        high=interval.high,
        margin=margin,
        p=test.p,
        exact=test.exact,
        holm_p=math.nan,
        state=state,
        cases_to_decide=cases_to_decide(defined, margin) if state == "inconclusive" else None,
        is_regression=False,
    )


def mean_interval(values: Values, settings: Settings) -> Interval:
    """Bootstrap interval of a mean over cases, expanded for their number.

    A plain percentile interval is too narrow for few cases: it has neither the factor n / (n - 1) of the variance nor
    the tails of Student's t. Here the percentiles are those that give normal data the width of a t interval.

    Parameters
    ----------
    values
        One per case, without NaN.
    settings
        Number of resamples, seed.

    Returns
    -------
    Interval
        Of a nominal 90 %; NaN for fewer than two values.

    References
    ----------
    Hesterberg (2015), "What teachers should know about the bootstrap", section 4.1: the expanded percentile interval.
    """
    n, level = len(values), LEVEL
    if n >= 2:
        width = math.sqrt(n / (n - 1)) * stats.t.ppf(0.5 + LEVEL / 2, n - 1)
        level = float(2 * stats.norm.cdf(width) - 1)
    found = bootstrap_interval(values, "mean", seed=settings.seed, resamples=settings.resamples, level=level)
    low, high = (round(end, DECIMALS) for end in (found.low, found.high))
    return replace(found, low=low, high=high, level=LEVEL)


def state_of(interval: Interval, margin: float) -> State:
    """Say what an interval shows; an undefined one shows nothing."""
    low, high = interval.low, interval.high
    if high < 0:
        return "superior"
    if high < margin:
        return "equivalent" if low > -margin else "non-inferior"
    return "inferior" if low > margin else "inconclusive"


def cases_to_decide(values: Values, margin: float) -> int | None:
    """Approximate how many cases would tell the mean from the margin.

    From the normal distribution: ``((z_0.95 + z_0.80) * SD / (margin - mean)) ** 2``, if mean and SD stay what they are
    here.

    Parameters
    ----------
    values
        One per case, without NaN.
    margin
        Largest accepted harm.

    Returns
    -------
    int or None
        None for fewer than two values, values without spread, or a mean at the margin.
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return None
    spread, distance = float(sample.std(ddof=1)), abs(margin - float(sample.mean()))
    # Below the precision of the values there is nothing to tell apart.
    smallest = 10.0**-DECIMALS
    if spread < smallest or distance < smallest:
        return None
    factor = float(stats.norm.ppf(0.5 + LEVEL / 2) + stats.norm.ppf(POWER))
    return math.ceil((factor * spread / distance) ** 2)
