"""A decision in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.comparison.changes import ChangedLesion
from analysis.comparison.differences import Gap
from analysis.comparison.judgement import Judgement, Outcome
from analysis.comparison.lesions import LesionBound
from analysis.comparison.quantities import Quantity
from analysis.formatting import between, counted, listed, number, p_value, share

_MOST_NAMES = 10
_MEANS = {
    "clean": "mean loss of Dice without perturbation",
    "perturbed": "mean loss of Dice under perturbation",
    "lesions": "net share of lesions lost",
}


def reasons_of(
    outcome: Outcome, judgement: Judgement, gaps: Sequence[Gap], lesions: Sequence[ChangedLesion]
) -> tuple[str, ...]:
    """Say why, the decisive reasons first.

    Parameters
    ----------
    outcome
        What was decided.
    judgement
        What it was decided from.
    gaps
        Rows that could not be compared.
    lesions
        Lesions that changed hands.
    """
    found = list(_regressions(judgement))
    if outcome != "pass":
        found += _open(judgement, gaps)
    lost = [lesion for lesion in lesions if lesion.is_lost_without_perturbation]
    if lost:
        found.append(f"newly missed without perturbation: {listed(map(str, lost), _MOST_NAMES)}")
    if outcome == "pass":
        found = [_shown(judgement), *found]
    return tuple(found)


def _regressions(judgement: Judgement) -> Iterator[str]:
    for mean in (judgement.clean, judgement.perturbed, judgement.lesions):
        if mean.is_regression:
            yield (
                f"worse: {_MEANS[mean.name]} {number(mean.mean, 3)} is above its margin {number(mean.margin, 3)} "
                f"(Holm {_p(mean.holm_p)}, n = {mean.n})"
            )
    worse = sorted((cell for cell in judgement.cells if cell.is_regression), key=lambda cell: -cell.mean)
    if worse:
        names = listed((f"{cell} {number(cell.mean, 2)}" for cell in worse), _MOST_NAMES)
        yield f"worse in {counted(len(worse), 'cell')} by max-T: {names}"


def _open(judgement: Judgement, gaps: Sequence[Gap]) -> Iterator[str]:
    if gaps:
        rows = counted(len(gaps), "row")
        yield f"{rows} could not be compared, which prevents a pass: {listed(map(str, gaps), _MOST_NAMES)}"
    for mean in (judgement.clean, judgement.perturbed):
        if not mean.is_non_inferior and not mean.is_regression:
            yield _not_excluded(mean)
    for words, bound in (("without", judgement.lesions_clean), ("under", judgement.lesions_perturbed)):
        if not bound.met:
            yield _bound_not_met(words, bound)


def _not_excluded(mean: Quantity) -> str:
    if not mean.n:
        return f"{_MEANS[mean.name]}: nothing to compare"
    text = (
        f"{_MEANS[mean.name]} {number(mean.mean, 3)} (90 % interval {between(mean.low, mean.high, 3)}, n = {mean.n}): "
        f"harm of {number(mean.margin, 3)} is not excluded"
    )
    if mean.cases_to_decide is None:
        return text
    return f"{text}; about {counted(mean.cases_to_decide, 'case')} would tell the two apart, if mean and spread stay"


def _bound_not_met(words: str, bound: LesionBound) -> str:
    if not bound.at_risk:
        return f"newly missed lesions {words} perturbation: the reference model finds none, so nothing can be promised"
    return (
        f"newly missed lesions {words} perturbation: {share(bound.events, bound.at_risk)} cases, upper 95 % limit "
        f"{_percent(bound.upper)} is not below {_percent(bound.limit)}; "
        f"it takes {counted(bound.needed, 'case')} at this number of events"
    )


def _shown(judgement: Judgement) -> str:
    clean, perturbed = judgement.clean, judgement.perturbed
    upper = max(judgement.lesions_clean.upper, judgement.lesions_perturbed.upper)
    return (
        f"{clean.state} without and {perturbed.state} under perturbation (mean loss of Dice {number(clean.mean, 3)} "
        f"and {number(perturbed.mean, 3)}); newly missed lesions in less than {_percent(upper)} of cases"
    )


def _p(value: float) -> str:
    text = p_value(value)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def _percent(value: float) -> str:
    return f"{number(100 * value, 1)} %"
