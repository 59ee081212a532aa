"""How often the gate alarms and passes: simulated comparisons on cases like one's own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.comparison.cases import CaseTable
from analysis.comparison.judgement import Judgement, judge_cases, outcome_of
from analysis.comparison.margins import Margins
from analysis.comparison.record import Record
from analysis.comparison.settings import Settings
from analysis.errors import AnalysisError
from analysis.safety import clopper_pearson

RUNS = 1000

SIMULATION = Settings(flips=999, resamples=999)
"""A tenth of the flips and resamples of a real decision: a p of 0.001 is the least, and every run costs 10 ms."""


@dataclass(frozen=True)
class OperatingFigures(Record):
    """Outcomes of simulated comparisons.

    Attributes
    ----------
    runs, cases
        Number of comparisons, and of cases in each.
    harm_clean, harm_perturbed
        Dice that was added to every case's loss.
    significant
        Comparisons in which Holm's procedure rejects anything, whatever the size.
    regressions, passes
        Outcomes; the rest is inconclusive.
    clean_non_inferior, perturbed_non_inferior
        Comparisons in which harm of the margin was excluded for that mean.
    """

    runs: int
    cases: int
    harm_clean: float
    harm_perturbed: float
    significant: int
    regressions: int
    passes: int
    clean_non_inferior: int
    perturbed_non_inferior: int

    def rate(self, count: int) -> tuple[float, float, float]:
        """Share of the comparisons, with its exact 95 % interval."""
        low, high = clopper_pearson(count, self.runs)
        return count / self.runs, low, high


def simulate(
    table: CaseTable,
    *,
    cases: int | None = None,
    harm_clean: float = 0.0,
    harm_perturbed: float = 0.0,
    exchange: bool = True,
    margins: Margins | None = None,
    settings: Settings = SIMULATION,
    runs: int = RUNS,
    seed: int = 0,
) -> OperatingFigures:
    """Compare two models many times, on cases drawn with replacement.

    Parameters
    ----------
    table
        Cases to draw from: those of a comparison that was made.
    cases
        How many to draw; None for as many as there are.
    harm_clean, harm_perturbed
        True harm, added to d of every case drawn, unperturbed and perturbed. The lesions that are found stay the same.
    exchange
        Let the two models change places by chance in every case drawn: neither is better then, whatever the
        differences of the comparison were.
    margins, settings
        As for :func:`analysis.comparison.decide`.
    runs
        Number of comparisons.
    seed
        Of draws and exchanges.

    Raises
    ------
    AnalysisError
        Where there is no case to draw from, or nothing to do.
    """
    n = len(table.cases) if cases is None else cases
    if not table.cases or n < 1 or runs < 1:
        raise AnalysisError(
            f"found {len(table.cases)} cases to draw {n} from, {runs} times; expected at least one of each; name a "
            "comparison with cases"
        )
    rng, margins = np.random.default_rng(seed), margins or Margins()
    counts = np.zeros(5, dtype=int)
    for _ in range(runs):
        drawn = table.drawn(rng.integers(0, len(table.cases), n))
        if exchange:
            drawn = drawn.exchanged(rng.random(n) < 0.5)
        drawn = _harmed(drawn, harm_clean, harm_perturbed)
        own = replace(settings, seed=int(rng.integers(2**32)))
        counts += _events(judge_cases(drawn, margins, own), settings.alpha)
    return OperatingFigures(runs, n, harm_clean, harm_perturbed, *(int(count) for count in counts))


def _harmed(table: CaseTable, clean: float, perturbed: float) -> CaseTable:
    of_cells = np.array([clean if cell.is_clean else perturbed for cell in table.cells])
    return replace(
        table,
        clean=table.clean + clean,
        perturbed=table.perturbed + perturbed,
        of_cells=table.of_cells + of_cells,
    )


def _events(judgement: Judgement, alpha: float) -> list[bool]:
    outcome = outcome_of(judgement, complete=True)
    holm = (judgement.clean.holm_p, judgement.perturbed.holm_p, judgement.lesions.holm_p, judgement.holm_p_cells)
    return [
        min(holm) <= alpha,
        outcome == "regression",
        outcome == "pass",
        judgement.clean.is_non_inferior,
        judgement.perturbed.is_non_inferior,
    ]
