"""How well metrics tell usable contours from others."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.errors import AnalysisError, suggestion
from analysis.grading.case_bootstrap import (
    FEWEST_CASES,
    auc_of_draws,
    case_draws,
    interval_name,
    percentile_interval,
)
from analysis.grading.cut_off import CUT_OFF_COLUMNS, best_cut_off
from analysis.grading.grades import GRADED_WORDS, Grades, Part, parts
from analysis.grading.metrics_file import LOWER_IS_BETTER
from analysis.grading.usability import MEAN
from analysis.statistics import Floats, area_under_curve

REFERENCE = "dice"
"""Metric that the best one is compared with."""

AUC_COLUMNS = (
    *("graded", "structure", "metric", "better", "rater", "auc", "low", "high", "interval"),
    *("n", "cases", "usable", "undefined", "infinite"),
)
BEST_COLUMNS = (
    *("graded", "structure", "best", "tied", "candidates", "auc", "low", "high", "auc_corrected", "best_share"),
    *("difference_to_dice", "difference_low", "difference_high", "difference_n", "raters", "cases", "reason"),
)

_DECIMALS = 12


@dataclass(frozen=True)
class Prediction:
    """What metrics say of usability.

    Attributes
    ----------
    auc
        The columns of ``AUC_COLUMNS``: per part (``all``: unperturbed and perturbed together), structure, metric and
        rater, and for the mean of the raters who have both kinds, the area under the ROC curve. ``better`` is the
        direction that was fixed beforehand, ``higher`` or ``lower``: below 0.5 the metric ranks the wrong way round.
    best
        The columns of ``BEST_COLUMNS``: per part and structure the metric with the highest mean; ``tied`` ones have
        the same; ``auc_corrected`` is without the optimism of choosing among ``candidates``; in ``best_share`` of
        the resamples it is the best, ties included. ``difference_to_dice`` is paired, over the ``difference_n``
        contours where both are defined. ``reason`` says why there is none.
    cut_offs
        The columns of ``analysis.grading.cut_off.CUT_OFF_COLUMNS`` of the best metric and of Dice.
    """

    auc: pd.DataFrame
    best: pd.DataFrame
    cut_offs: pd.DataFrame


@dataclass(frozen=True)
class _Curve:
    """Areas of one metric: of each rater, of their mean, and the mean in every resample."""

    rows: list[dict[str, Any]]
    auc: float
    low: float
    high: float
    of_draws: Floats


def predict_usability(grades: Grades, lower_is_better: Collection[str] = ()) -> Prediction:
    """Measure how well every metric tells usable contours from others, and where to cut the best one.

    All metrics are seen in the same resamples of cases, so that their differences are paired.

    Parameters
    ----------
    grades
        All grades; first showings count.
    lower_is_better
        Metrics, beside ``LOWER_IS_BETTER``, whose low values mean a good contour.

    Raises
    ------
    AnalysisError
        Where ``lower_is_better`` names no metric.
    """
    for name in lower_is_better:
        if name not in grades.metrics:
            raise AnalysisError(
                f"lower is better: found {name!r}; {suggestion(name, grades.metrics)}expected one of the metrics "
                f"{', '.join(grades.metrics) or '(none is there)'}; name its column"
            )
    turned = {*LOWER_IS_BETTER, *lower_is_better}
    found = [_of_part(part, grades.metrics, turned) for part in parts(grades, together=True)]
    tables = [
        pd.DataFrame.from_records([row for of_part in found for row in of_part[place]], columns=list(columns))
        for place, columns in enumerate((AUC_COLUMNS, BEST_COLUMNS, CUT_OFF_COLUMNS))
    ]
    return Prediction(*tables)


Rows = list[dict[str, Any]]


def _of_part(part: Part, metrics: Sequence[str], turned: Collection[str]) -> tuple[Rows, Rows, Rows]:
    draws = case_draws(part.cases)
    curves = {metric: _curve(part, metric, turned, draws) for metric in metrics}
    best = _best(part, curves, turned, draws) if metrics else None
    if best is None:
        return [row for curve in curves.values() for row in curve.rows], [], []
    chosen = {REFERENCE: "reference"} if REFERENCE in curves else {}
    if best["best"]:
        chosen = {best["best"]: "best metric"} | {name: role for name, role in chosen.items() if name != best["best"]}
    cut_offs = [
        part.keys | {"metric": metric, "chosen_as": role} | best_cut_off(part, metric, turned, draws)
        for metric, role in chosen.items()
    ]
    return [row for curve in curves.values() for row in curve.rows], [best], cut_offs


def oriented(values: Floats, metric: str, turned: Collection[str]) -> Floats:
    """Turn a metric so that higher is better, by the direction that was fixed beforehand."""
    return -values if metric in turned else values


def _curve(part: Part, metric: str, turned: Collection[str], draws: Floats) -> _Curve:
    values = part.items[metric].to_numpy(dtype=float)
    keys = part.keys | {"metric": metric, "better": "lower" if metric in turned else "higher"}
    defined = ~np.isnan(values)
    scores = oriented(values, metric, turned)
    rows, points, estimates = [], [], []
    for rater, usable in zip(part.raters, part.usable().T, strict=True):
        kept = defined & ~np.isnan(usable)
        positive = usable[kept] == 1
        auc = area_under_curve(scores[kept], list(positive))
        of_draws = auc_of_draws(scores[kept], positive, draws[:, kept]) if not math.isnan(auc) else None
        if of_draws is not None:
            points.append(auc)
            estimates.append(of_draws)
        rows.append(keys | {"rater": rater} | _auc_row(auc, of_draws, part, kept, usable))
    mean = float(np.mean(points)) if points else math.nan
    of_mean = np.mean(estimates, axis=0) if estimates else np.full(len(draws), np.nan)
    low, high = percentile_interval(of_mean, len(np.unique(part.cases[defined])))
    if len(part.raters) > 1:
        of_raters = [row for row in rows if not math.isnan(row["auc"])] or rows
        totals = {name: sum(row[name] for row in of_raters) for name in ("n", "usable")}
        totals["cases"] = max(row["cases"] for row in of_raters)
        rows.append(keys | {"rater": MEAN, "auc": mean} | _interval(low, high) | totals)
    counts = {"undefined": int((~defined).sum()), "infinite": int(np.isinf(values).sum())}
    return _Curve([row | counts for row in rows], mean, low, high, of_mean)


def _auc_row(
    auc: float, of_draws: Floats | None, part: Part, kept: npt.NDArray[np.bool_], usable: Floats
) -> dict[str, Any]:
    cases = len(np.unique(part.cases[kept]))
    low, high = (math.nan, math.nan) if of_draws is None else percentile_interval(of_draws, cases)
    counts = {"n": int(kept.sum()), "cases": cases, "usable": int(usable[kept].sum())}
    return {"auc": auc} | _interval(low, high) | counts


def _interval(low: float, high: float) -> dict[str, Any]:
    return {"low": low, "high": high, "interval": interval_name(low)}


def _best(part: Part, curves: dict[str, _Curve], turned: Collection[str], draws: Floats) -> dict[str, Any]:
    known = {metric: curve for metric, curve in curves.items() if not math.isnan(curve.auc)}
    row = part.keys | {"candidates": len(known), "cases": len(np.unique(part.cases))} | _raters_with_both(part)
    if not known:
        return row | {"best": "", "tied": "", "reason": _why_no_auc(part)}
    areas = {metric: round(curve.auc, _DECIMALS) for metric, curve in known.items()}
    tied = [metric for metric, area in areas.items() if area == max(areas.values())]
    best = REFERENCE if REFERENCE in tied else tied[0]
    names = list(known)
    estimates = np.round(np.stack([known[metric].of_draws for metric in names], axis=1), _DECIMALS)
    estimates = estimates[~np.isnan(estimates).any(axis=1)]
    highest = estimates.max(axis=1, initial=-np.inf)
    row |= {"best": best, "tied": ", ".join(name for name in tied if name != best), "reason": ""}
    row |= {"auc": known[best].auc, "low": known[best].low, "high": known[best].high}
    enough = row["cases"] >= FEWEST_CASES and 2 * len(estimates) >= len(draws)
    row["best_share"] = float((estimates[:, names.index(best)] == highest).mean()) if enough else math.nan
    optimism = highest - np.array([known[name].auc for name in names])[estimates.argmax(axis=1)] if enough else np.nan
    row["auc_corrected"] = known[best].auc - float(np.mean(optimism))
    return row | _difference_to_reference(part, best, known, turned, draws)


def _difference_to_reference(
    part: Part, best: str, known: Collection[str], turned: Collection[str], draws: Floats
) -> dict[str, Any]:
    columns = ("difference_to_dice", "difference_low", "difference_high")
    if best == REFERENCE or REFERENCE not in known:
        return dict.fromkeys(columns, math.nan)
    both = part.items[[best, REFERENCE]].notna().all(axis=1).to_numpy()
    common = Part(part.graded, part.structure, part.items[both], part.grades[both])
    found = [_curve(common, metric, turned, draws[:, both]) for metric in (best, REFERENCE)]
    low, high = percentile_interval(found[0].of_draws - found[1].of_draws, len(np.unique(common.cases)))
    values = (found[0].auc - found[1].auc, low, high)
    return dict(zip(columns, values, strict=True)) | {"difference_n": len(common.items)}


def _raters_with_both(part: Part) -> dict[str, Any]:
    usable = part.usable()
    both = [rater for rater, column in zip(part.raters, usable.T, strict=True) if {0.0, 1.0} <= set(column)]
    return {"raters": ", ".join(both)}


def _why_no_auc(part: Part) -> str:
    usable = part.usable()
    given = usable[~np.isnan(usable)]
    if given.all():
        return "all contours are usable"
    return "no contour is usable" if not given.any() else "no rater has both usable and other contours with a metric"


def without_one_kind(grades: Grades) -> Iterator[str]:
    """Name, in sentences, raters who have no area in a part: all of its contours are usable to them, or none."""
    for part in parts(grades):
        for rater, column in zip(part.raters, part.usable().T, strict=True):
            given = column[~np.isnan(column)]
            if given.all() or not given.any():
                kind = "every" if given.all() else "no"
                yield (
                    f"{rater} found {kind} {GRADED_WORDS[part.graded]} {part.structure} contour usable and has no area "
                    "under a curve there."
                )
