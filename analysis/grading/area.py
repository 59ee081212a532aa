"""Area under the ROC curve of a metric for usable contours: of every rater, of their mean, and in every resample."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.grading.grades import Part
from analysis.grading.intervals import BY_CASES, FEWEST_OF_KIND, NO_INTERVAL
from analysis.grading.usability import MEAN
from analysis.statistics import Floats, area_under_curve
from analysis.statistics.case_bootstrap import FEWEST_CASES, auc_of_draws, percentile_interval

AUC_COLUMNS = (
    *("graded", "structure", "metric", "better", "rater", "auc", "low", "high", "interval"),
    *("n", "cases", "usable", "undefined", "infinite", "raters", "raters_used", "raters_all"),
)


@dataclass(frozen=True)
class Area:
    """Areas of one metric.

    Attributes
    ----------
    rows
        Records of ``AUC_COLUMNS``: one per rater, and one for their mean where there are several.
    summary
        The last of them.
    of_draws
        The mean of the raters who have both kinds, in every resample.
    """

    rows: list[dict[str, Any]]
    of_draws: Floats

    @property
    def summary(self) -> dict[str, Any]:
        """The mean of the raters, or the only rater."""
        return self.rows[-1]


def area_of(part: Part, metric: str, turned: Collection[str], draws: Floats) -> Area:
    """Measure how well a metric tells usable contours, for each rater and for their mean.

    Parameters
    ----------
    part
        Items of one structure.
    metric, turned
        The metric, and those whose low values mean a good contour.
    draws
        Resamples of its cases, from :func:`analysis.statistics.case_bootstrap.case_draws`.
    """
    values = part.items[metric].to_numpy(dtype=float)
    defined = ~np.isnan(values)
    scores = oriented(values, metric, turned)
    counts = {"undefined": int((~defined).sum()), "infinite": int(np.isinf(values).sum())}
    keys = part.keys | {"metric": metric, "better": "lower" if metric in turned else "higher"} | counts
    rows, estimates = [], {}
    for rater, usable in zip(part.raters, part.usable().T, strict=True):
        kept = defined & ~np.isnan(usable)
        positive = usable[kept] == 1
        row = {"rater": rater, "auc": area_under_curve(scores[kept], list(positive))}
        if 0 < positive.sum() < len(positive):
            estimates[rater] = auc_of_draws(scores[kept], positive, draws[:, kept])
        row |= _interval(estimates.get(rater), part.cases[kept], usable[kept])
        rows.append(keys | row | _counts(part, kept, usable) | {"raters": rater, "raters_used": 1, "raters_all": 1})
    of_mean = np.mean(list(estimates.values()), axis=0) if estimates else np.full(len(draws), np.nan)
    if len(rows) > 1:
        rows.append(keys | _mean_row(part.where(defined), rows, of_mean))
    return Area(rows, of_mean)


def oriented(values: Floats, metric: str, turned: Collection[str]) -> Floats:
    """Turn a metric so that higher is better, by the direction that was fixed beforehand."""
    return -values if metric in turned else values


def out_of_bag(part: Part, scores: Floats, draws: Floats) -> Floats:
    """Mean area of the raters who have both kinds, on the cases that a resample did not draw.

    Parameters
    ----------
    part
        Items of one structure.
    scores
        One per item, without NaN; higher should mean usable.
    draws
        As for :func:`area_of`.
    """
    estimates = []
    for usable in part.usable().T:
        kept = ~np.isnan(usable)
        if has_both(usable):
            estimates.append(auc_of_draws(scores[kept], usable[kept] == 1, (draws[:, kept] == 0).astype(float)))
    mean: Floats = np.mean(estimates, axis=0)
    return mean


def has_both(usable: Floats) -> bool:
    """Whether a rater found some contours usable and some not."""
    return {0.0, 1.0} <= set(usable)


def why_no_area(part: Part) -> str:
    """Say why no rater has an area in a part; empty where one has."""
    usable = part.usable()
    given = usable[~np.isnan(usable)]
    if given.all():
        return "all contours are usable"
    if not given.any():
        return "no contour is usable"
    return "" if any(has_both(column) for column in usable.T) else "no rater has both usable and other contours"


def rarer_kind(cases: npt.NDArray[Any], usable: Floats) -> tuple[int, str]:
    """Patients of the kind of contours, ``usable`` or ``not usable``, that fewer patients have, and that kind."""
    kinds = ((0, "not usable"), (1, "usable"))
    return min((len(np.unique(cases[usable == kind])), words) for kind, words in kinds)


def why_no_interval(part: Part) -> str:
    """Say why areas and cut-offs of a part have no interval: too few patients, or too few of a kind, for some rater.

    Parameters
    ----------
    part
        Items where the metric is defined.

    Returns
    -------
    str
        Empty where every rater who has both kinds has enough, and where none has both.
    """
    for rater, usable in zip(part.raters, part.usable().T, strict=True):
        graded = ~np.isnan(usable)
        if has_both(usable) and (reason := _too_few(part.cases[graded], usable[graded])):
            return f"{reason} for {rater}" if len(part.raters) > 1 else reason
    return ""


def _too_few(cases: npt.NDArray[Any], usable: Floats) -> str:
    patients = len(np.unique(cases))
    if patients < FEWEST_CASES:
        return f"fewer than {FEWEST_CASES} patients ({patients})"
    count, kind = rarer_kind(cases, usable)
    return f"{kind} in fewer than {FEWEST_OF_KIND} patients ({count})" if count < FEWEST_OF_KIND else ""


def _interval(of_draws: Floats | None, cases: npt.NDArray[Any], usable: Floats) -> dict[str, Any]:
    if of_draws is None:
        return _without("")
    if reason := _too_few(cases, usable):
        return _without(reason)
    low, high = percentile_interval(of_draws, len(np.unique(cases)))
    if math.isnan(low):
        return _without("all resamples give the same")
    return {"low": low, "high": high, "interval": BY_CASES}


def _without(reason: str) -> dict[str, Any]:
    return {"low": math.nan, "high": math.nan, "interval": f"{NO_INTERVAL}: {reason}" if reason else NO_INTERVAL}


def _counts(part: Part, kept: npt.NDArray[np.bool_], usable: Floats) -> dict[str, int]:
    return {"n": int(kept.sum()), "cases": len(np.unique(part.cases[kept])), "usable": int(usable[kept].sum())}


def _mean_row(defined: Part, rows: list[dict[str, Any]], of_mean: Floats) -> dict[str, Any]:
    """Mean of the raters who have an area; without an interval where one has none, which would count as known."""
    used = [row for row in rows if not math.isnan(row["auc"])]
    names = [row["rater"] for row in used]
    counted = used or rows
    graded = defined.grades[[row["rater"] for row in counted]].notna().any(axis=1).to_numpy()
    cases = len(np.unique(defined.cases[graded]))
    interval = _without("")
    if missing := next((row for row in used if math.isnan(row["low"])), None):
        interval = _without(f"{missing['interval'].removeprefix(f'{NO_INTERVAL}: ')} for {missing['rater']}")
    elif used:
        low, high = percentile_interval(of_mean, cases)
        interval = {"low": low, "high": high, "interval": BY_CASES}
    return {
        "rater": MEAN,
        "auc": float(np.mean([row["auc"] for row in used])) if used else math.nan,
        **interval,
        **{name: sum(row[name] for row in counted) for name in ("n", "usable")},
        "cases": cases,
        "raters": ", ".join(names),
        "raters_used": len(names),
        "raters_all": len(rows),
    }
