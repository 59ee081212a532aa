"""How large the share of newly missed lesions may be, given how many were looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

from scipy import optimize, special

from analysis.comparison.cases import Flags
from analysis.comparison.record import Record

CONFIDENCE = 0.95
"""Of the one-sided upper limit."""

PROMISE = 0.05
"""The share whose exclusion the reports speak about."""


@dataclass(frozen=True)
class LesionBound(Record):
    """What the number of newly missed lesions allows to promise.

    The unit is the case, since lesions of one patient share their fate: a case is at risk where the reference model
    finds a lesion in it, and an event where the candidate misses one or more of those.

    Attributes
    ----------
    events, at_risk
        Cases with a newly missed lesion, of those with a lesion that the reference model finds.
    lesions_lost, lesions_at_risk
        The same counted in lesions (a structure of a case), for information.
    share, upper
        Of the cases, and its exact upper 95 % limit (one-sided, Clopper-Pearson); NaN and 1 where none is at risk.
    limit
        What the upper limit must stay below.
    needed
        Cases at risk with which the limit would be met at this number of events.
    needed_without_event, needed_for_promise
        Cases at risk, none of them an event, that meet the limit, and that exclude a share of 5 %.
    """

    events: int
    at_risk: int
    lesions_lost: int
    lesions_at_risk: int
    share: float
    upper: float
    limit: float
    needed: int
    needed_without_event: int
    needed_for_promise: int

    @property
    def met(self) -> bool:
        """Whether the limit holds."""
        return self.upper < self.limit


def lesion_bound(reference: Flags, candidate: Flags, limit: float) -> LesionBound:
    """Bound the share of cases in which the candidate misses a lesion that the reference model finds.

    Parameters
    ----------
    reference, candidate
        Which lesions each model finds, a row per case, a column per structure.
    limit
        What the upper limit must stay below.
    """
    lost = reference & ~candidate
    events, at_risk = int(lost.any(axis=1).sum()), int(reference.any(axis=1).sum())
    return LesionBound(
        events=events,
        at_risk=at_risk,
        lesions_lost=int(lost.sum()),
        lesions_at_risk=int(reference.sum()),
        share=events / at_risk if at_risk else math.nan,
        upper=upper_limit(events, at_risk),
        limit=limit,
        needed=cases_needed(limit, events),
        needed_without_event=cases_needed(limit),
        needed_for_promise=cases_needed(PROMISE),
    )


def upper_limit(events: int, total: int) -> float:
    """One-sided exact upper 95 % limit of a share; 1 where there is nothing to count among.

    Parameters
    ----------
    events, total
        Events, and trials.

    References
    ----------
    Clopper and Pearson (1934).
    """
    return _upper(events, total) if events < total else 1.0


def _upper(events: int, total: float) -> float:
    # scipy.stats.binomtest gives the same by a search that takes a hundred times as long.
    return float(special.betaincinv(events + 1, total - events, CONFIDENCE))


@cache
def cases_needed(limit: float, events: int = 0) -> int:
    """Smallest number of trials whose upper limit is below a limit.

    Parameters
    ----------
    limit
        A share above 0 and at most 1.
    events
        Events among the trials: 59 trials without any promise less than 5 %, 93 with one.
    """

    def excess(total: float) -> float:
        return _upper(events, total) - limit

    if limit >= 1:
        return events + 1
    high = 2 * (events + 1) / limit
    while excess(high) >= 0:
        high *= 2
    total: int = math.floor(optimize.brentq(excess, events + 1e-9, high))
    while upper_limit(events, total) >= limit:
        total += 1
    return total
