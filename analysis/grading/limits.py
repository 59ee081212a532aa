"""What grades cannot tell, and what was skipped and why, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from analysis.formatting import counted, estimate, listed
from analysis.grading.agreement import ALL_STRUCTURES
from analysis.grading.area import has_both, rarer_kind, why_no_interval
from analysis.grading.grades import GRADED_WORDS, PERTURBED, Grades, Part, parts
from analysis.grading.intervals import FEWEST_OF_KIND
from analysis.grading.metrics_file import LOWER_IS_BETTER
from analysis.grading.prediction import without_one_kind
from analysis.statistics.case_bootstrap import FEWEST_CASES

_ENOUGH_FOR_KAPPA = 50
"""Patients below which intervals of kappa were found, by simulation, to hold the truth too rarely."""

Tables = Mapping[str, pd.DataFrame]


def limits_of(grades: Grades, tables: Tables) -> Iterator[str]:
    """Say what the grades cannot tell, and what was skipped and why.

    Parameters
    ----------
    grades
        All grades.
    tables
        ``agreement``, ``repeats``, ``prediction`` and ``best_metric`` of them.
    """
    if len(grades.raters) == 1:
        yield f"Only one rater ({grades.raters[0]}): agreement, strictness and the flow of grades need two; skipped."
    if PERTURBED in grades.graded:
        yield from _perturbed_limits(grades)
    if not (grades.rows["repeat"] == 1).any():
        yield "No contour was shown twice: how far raters repeat their own grades is not known."
    yield from _kappa_limits(tables)
    if not grades.metrics:
        yield "No metric was given: correlation and prediction are skipped; name a run's metrics."
        return
    yield from without_one_kind(grades)
    yield from _metric_limits(tables)
    few = [words for part in parts(grades, together=True) if (words := _rare(part))]
    if few:
        yield f"Intervals of areas and cut-offs cover less than they say where one kind is rare: {'; '.join(few)}."


def _perturbed_limits(grades: Grades) -> Iterator[str]:
    rows = grades.rows[grades.rows["graded"] == PERTURBED]
    if (rows["sample"] == "").any():
        items = list(dict.fromkeys(rows.loc[rows["sample"] == "", "item"]))
        yield f"How these perturbed items were chosen is not said (column sample): {listed(items, most=5)}."
    if len(grades.graded) > 1:
        yield (
            "Where unperturbed and perturbed contours are taken together, a metric also gains by telling one from the "
            "other; the areas and cut-offs depend on how many of each were graded."
        )
        unperturbed = set(grades.rows.loc[grades.rows["graded"] != PERTURBED, "case"])
        perturbed = set(rows["case"])
        by_loss = "chosen by their loss and " if "worst" in set(rows["sample"]) else ""
        yield (
            f"Unperturbed and perturbed contours are described apart, and their difference is not tested: the "
            f"perturbed ones are {by_loss}not paired with the others by design ({len(unperturbed)} and "
            f"{counted(len(perturbed), 'patient')}, {len(unperturbed & perturbed)} of them the same)."
        )


def _kappa_limits(tables: Tables) -> Iterator[str]:
    agreement, repeats = (
        table[(table["statistic"] == "kappa_quadratic") & table["low"].notna() & (table["cases"] < _ENOUGH_FOR_KAPPA)]
        for table in (tables["agreement"], tables["repeats"])
    )
    found = {
        f"{GRADED_WORDS[graded]} {structure}": int(of["cases"].min())
        for (graded, structure), of in agreement.groupby(["graded", "structure"], sort=False)
    }
    pooled = repeats[repeats["structure"] == ALL_STRUCTURES]
    found |= {f"repeats of {rater}": int(cases) for rater, cases in zip(pooled["rater"], pooled["cases"], strict=True)}
    if found:
        yield (
            f"Intervals of kappa from fewer than about {_ENOUGH_FOR_KAPPA} patients hold the truth less often than "
            "they say (about 90 instead of 95 of 100 with 18 to 32 patients), mostly by showing too much agreement: "
            f"{', '.join(f'{name} ({cases})' for name, cases in found.items())}."
        )


def _metric_limits(tables: Tables) -> Iterator[str]:
    for _, row in tables["best_metric"].iterrows():
        if row["left_out"]:
            yield (
                f"Not compared with other metrics on {GRADED_WORDS[row['graded']]} {row['structure']}, as undefined "
                f"too often: {row['left_out']}."
            )
    # The last row of a metric is the mean of the raters, or the only one.
    areas = tables["prediction"].groupby(["graded", "structure", "metric"], sort=False).tail(1)
    always = (areas["auc"] == 0) & (areas["cases"] >= FEWEST_CASES)
    for _, row in areas[(areas["high"] < 0.5) | always].iterrows():
        remedy = "" if row["metric"] in LOWER_IS_BETTER else "; if low values are good, name it in --lower-is-better"
        yield (
            f"{row['metric']} ranks {GRADED_WORDS[row['graded']]} {row['structure']} the wrong way round (AUC "
            f"{estimate(row['auc'], row['low'], row['high'])}){remedy}."
        )


def _rare(part: Part) -> str:
    if why_no_interval(part):
        return ""
    found = [
        (*rarer_kind(part.cases[~np.isnan(usable)], usable[~np.isnan(usable)]), rater)
        for rater, usable in zip(part.raters, part.usable().T, strict=True)
        if has_both(usable)
    ]
    if not found or not FEWEST_OF_KIND <= min(found)[0] < FEWEST_CASES:
        return ""
    count, kind, rater = min(found)
    words = f"{GRADED_WORDS[part.graded]} {part.structure}, {kind} in {counted(count, 'patient')}"
    return f"{words} for {rater}" if len(part.raters) > 1 else words
