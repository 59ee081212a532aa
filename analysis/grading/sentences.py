"""What was found in the grades, in sentences, and what limits it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from analysis.correlations import SIGNIFICANT
from analysis.formatting import between, counted, estimate, number, p_value
from analysis.grading.agreement import ALL_STRUCTURES
from analysis.grading.case_bootstrap import FEWEST_CASES
from analysis.grading.grades import GRADED_WORDS, PERTURBED, TOGETHER, WORST_WORDS, Grades, Part, parts
from analysis.grading.metrics_file import listed
from analysis.grading.prediction import REFERENCE, without_one_kind
from analysis.grading.usability import MEAN

Tables = dict[str, pd.DataFrame]


def usability_sentences(grades: Grades, usability: pd.DataFrame) -> Iterator[str]:
    """Say how many contours are usable, unperturbed and perturbed, and how the latter were chosen."""
    for graded in grades.graded:
        of_graded = usability[usability["graded"] == graded]
        found = [_share_words(rows) for _, rows in of_graded.groupby("structure", sort=False)]
        yield f"{GRADED_WORDS[graded].capitalize()}: {', '.join(found)}."
        if graded == PERTURBED and grades.has_worst:
            yield WORST_WORDS


def _share_words(rows: pd.DataFrame) -> str:
    row = rows[rows["rater"] == MEAN].iloc[0] if MEAN in set(rows["rater"]) else rows.iloc[0]
    raters = int((rows["rater"] != MEAN).sum())
    interval = between(100 * row["low"], 100 * row["high"], 1)
    mean = f"mean of {raters} raters" if raters > 1 else f"rater {row['rater']}"
    return (
        f"{number(100 * row['share'], 1)} % of {row['structure']} contours are usable (95 % interval {interval} %; "
        f"{mean}, {counted(int(row['cases']), 'patient')})"
    )


def agreement_sentences(agreement: pd.DataFrame) -> Iterator[str]:
    """Say how far raters agree, by the quadratic kappa."""
    kappas = agreement[agreement["statistic"] == "kappa_quadratic"]
    for graded, of_graded in kappas.groupby("graded", sort=False):
        found = [_kappa_words(structure, rows) for structure, rows in of_graded.groupby("structure", sort=False)]
        yield f"Agreement on {GRADED_WORDS[graded]} contours (quadratic kappa): {', '.join(found)}."


def _kappa_words(structure: str, rows: pd.DataFrame) -> str:
    if len(rows) == 1:
        row = rows.iloc[0]
        return f"{structure} {estimate(row['value'], row['low'], row['high'])}"
    low, high = rows["value"].min(), rows["value"].max()
    return f"{structure} {between(float(low), float(high))} over {len(rows)} pairs of raters"


def difference_sentences(differences: pd.DataFrame) -> Iterator[str]:
    """Say whether a rater is stricter than another."""
    tested = differences[differences["p"].notna()]
    if tested.empty:
        return
    family = counted(int(tested["family"].iloc[0]), "test")
    found = tested[tested["q"] < SIGNIFICANT]
    for _, row in found.iterrows():
        stricter, other = ("second", "first") if row["rank_biserial"] < 0 else ("first", "second")
        q = p_value(row["q"])
        yield (
            f"{row[stricter]} is stricter than {row[other]} on {GRADED_WORDS[row['graded']]} {row['structure']} "
            f"(by {number(abs(row['mean_difference']))} grades on average, q {q if q.startswith('<') else f'= {q}'}, "
            f"{counted(int(row['cases']), 'patient')})."
        )
    if found.empty:
        yield f"No rater is detectably stricter than another (smallest q = {number(tested['q'].min())}, {family})."


def repeat_sentences(repeats: pd.DataFrame) -> Iterator[str]:
    """Say how far raters repeat their own grades."""
    pooled = repeats[repeats["structure"] == ALL_STRUCTURES]
    for rater, rows in pooled.groupby("rater", sort=False):
        of = rows.set_index("statistic")
        kappa, same = of.loc["kappa_quadratic"], of.loc["percent_agreement"]
        yield (
            f"{rater} repeated {number(same['value'], 0)} % of {counted(int(same['n']), 'grade')} exactly (quadratic "
            f"kappa {estimate(kappa['value'], kappa['low'], kappa['high'])})."
        )


def prediction_sentences(best: pd.DataFrame, cut_offs: pd.DataFrame, *, together: bool = True) -> Iterator[str]:
    """Say which metric tells usable contours best, how sure that is, and where to cut it.

    Parameters
    ----------
    best, cut_offs
        Of :class:`analysis.grading.prediction.Prediction`.
    together
        Whether also for unperturbed and perturbed contours together.
    """
    for _, row in best.iterrows():
        if row["graded"] == TOGETHER and not together:
            continue
        name = f"{GRADED_WORDS[row['graded']]} {row['structure']}"
        if row["graded"] == TOGETHER:
            name = f"{row['structure']}, unperturbed and perturbed together"
        if row["reason"]:
            yield f"No metric can tell usable {name}: {row['reason']}."
            continue
        yield _best_words(name, row)
        here = (cut_offs["graded"] == row["graded"]) & (cut_offs["structure"] == row["structure"])
        for _, cut_off in cut_offs[here].iterrows():
            yield _cut_off_words(name, cut_off)


def _best_words(name: str, row: Any) -> str:
    tied = f" (tied with {row['tied']})" if row["tied"] else ""
    auc = estimate(row["auc"], row["low"], row["high"])
    words = f"Best metric for telling usable {name}: {row['best']}{tied}, AUC {auc}"
    if not math.isnan(row["difference_to_dice"]):
        difference = estimate(row["difference_to_dice"], row["difference_low"], row["difference_high"])
        words += f", {difference} above {REFERENCE}"
    if math.isnan(row["best_share"]):
        return f"{words}. How sure that is cannot be told: too few patients ({row['cases']}), or too few of one kind."
    return (
        f"{words}; the best in {number(100 * row['best_share'], 0)} % of resamples. As the best of "
        f"{counted(int(row['candidates']), 'metric')} it is optimistic: corrected for the choice, AUC "
        f"{number(row['auc_corrected'])}."
    )


def _cut_off_words(name: str, row: Any) -> str:
    if row["reason"]:
        return f"No cut-off of {row['metric']} for {name}: {row['reason']}."
    interval = between(row["low"], row["high"])
    return (
        f"Cut-off for {name}: usable if {row['metric']} {row['rule']} {number(row['cut_off'])} (95 % interval "
        f"{interval}): sensitivity {number(row['sensitivity'])}, specificity {number(row['specificity'])}, "
        f"Youden's J {number(row['youden'])}, corrected for optimism {number(row['youden_corrected'])}."
    )


def limits_of(grades: Grades) -> Iterator[str]:
    """Say what the grades cannot tell, and what was skipped and why."""
    if len(grades.raters) == 1:
        yield f"Only one rater ({grades.raters[0]}): agreement, strictness and the flow of grades need two; skipped."
    if PERTURBED in grades.graded:
        yield from _perturbed_limits(grades)
    if not (grades.rows["repeat"] == 1).any():
        yield "No contour was shown twice: how far raters repeat their own grades is not known."
    if not grades.metrics:
        yield "No metric was given: correlation and prediction are skipped; name a run's metrics."
    yield from without_one_kind(grades)
    few = [words for part in parts(grades) if (words := _too_few(part))]
    if few:
        yield f"Intervals of areas and cut-offs cover less than they say where one kind is rare: {'; '.join(few)}."


def _perturbed_limits(grades: Grades) -> Iterator[str]:
    rows = grades.rows[grades.rows["graded"] == PERTURBED]
    if (rows["sample"] == "").any():
        items = list(dict.fromkeys(rows.loc[rows["sample"] == "", "item"]))
        yield f"How these perturbed items were chosen is not said (column sample): {listed(items)}."
    if len(grades.graded) > 1:
        yield (
            "Where unperturbed and perturbed contours are taken together, a metric also gains by telling one from the "
            "other; the areas and cut-offs depend on how many of each were graded."
        )
        unperturbed = set(grades.rows.loc[grades.rows["graded"] != PERTURBED, "case"])
        perturbed = set(rows["case"])
        yield (
            f"Unperturbed and perturbed contours are described apart, and their difference is not tested: they are of "
            f"{len(unperturbed)} and {len(perturbed)} patients, {len(unperturbed & perturbed)} of them the same."
        )


def _too_few(part: Part) -> str:
    usable = part.usable()
    kinds = {"usable": usable == 1, "not usable": usable == 0}
    patients = {kind: len(np.unique(part.cases[found.any(axis=1)])) for kind, found in kinds.items()}
    kind = min(patients, key=lambda name: patients[name])
    if not 0 < patients[kind] < FEWEST_CASES:
        return ""
    return f"{GRADED_WORDS[part.graded]} {part.structure}, {kind} in {counted(patients[kind], 'patient')}"
