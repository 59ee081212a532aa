"""How lesion descriptors go together with ΔDice, in every cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from analysis.pairing import CellKey, cells
from analysis.statistics import Correlation, Values, benjamini_hochberg, pearson

SIGNIFICANT = 0.05
"""Level of ``q``."""

CORRELATION_COLUMNS = (
    *CellKey._fields,
    *("descriptor", "r", "p", "q", "family", "n", "low", "high", "significant", "restates_baseline"),
)
"""Columns of :func:`correlation_table`, in order."""


def correlation_table(
    pairs: pd.DataFrame,
    descriptors: pd.DataFrame,
    names: Sequence[str],
    correlate: Callable[[Values, Values], Correlation] = pearson,
) -> pd.DataFrame:
    """Correlate every descriptor with ΔDice over the cases of every cell.

    Parameters
    ----------
    pairs
        From :func:`analysis.pairing.paired`.
    descriptors
        One row per case and structure that its reference has, with ``case``, ``structure`` and the descriptors.
    names
        Columns to correlate.
    correlate
        Pearson's, as the study, or :func:`analysis.statistics.spearman`.

    Returns
    -------
    DataFrame
        One row per cell and descriptor. Positive ``r``: the larger the descriptor, the more is lost. ``q`` is
        Benjamini-Hochberg over the whole table's ``family`` of defined correlations. ``restates_baseline`` marks
        cells in which every structure has Dice 0: their ΔDice is the baseline's Dice, and no finding of its own.
    """
    joined = pairs.merge(descriptors, on=["case", "structure"], how="inner")
    records = []
    for key, of_cell in cells(joined):
        delta = of_cell["delta_dice"].to_numpy(dtype=float)
        restates = bool((of_cell["dice"] == 0).all())
        for name in names:
            found = correlate(of_cell[name].to_numpy(dtype=float), delta)
            figures = {figure: getattr(found, figure) for figure in ("r", "p", "n", "low", "high")}
            records.append({**key._asdict(), "descriptor": name, "restates_baseline": restates, **figures})
    table = pd.DataFrame.from_records(records, columns=list(CORRELATION_COLUMNS))
    adjusted = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    table = table.assign(q=adjusted.q, family=adjusted.size)
    return table.assign(significant=table["q"] < SIGNIFICANT)
