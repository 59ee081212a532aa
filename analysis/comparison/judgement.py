"""All tests, intervals and bounds of a comparison, and what they amount to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from analysis.comparison.cases import CaseTable
from analysis.comparison.cell_findings import CellFinding, cell_findings
from analysis.comparison.lesions import LesionBound, lesion_bound
from analysis.comparison.margins import Margins
from analysis.comparison.permutation import sign_flip_max_test
from analysis.comparison.quantities import Quantity, quantity
from analysis.comparison.settings import Settings

Outcome = Literal["pass", "regression", "inconclusive"]


class Judgement(NamedTuple):
    """What the numbers of the cases say, before gaps are looked at.

    Attributes
    ----------
    clean, perturbed, lesions
        The three gated means.
    cells
        Every variant and structure.
    p_cells, holm_p_cells
        Of no harm in any cell, by max-T; and adjusted for the family {clean, perturbed, lesions, cells}.
    lesions_clean, lesions_perturbed
        Bounds of the share of cases with a newly missed lesion.
    """

    clean: Quantity
    perturbed: Quantity
    lesions: Quantity
    cells: tuple[CellFinding, ...]
    p_cells: float
    holm_p_cells: float
    lesions_clean: LesionBound
    lesions_perturbed: LesionBound

    @property
    def has_regression(self) -> bool:
        """Whether anything is significantly worse, by more than its margin."""
        means = (self.clean, self.perturbed, self.lesions)
        return any(mean.is_regression for mean in means) or any(cell.is_regression for cell in self.cells)

    @property
    def is_acceptable(self) -> bool:
        """Whether both means are shown to be non-inferior and both lesion bounds are met."""
        means = self.clean.is_non_inferior and self.perturbed.is_non_inferior
        return means and self.lesions_clean.met and self.lesions_perturbed.met


def outcome_of(judgement: Judgement, *, complete: bool) -> Outcome:
    """Reduce a judgement to one word; what is incomplete can be a regression, but no pass.

    Parameters
    ----------
    judgement
        From :func:`judge_cases`.
    complete
        Whether everything could be compared.
    """
    if judgement.has_regression:
        return "regression"
    return "pass" if complete and judgement.is_acceptable else "inconclusive"


def judge_cases(table: CaseTable, margins: Margins, settings: Settings) -> Judgement:
    """Run all tests, intervals and bounds on the numbers of the cases.

    Parameters
    ----------
    table
        Differences by case.
    margins, settings
        What to judge with.
    """
    means = [
        quantity("clean", table.clean, margins.clean, settings),
        quantity("perturbed", table.perturbed, margins.perturbed, settings),
        quantity("lesions", table.lesions, margins.lesions, settings),
    ]
    of_cells = sign_flip_max_test(table.of_cells, flips=settings.flips, seed=settings.seed)
    family = [*(mean.p for mean in means), of_cells.p_any]
    *holm, holm_p_cells = holm_adjusted(family)
    clean, perturbed, lesions = (mean.in_family(p, settings.alpha) for mean, p in zip(means, holm, strict=True))
    level = _level_of_cells(family, holm_p_cells, settings.alpha)
    return Judgement(
        clean=clean,
        perturbed=perturbed,
        lesions=lesions,
        cells=cell_findings(table, of_cells, level, margins.cell),
        p_cells=of_cells.p_any,
        holm_p_cells=holm_p_cells,
        lesions_clean=lesion_bound(table.reference_clean, table.candidate_clean, margins.lesion_limit),
        lesions_perturbed=lesion_bound(table.reference_perturbed, table.candidate_perturbed, margins.lesion_limit),
    )


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the chance of any false alarm among them, by Holm's step-down procedure.

    Parameters
    ----------
    p_values
        The whole family, without NaN.

    References
    ----------
    Holm (1979).
    """
    # statsmodels' multipletests, the oracle of the tests, collects garbage on each call: 0.1 s, a simulation's hour.
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


def _level_of_cells(family: list[float], holm_p_cells: float, alpha: float) -> float:
    """Level that Holm's procedure leaves to the last of the family; naming cells must not spend more than it."""
    if holm_p_cells > alpha:
        return -1.0
    smaller = sum(p < family[-1] for p in family)
    return alpha / (len(family) - smaller)
