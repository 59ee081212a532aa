"""How lesion descriptors go together with ΔDice, in every cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pandas as pd

from analysis.pairing import CellKey, cells
from analysis.statistics import Floats, benjamini_hochberg, pearson, spearman

SIGNIFICANT = 0.05
"""Level of ``q``."""

FEWEST_CASES = 10
"""Below, a correlation is not tested: the tests' distributions do not hold."""

CORRELATION_COLUMNS = (
    *CellKey._fields,
    *("descriptor", "r", "rho", "low", "high", "p", "q", "family", "n", "significant", "restates_baseline"),
)
"""Columns of :func:`correlation_table`, in order."""


def correlation_table(
    pairs: pd.DataFrame,
    descriptors: pd.DataFrame,
    names: Sequence[str],
    test: Literal["spearman", "pearson"] = "spearman",
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
    test
        Whose interval and p-value are given. Pearson's test is what the study reports; it calls far too much
        significant where few cases lose much and a descriptor is skewed, which Spearman's does not.

    Returns
    -------
    DataFrame
        One row per cell and descriptor with Pearson's ``r`` and Spearman's ``rho``. Positive: the larger the
        descriptor, the more is lost. ``low``, ``high`` and ``p`` are of ``test``, and NaN below ten cases. ``q`` is
        Benjamini-Hochberg over the whole table's ``family`` of tests. ``restates_baseline`` marks
        cells in which every structure has Dice 0: their ΔDice is the baseline's Dice, and no finding of its own.
    """
    joined = pairs.merge(descriptors, on=["case", "structure"], how="inner")
    records = []
    for key, of_cell in cells(joined):
        delta = of_cell["delta_dice"].to_numpy(dtype=float)
        restates = bool((of_cell["dice"] == 0).all())
        for name in names:
            figures = _figures(of_cell[name].to_numpy(dtype=float), delta, test)
            records.append({**key._asdict(), "descriptor": name, "restates_baseline": restates, **figures})
    table = pd.DataFrame.from_records(records, columns=list(CORRELATION_COLUMNS))
    adjusted = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    table = table.assign(q=adjusted.q, family=adjusted.size)
    return table.assign(significant=table["q"] < SIGNIFICANT)


def _figures(values: Floats, delta: Floats, test: str) -> dict[str, float]:
    linear, rank = pearson(values, delta), spearman(values, delta)
    tested = linear if test == "pearson" else rank
    figures: dict[str, float] = {"r": linear.r, "rho": rank.r, "n": tested.n}
    if tested.n < FEWEST_CASES:
        return figures | dict.fromkeys(("low", "high", "p"), math.nan)
    return figures | {"low": tested.low, "high": tested.high, "p": tested.p}
