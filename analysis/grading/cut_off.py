"""Where to cut a metric so that it tells usable contours from others best."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from analysis.formatting import number
from analysis.grading.area import oriented, why_no_area, why_no_interval
from analysis.grading.grades import Part
from analysis.statistics import Floats
from analysis.statistics.case_bootstrap import percentile_interval

CUT_OFF_COLUMNS = (
    *("graded", "structure", "metric", "chosen_as", "rule", "cut_off", "low", "high", "sensitivity"),
    *("specificity", "youden", "youden_corrected", "n", "usable", "cases", "reason"),
)

_DECIMALS = 12


@dataclass(frozen=True)
class _Youden:
    """Youden's index of every resample (rows) and possible cut-off (columns, ascending), with its two parts."""

    cut_offs: Floats
    index: Floats
    sensitivity: Floats
    specificity: Floats

    @property
    def best(self) -> npt.NDArray[np.intp]:
        """The best cut-off of every resample; the strictest of equally good ones."""
        last = self.index.shape[1] - 1
        best: npt.NDArray[np.intp] = last - np.argmax(self.index[:, ::-1], axis=1)
        return best


def best_cut_off(part: Part, metric: str, turned: Collection[str], draws: Floats) -> dict[str, Any]:
    """Find the cut-off with the highest Youden index, all raters' grades pooled.

    Parameters
    ----------
    part
        Items of one structure.
    metric, turned
        The metric, and those whose low values mean a good contour.
    draws
        Resamples of its cases, from :func:`analysis.statistics.case_bootstrap.case_draws`.

    Returns
    -------
    dict
        The last columns of ``CUT_OFF_COLUMNS``. A contour is taken as usable where the metric is ``rule`` (``>=`` or
        ``<=``) ``cut_off``, an observed value; ``low`` and ``high`` are its 95 % interval by bootstrap over cases.
        ``sensitivity`` (usable ones found), ``specificity`` and ``youden`` are those of the data it was found in;
        ``youden_corrected`` is not: the cut-off is found anew in each resample and judged by the cases that were not
        drawn. ``reason`` says why there is none.

    References
    ----------
    Youden (1950) for the index; Efron and Tibshirani (1997) for judging by what was not drawn.
    """
    values = part.items[metric].to_numpy(dtype=float)
    defined = ~np.isnan(values)
    kept = part.where(defined)
    usable = kept.usable()
    of_usable, of_others = ((usable == kind).sum(axis=1).astype(float) for kind in (1, 0))
    cases = len(np.unique(kept.cases[~np.isnan(usable).all(axis=1)]))
    counts = {"n": int((of_usable + of_others).sum()), "usable": int(of_usable.sum()), "cases": cases}
    row: dict[str, Any] = {"rule": "<=" if metric in turned else ">="} | counts
    if not defined.any():
        return row | {"reason": f"{metric} is undefined everywhere"}
    if reason := why_no_area(kept) or why_no_interval(kept):
        return row | {"reason": reason}
    scores = oriented(values[defined], metric, turned)
    found = _youden(scores, of_usable, of_others, np.ones((1, len(scores))))
    best = int(found.best[0])
    apparent = float(found.index[0, best])
    if apparent <= 0:
        return row | {"reason": f"{metric} does not tell usable contours from others in the expected direction"}
    cut_offs, corrected = _found_anew(scores, of_usable, of_others, draws[:, defined])
    if not corrected > 0:
        return row | {"reason": f"no better than chance: corrected for optimism, Youden's J is {number(corrected)}"}
    # What turned the values turns their cut-offs back.
    low, high = percentile_interval(oriented(cut_offs, metric, turned), cases)
    return row | {
        "cut_off": float(oriented(found.cut_offs, metric, turned)[best]),
        "low": low,
        "high": high,
        "sensitivity": float(found.sensitivity[0, best]),
        "specificity": float(found.specificity[0, best]),
        "youden": apparent,
        "youden_corrected": corrected,
        "reason": "",
    }


def _found_anew(scores: Floats, of_usable: Floats, of_others: Floats, draws: Floats) -> tuple[Floats, float]:
    """The cut-off of each resample, NaN where a kind is lacking, and their mean index on the cases not drawn."""
    drawn = _youden(scores, of_usable, of_others, draws)
    others = _youden(scores, of_usable, of_others, (draws == 0).astype(float))
    both_kinds = ~(np.isnan(drawn.index).any(axis=1) | np.isnan(others.index).any(axis=1))
    chosen = drawn.best[both_kinds]
    cut_offs = np.full(len(draws), np.nan)
    cut_offs[both_kinds] = drawn.cut_offs[chosen]
    return cut_offs, float(others.index[both_kinds, chosen].mean())


def _youden(scores: Floats, of_usable: Floats, of_others: Floats, draws: Floats) -> _Youden:
    levels, which = np.unique(scores, return_inverse=True)
    at_level = np.eye(len(levels))[which]
    sensitivity, false_rate = (_share_from(draws @ (at_level * counts[:, None])) for counts in (of_usable, of_others))
    index = np.round(sensitivity - false_rate, _DECIMALS)
    return _Youden(levels, index, sensitivity, 1 - false_rate)


def _share_from(counts: Floats) -> Floats:
    """Share of the counts at or above each level; NaN where there is none at all."""
    above = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    total = above[:, :1]
    shares: Floats = np.divide(above, total, out=np.full(above.shape, math.nan), where=total > 0)
    return shares
