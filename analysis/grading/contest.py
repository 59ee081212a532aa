"""Which metric tells usable contours best: all compared on the same contours, and corrected for having been chosen."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from analysis.grading.area import Area, area_of, oriented, out_of_bag, why_no_area, why_no_interval
from analysis.grading.grades import Part
from analysis.statistics import Floats
from analysis.statistics.case_bootstrap import FEWEST_CASES, percentile_interval

REFERENCE = "dice"
"""Metric that the best one is compared with."""

FEWEST_DEFINED = 0.9
"""Share of the contours on which a metric must be defined to be compared with others."""

NO_BETTER = "no better than chance"

BEST_COLUMNS = (
    *("graded", "structure", "best", "tied", "verdict", "candidates", "left_out", "auc", "low", "high", "interval"),
    *("auc_corrected", "best_share", "difference_to_dice", "difference_low", "difference_high"),
    *("difference_corrected", "raters", "raters_used", "raters_all", "contours", "cases", "reason"),
)

_DECIMALS = 12


def best_metric(part: Part, metrics: Sequence[str], turned: Collection[str], draws: Floats) -> dict[str, Any]:
    """Find the metric with the highest area under the curve, mean of the raters.

    Parameters
    ----------
    part
        Items of one structure.
    metrics, turned
        All metrics, and those whose low values mean a good contour.
    draws
        Resamples of its cases, from :func:`analysis.statistics.case_bootstrap.case_draws`.

    Returns
    -------
    dict
        ``BEST_COLUMNS``. Metrics are compared on the contours where all of them are defined; ``left_out`` are those
        that are defined in fewer than ten patients or on less than 90 % of the contours. Metrics that rank the contours
        alike are one of the ``candidates``. ``tied`` ones have the same area, ``best_share`` is the share of resamples
        in which the best one is the best or tied. ``low``, ``high`` and the difference to Dice are those of a metric
        named beforehand. ``auc_corrected`` and ``difference_corrected`` are not: the best of each resample is chosen
        anew and judged by the patients that were not drawn. ``reason`` says why there is none.
    """
    row: dict[str, Any] = part.keys | {"best": "", "tied": "", "verdict": "", "left_out": ""}
    if reason := _why_none(part):
        return row | {"reason": reason}
    chosen, left_out = _complete(part, metrics)
    row["left_out"] = ", ".join(left_out)
    if not chosen:
        return row | {"reason": f"none is defined in {FEWEST_CASES} patients and on {FEWEST_DEFINED:.0%} of contours"}
    kept = part.items[chosen].notna().all(axis=1).to_numpy()
    common, draws = part.where(kept), draws[:, kept]
    if reason := _why_none(common):
        return row | {"reason": f"{reason}, of the {len(common.items)} contours where all metrics are defined"}
    alike = _alike(common, chosen, turned)
    areas = {name: area_of(common, name, turned, draws) for name in alike}
    values = {name: round(area.summary["auc"], _DECIMALS) for name, area in areas.items()}
    top = [name for name, value in values.items() if value == max(values.values())]
    best, summary = top[0], areas[top[0]].summary
    tied = [name for leader in top for name in alike[leader] if name != best]
    row |= {"best": best, "tied": ", ".join(tied), "candidates": len(alike), "contours": len(common.items)}
    row |= {name: summary[name] for name in BEST_COLUMNS if name in summary}
    row |= {"reason": "", "best_share": math.nan, "auc_corrected": math.nan, **_difference(areas, best)}
    if len(alike) > 1 and not why_no_interval(common):
        row |= _corrected(common, areas, best, turned, draws)
    # What is not known, NaN, does not reach 0.5.
    reaches = any(row[name] <= 0.5 for name in ("auc", "low", "auc_corrected"))
    return row | {"verdict": NO_BETTER if reaches else ""}


def _why_none(part: Part) -> str:
    patients = len(np.unique(part.cases))
    few = f"fewer than {FEWEST_CASES} patients ({patients})" if patients < FEWEST_CASES else ""
    return why_no_area(part) or few


def _complete(part: Part, metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Metrics that are defined often enough to be compared, Dice first, and in words those that are not."""
    chosen, left_out = [], []
    for name in sorted(metrics, key=lambda name: name != REFERENCE):
        defined = part.items[name].notna().to_numpy()
        patients = len(np.unique(part.cases[defined]))
        if patients >= FEWEST_CASES and defined.mean() >= FEWEST_DEFINED:
            chosen.append(name)
        else:
            left_out.append(f"{name} ({defined.sum()} of {len(defined)} contours, {patients} patients)")
    return chosen, left_out


def _alike(part: Part, metrics: Sequence[str], turned: Collection[str]) -> dict[str, list[str]]:
    """Group metrics that put the contours in the same order, by the first of each group."""
    groups: dict[bytes, list[str]] = {}
    for name in metrics:
        # Equal ratios of the same counts can differ in their last bits.
        scores = np.round(oriented(part.items[name].to_numpy(dtype=float), name, turned), _DECIMALS)
        groups.setdefault(np.unique(scores, return_inverse=True)[1].tobytes(), []).append(name)
    return {names[0]: names for names in groups.values()}


def _difference(areas: dict[str, Area], best: str) -> dict[str, float]:
    columns = ("difference_to_dice", "difference_low", "difference_high", "difference_corrected")
    if best == REFERENCE or REFERENCE not in areas:
        return dict.fromkeys(columns, math.nan)
    ours, reference = areas[best], areas[REFERENCE]
    low, high = math.nan, math.nan
    if not math.isnan(ours.summary["low"] + reference.summary["low"]):
        low, high = percentile_interval(ours.of_draws - reference.of_draws, ours.summary["cases"])
    values = (ours.summary["auc"] - reference.summary["auc"], low, high, math.nan)
    return dict(zip(columns, values, strict=True))


def _corrected(
    part: Part, areas: dict[str, Area], best: str, turned: Collection[str], draws: Floats
) -> dict[str, float]:
    names = list(areas)
    drawn = np.round(np.stack([areas[name].of_draws for name in names], axis=1), _DECIMALS)
    scores = [oriented(part.items[name].to_numpy(dtype=float), name, turned) for name in names]
    others = np.stack([out_of_bag(part, of_metric, draws) for of_metric in scores], axis=1)
    defined = ~np.isnan(drawn).any(axis=1)
    drawn, others = drawn[defined], others[defined]
    corrected = {"best_share": float((drawn[:, names.index(best)] == drawn.max(axis=1)).mean())}
    judged = ~np.isnan(others).any(axis=1)
    others = others[judged]
    found = others[np.arange(len(others)), drawn[judged].argmax(axis=1)]
    corrected["auc_corrected"] = float(found.mean())
    if best != REFERENCE and REFERENCE in areas:
        corrected["difference_corrected"] = float((found - others[:, names.index(REFERENCE)]).mean())
    return corrected
