"""Every variant and structure by itself: which became worse, which better."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.comparison.cases import CaseTable, Cell
from analysis.comparison.margins import Margins
from analysis.comparison.permutation import MaxTest, sign_flip_max_test
from analysis.comparison.record import Record
from analysis.comparison.settings import Settings
from analysis.statistics import DECIMALS


@dataclass(frozen=True)
class CellFinding(Record):
    """One variant and structure over all cases, positive = harm.

    Attributes
    ----------
    modality, perturbation, severity, structure
        Which; the modality is None for the baseline.
    n, zeros
        Cases with a difference, and how many of them are zero.
    mean, median
        Of d.
    p, adjusted_p, q
        One-sided sign-flip test of the cell, its step-down max-T adjustment over all cells, and Benjamini-Hochberg.
    is_significant
        Whether ``adjusted_p`` reaches the level that Holm's procedure leaves to the cells.
    is_regression
        Significant, and the mean above the margin of a cell.
    """

    modality: str | None
    perturbation: str
    severity: int
    structure: str
    n: int
    zeros: int
    mean: float
    median: float
    p: float
    adjusted_p: float
    q: float
    is_significant: bool
    is_regression: bool

    def __str__(self) -> str:
        """As in test ids: ``CT-spike-2-GTVp``."""
        return str(Cell(self.modality, self.perturbation, self.severity, self.structure))


def cell_findings(table: CaseTable, test: MaxTest, level: float, margin: float) -> tuple[CellFinding, ...]:
    """Describe every cell.

    Parameters
    ----------
    table
        Differences by case.
    test
        Of its cells.
    level
        What an adjusted p-value must reach; below 0 where Holm's procedure leaves nothing to the cells.
    margin
        Mean harm above which a significant cell is a regression.
    """
    return tuple(
        _finding(cell, values, figures, level, margin)
        for cell, values, *figures in zip(table.cells, table.of_cells.T, test.p, test.adjusted, test.q, strict=True)
    )


def improved_cells(table: CaseTable, margins: Margins, settings: Settings) -> tuple[CellFinding, ...]:
    """Find the cells that became better, by the same max-T test of the opposite sign; largest gain first.

    They are for information and outside the family that decides: ``p`` and its adjustments are those of a gain, and
    ``is_significant`` holds at the full level.

    Parameters
    ----------
    table
        Differences by case.
    margins, settings
        As for the decision.
    """
    test = sign_flip_max_test(-table.of_cells, flips=settings.flips, seed=settings.seed)
    found = cell_findings(table, test, settings.alpha, margins.cell)
    return tuple(sorted((cell for cell in found if cell.is_significant), key=lambda cell: (cell.mean, str(cell))))


def _finding(cell: Cell, values: np.ndarray, figures: list[float], level: float, margin: float) -> CellFinding:
    defined = values[~np.isnan(values)]
    mean, median = (float(np.mean(defined)), float(np.median(defined))) if len(defined) else (math.nan, math.nan)
    mean = round(mean, DECIMALS)
    p, adjusted, q = figures
    return CellFinding(
        *cell,
        n=len(defined),
        zeros=int((defined == 0).sum()),
        mean=mean,
        median=median,
        p=p,
        adjusted_p=adjusted,
        q=q,
        is_significant=adjusted <= level,
        is_regression=adjusted <= level and mean > margin,
    )
