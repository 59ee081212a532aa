"""How well metrics tell usable contours from others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import AnalysisError, suggestion
from analysis.grading.area import AUC_COLUMNS, area_of
from analysis.grading.contest import BEST_COLUMNS, NO_BETTER, REFERENCE, best_metric
from analysis.grading.cut_off import CUT_OFF_COLUMNS, best_cut_off
from analysis.grading.grades import GRADED_WORDS, Grades, Part, parts
from analysis.grading.metrics_file import LOWER_IS_BETTER
from analysis.statistics.case_bootstrap import case_draws

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Prediction:
    """What metrics say of usability.

    Attributes
    ----------
    auc
        The columns of ``AUC_COLUMNS``: per part (``all``: unperturbed and perturbed together), structure, metric and
        rater, and for the mean of the raters who have both kinds (``raters``, ``raters_used`` of ``raters_all``), the
        area under the ROC curve. ``better`` is the direction that was fixed beforehand, ``higher`` or ``lower``: below
        0.5 the metric ranks the wrong way round. ``interval`` says how the interval was made, or why there is none.
    best
        The columns of ``BEST_COLUMNS``, per part and structure: see :func:`analysis.grading.contest.best_metric`.
    cut_offs
        The columns of ``analysis.grading.cut_off.CUT_OFF_COLUMNS`` of the best metric and of Dice.
    """

    auc: pd.DataFrame
    best: pd.DataFrame
    cut_offs: pd.DataFrame


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


def _of_part(part: Part, metrics: Sequence[str], turned: Collection[str]) -> tuple[Rows, Rows, Rows]:
    if not metrics:
        return [], [], []
    draws = case_draws(part.cases)
    areas = [row for metric in metrics for row in area_of(part, metric, turned, draws).rows]
    best = best_metric(part, metrics, turned, draws)
    roles = {best["best"]: "best metric"} if best["best"] else {}
    if REFERENCE in metrics:
        roles = {REFERENCE: "reference"} | roles
    cut_offs = []
    for metric in sorted(roles, key=lambda name: name != best["best"]):
        cut_off = best_cut_off(part, metric, turned, draws)
        if best["verdict"]:
            # What does not rank better than chance has no place to be cut.
            cut_off = {name: cut_off[name] for name in ("rule", "n", "usable", "cases")} | {"reason": NO_BETTER}
        cut_offs.append(part.keys | {"metric": metric, "chosen_as": roles[metric]} | cut_off)
    return areas, [best], cut_offs


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
