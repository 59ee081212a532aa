"""Whether a candidate may replace the model in use: pass, regression, or not to be told from these cases."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.comparison.cases import case_table
from analysis.comparison.cell_findings import CellFinding, improved_cells
from analysis.comparison.changes import ChangedLesion, FalsePositives, changed_lesions, false_positives
from analysis.comparison.differences import Gap, gaps
from analysis.comparison.judgement import Outcome, judge_cases, outcome_of
from analysis.comparison.lesions import LesionBound
from analysis.comparison.margins import Margins
from analysis.comparison.quantities import Quantity
from analysis.comparison.reasons import reasons_of
from analysis.comparison.record import Record
from analysis.comparison.settings import Settings


@dataclass(frozen=True)
class Decision(Record):
    """The outcome with all that it rests on.

    Attributes
    ----------
    outcome
        ``pass``, ``regression`` or ``inconclusive``.
    reasons
        Why, in sentences, the decisive ones first.
    clean, perturbed
        Mean loss of Dice of a case without and under perturbation, with tests and intervals.
    lesions
        Net share of a case's lesions that is lost.
    cells
        Every variant and structure, with max-T adjusted p-values and Benjamini-Hochberg q.
    p_cells, holm_p_cells
        Of no harm in any cell, by max-T; and adjusted for the family {clean, perturbed, lesions, cells}.
    lesions_clean, lesions_perturbed
        Bounds of the share of cases with a newly missed lesion.
    improved_cells
        Cells that became better, largest gain first; their p-values are those of a gain.
    changed_lesions
        Every lesion that one model finds and the other misses, worst first.
    false_positives
        Structures found where the contour has none, without and under perturbation.
    cases
        Number of cases with at least one structure, which all but the false positives is about.
    cases_without_structure
        Cases whose contour has no structure.
    gaps
        Rows that could not be compared; any of them prevents a pass.
    margins, settings
        What was decided with.
    """

    outcome: Outcome
    reasons: tuple[str, ...]
    clean: Quantity
    perturbed: Quantity
    lesions: Quantity
    cells: tuple[CellFinding, ...]
    p_cells: float
    holm_p_cells: float
    lesions_clean: LesionBound
    lesions_perturbed: LesionBound
    improved_cells: tuple[CellFinding, ...]
    changed_lesions: tuple[ChangedLesion, ...]
    false_positives: tuple[FalsePositives, ...]
    cases: int
    cases_without_structure: tuple[str, ...]
    gaps: tuple[Gap, ...]
    margins: Margins
    settings: Settings


def decide(differences: pd.DataFrame, margins: Margins | None = None, settings: Settings | None = None) -> Decision:
    """Decide about a candidate.

    A regression needs a significant test (Holm over the means without and under perturbation, the lesions, and the
    cells) and a point estimate above its margin. A pass needs both means non-inferior, both lesion bounds met, and no
    gap. What is neither is inconclusive.

    Parameters
    ----------
    differences
        From :func:`analysis.comparison.compare_rows`.
    margins
        Accepted harm; None for the defaults. :meth:`analysis.comparison.NoiseFloor.widened` fits them to the noise.
    settings
        Level, numbers of flips and resamples, seed; None for the defaults.

    Returns
    -------
    Decision
        Without any case to compare it is inconclusive, means and intervals NaN (None in ``to_dict``), p-values 1.
    """
    margins, settings = margins or Margins(), settings or Settings()
    table, found_gaps, lesions = case_table(differences), gaps(differences), changed_lesions(differences)
    judgement = judge_cases(table, margins, settings)
    outcome = outcome_of(judgement, complete=not found_gaps)
    return Decision(
        outcome=outcome,
        reasons=reasons_of(outcome, judgement, found_gaps, lesions),
        **judgement._asdict(),
        improved_cells=improved_cells(table, margins, settings),
        changed_lesions=lesions,
        false_positives=false_positives(differences),
        cases=len(table.cases),
        cases_without_structure=tuple(sorted(set(differences["case"]) - set(table.cases))),
        gaps=found_gaps,
        margins=margins,
        settings=settings,
    )
