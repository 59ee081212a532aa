"""What was found in the grades, in sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from analysis.correlations import SIGNIFICANT
from analysis.formatting import between, counted, estimate, number, p_value
from analysis.grading.agreement import ALL_STRUCTURES
from analysis.grading.contest import REFERENCE
from analysis.grading.grades import GRADED_WORDS, PERTURBED, TOGETHER, Grades
from analysis.grading.intervals import NO_INTERVAL
from analysis.grading.usability import MEAN
from analysis.statistics.case_bootstrap import FEWEST_CASES

_FEWEST_FOR_RANKS = 6
"""With fewer patients no outcome of the two-sided signed-rank test is below 0.05."""


def usability_sentences(grades: Grades, usability: pd.DataFrame) -> Iterator[str]:
    """Say how many contours are usable, unperturbed and perturbed, and how the latter were chosen."""
    for graded in grades.graded:
        of_graded = usability[usability["graded"] == graded]
        found = [_share_words(rows) for _, rows in of_graded.groupby("structure", sort=False)]
        yield f"{GRADED_WORDS[graded].capitalize()}: {', '.join(found)}."
        if graded == PERTURBED and grades.choice_words:
            yield grades.choice_words


def _share_words(rows: pd.DataFrame) -> str:
    row = rows[rows["rater"] == MEAN].iloc[0] if MEAN in set(rows["rater"]) else rows.iloc[0]
    raters = int((rows["rater"] != MEAN).sum())
    interval = between(100 * row["low"], 100 * row["high"], 1)
    mean = f"mean of {raters} raters" if raters > 1 else f"rater {row['rater']}"
    return (
        f"{number(100 * row['share'], 1)} % of {row['structure']} contours are usable (95 % interval {interval} %; "
        f"{mean}, {counted(int(row['cases']), 'patient')}{_uneven_words(rows)})"
    )


def _uneven_words(rows: pd.DataFrame) -> str:
    """Say who graded how many, where that differs: in the mean, a rater with one grade counts as much as any."""
    of_raters = rows[rows["rater"] != MEAN]
    if len(set(of_raters["n"])) <= 1:
        return ""
    graded = ", ".join(f"{rater} {n}" for rater, n in zip(of_raters["rater"], of_raters["n"], strict=True))
    return f"; each rater counts the same, whatever they graded: {graded}"


def agreement_sentences(agreement: pd.DataFrame) -> Iterator[str]:
    """Say how far raters agree: the quadratic kappa, and the share within one grade, without which it misleads."""
    for graded, of_graded in agreement.groupby("graded", sort=False):
        found = [_kappa_words(structure, rows) for structure, rows in of_graded.groupby("structure", sort=False)]
        yield f"Agreement on {GRADED_WORDS[graded]} contours (quadratic kappa): {'; '.join(found)}."


def _kappa_words(structure: str, rows: pd.DataFrame) -> str:
    kappas, near = (rows[rows["statistic"] == name] for name in ("kappa_quadratic", "percent_within_one"))
    within = f"{_range(near['value'], 0)} % within one grade"
    defined = kappas[kappas["value"].notna() & (kappas["n"] >= FEWEST_CASES)]
    if defined.empty:
        return f"{structure} no kappa ({_why_no_kappa(kappas)}), {within}"
    row, pairs = defined.iloc[0], f"over {len(defined)} pairs of raters"
    if len(defined) < len(kappas):
        pairs = f"over {len(defined)} of {len(kappas)} pairs of raters"
    if len(kappas) == 1:
        return f"{structure} {estimate(row['value'], row['low'], row['high'])}, {within}"
    smallest = counted(int(defined["n"].min()), "contour")
    return f"{structure} {_range(defined['value'], 2)} {pairs} (at least {smallest}), {within}"


def _why_no_kappa(kappas: pd.DataFrame) -> str:
    row = kappas.loc[kappas["n"].idxmax()]
    if row["n"] < FEWEST_CASES:
        return f"fewer than {FEWEST_CASES} contours: {int(row['n'])}"
    return str(row["interval"]).removeprefix(f"{NO_INTERVAL}: ")


def _range(values: pd.Series, digits: int) -> str:
    low, high = float(values.min()), float(values.max())
    return number(low, digits) if number(low, digits) == number(high, digits) else between(low, high, digits)


def difference_sentences(differences: pd.DataFrame) -> Iterator[str]:
    """Say whether a rater is stricter than another."""
    tested = differences[differences["p"].notna()]
    if tested.empty:
        return
    found = tested[tested["q"] < SIGNIFICANT]
    for _, row in found.iterrows():
        stricter, other = ("second", "first") if row["rank_biserial"] < 0 else ("first", "second")
        q = p_value(row["q"])
        yield (
            f"{row[stricter]} is stricter than {row[other]} on {GRADED_WORDS[row['graded']]} {row['structure']} "
            f"({_size_words(row)}, q {q if q.startswith('<') else f'= {q}'}, {counted(int(row['cases']), 'patient')})."
        )
    patients = _range(tested["cases"], 0)
    if tested["cases"].max() < _FEWEST_FOR_RANKS:
        yield f"Whether a rater is stricter is not known: too few patients ({patients}) for the test to find anything."
    elif found.empty:
        family = counted(int(tested["family"].iloc[0]), "test")
        words = f"smallest q = {number(tested['q'].min())}, {family} of {patients} patients"
        yield f"No rater is detectably stricter than another ({words})."


def _size_words(row: Any) -> str:
    if row["mean_difference"] * row["rank_biserial"] > 0:
        return f"by {number(abs(row['mean_difference']))} grades, the mean over patients"
    # A few large differences the other way turn the mean, but not the ranks that are tested.
    return f"rank-biserial correlation {number(abs(row['rank_biserial']))}, though not by the mean"


def repeat_sentences(repeats: pd.DataFrame) -> Iterator[str]:
    """Say how far raters repeat their own grades."""
    pooled = repeats[repeats["structure"] == ALL_STRUCTURES]
    for rater, rows in pooled.groupby("rater", sort=False):
        of = rows.set_index("statistic")
        kappa, same = of.loc["kappa_quadratic"], of.loc["percent_agreement"]
        words = f"{number(of.loc['percent_within_one', 'value'], 0)} % within one grade"
        if same["n"] >= FEWEST_CASES and not math.isnan(kappa["value"]):
            words += f", quadratic kappa {estimate(kappa['value'], kappa['low'], kappa['high'])}"
        yield (
            f"{rater} repeated {number(same['value'], 0)} % of {counted(int(same['n']), 'grade')} of "
            f"{counted(int(same['cases']), 'patient')} exactly ({words})."
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
            yield f"No best metric for telling usable {name}: {row['reason']}."
            continue
        if row["verdict"]:
            yield f"No metric tells usable {name} better than chance here (highest: {_chance_words(row)})."
            continue
        yield _best_words(name, row)
        here = (cut_offs["graded"] == row["graded"]) & (cut_offs["structure"] == row["structure"])
        for _, cut_off in cut_offs[here].iterrows():
            yield _cut_off_words(name, cut_off)


def mean_words(row: Any) -> str:
    """Say of which raters an area is the mean: ``mean of 2 of 3 raters (Bob, Cyn)``.

    Parameters
    ----------
    row
        With ``raters``, ``raters_used`` and ``raters_all``.
    """
    used, every = int(row["raters_used"]), int(row["raters_all"])
    if used == every:
        return f"mean of {used} raters" if used > 1 else f"rater {row['raters']}"
    if used > 1:
        return f"mean of {used} of {every} raters ({row['raters']})"
    return f"rater {row['raters']}, 1 of {every}"


def _leader(row: Any) -> str:
    tied = f" (tied with {row['tied']})" if row["tied"] else ""
    return f"{row['best']}{tied}, AUC {estimate(row['auc'], row['low'], row['high'])}"


def _chance_words(row: Any) -> str:
    words = f"{_leader(row)}, {mean_words(row)}"
    if math.isnan(row["auc_corrected"]):
        return words
    return f"{words}; corrected for the choice among {int(row['candidates'])} metrics {number(row['auc_corrected'])}"


def _best_words(name: str, row: Any) -> str:
    what = "Best metric" if row["candidates"] > 1 else "Metric"
    of = f"{mean_words(row)}, {counted(int(row['contours']), 'contour')} of {counted(int(row['cases']), 'patient')}"
    words = f"{what} for telling usable {name}: {_leader(row)}"
    if row["candidates"] == 1:
        return f"{words}; {of}; there is no other to compare it with.{_why_unsure(row)}"
    is_compared = not math.isnan(row["difference_to_dice"])
    if is_compared:
        difference = estimate(row["difference_to_dice"], row["difference_low"], row["difference_high"])
        words += f", {difference} above {REFERENCE}"
    words += f"; {of}. {_favour_words(not math.isnan(row['low']), is_compared)}{_why_unsure(row)}"
    if math.isnan(row["auc_corrected"]):
        return words
    above = f", {number(row['difference_corrected'])} above {REFERENCE}" if is_compared else ""
    return (
        f"{words} Best, ties included, in {number(100 * row['best_share'], 0)} % of resamples. Corrected for the "
        f"choice among {int(row['candidates'])} metrics: AUC {number(row['auc_corrected'])}{above}."
    )


def _favour_words(has_interval: bool, is_compared: bool) -> str:
    if has_interval and is_compared:
        return (
            "Interval and difference are those of a metric named beforehand; chosen as the best here, both are too "
            "favourable."
        )
    subject = "interval" if has_interval else "difference" if is_compared else "area"
    return f"The {subject} is that of a metric named beforehand; chosen as the best here, it is too favourable."


def _why_unsure(row: Any) -> str:
    return "" if not math.isnan(row["low"]) else f" No interval: {row['interval'].removeprefix(f'{NO_INTERVAL}: ')}."


def _cut_off_words(name: str, row: Any) -> str:
    if row["reason"]:
        return f"No cut-off of {row['metric']} for {name}: {row['reason']}."
    interval = between(row["low"], row["high"])
    return (
        f"Cut-off for {name}: usable if {row['metric']} {row['rule']} {number(row['cut_off'])} (95 % interval "
        f"{interval}): sensitivity {number(row['sensitivity'])}, specificity {number(row['specificity'])}, "
        f"Youden's J {number(row['youden'])} in the same data, corrected for optimism "
        f"{number(row['youden_corrected'])}."
    )
