"""ΔDice of every variant over the authors' rows, and the perturbations in order of harm."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.pairing import cells, is_baseline, paired
from analysis.published.layout import MODALITIES
from analysis.published.study import Study
from analysis.replication.baseline import interquartile_range
from analysis.statistics import benjamini_hochberg, quantile, signed_rank_test

CELL_COLUMNS = (
    *("modality", "perturbation", "severity", "structure", "n", "mean", "median", "q1", "q3", "iqr"),
    *("zero_differences", "p", "q", "family", "rank_biserial"),
    *("with_reference", "median_with_reference", "erased", "restates_baseline"),
)
RANKING_COLUMNS = (
    *("modality", "perturbation", "n", "mean", "median", "rank_by_mean", "rank_by_median"),
    *("cells", "cells_restating_baseline"),
)
TOGETHER = "together"
"""In the ranking, the rows of all modalities that are there."""
_PLACE = {name: place for place, name in enumerate((*MODALITIES, TOGETHER))}


def pairs_of(study: Study) -> pd.DataFrame:
    """Join every perturbed row with its baseline, as in a run of ours; empty without variants."""
    return paired(study.rows)


def cell_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Summarise ΔDice of every variant and structure, over all rows that the authors have.

    Parameters
    ----------
    pairs
        From :func:`pairs_of`.

    Returns
    -------
    DataFrame
        ``n`` counts all rows, also those without a reference. ``erased`` counts the structures with a reference
        (``with_reference``) of which nothing is found; where that is all of them, ``restates_baseline`` is true:
        their ΔDice is the baseline Dice, and the cell is no finding of its own. ``q`` is Benjamini-Hochberg over
        all ``family`` cells.
    """
    records = [{**key._asdict(), **_figures(of_cell)} for key, of_cell in cells(pairs)]
    table = pd.DataFrame.from_records(records, columns=list(CELL_COLUMNS))
    adjusted = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    return table.assign(q=adjusted.q, family=adjusted.size)


def _figures(of_cell: pd.DataFrame) -> dict[str, Any]:
    delta, present = of_cell["delta_dice"], of_cell["reference_present"]
    test = signed_rank_test(delta.to_numpy(dtype=float))
    erased = int((present & (of_cell["dice"] == 0)).sum())
    return {
        "n": test.n,
        "mean": float(delta.mean()),
        "median": _median(delta),
        "q1": quantile(delta.to_numpy(dtype=float), 0.25),
        "q3": quantile(delta.to_numpy(dtype=float), 0.75),
        "iqr": interquartile_range(delta),
        "zero_differences": test.zero_differences,
        "p": test.p,
        "rank_biserial": test.rank_biserial,
        "with_reference": int(present.sum()),
        "median_with_reference": _median(delta[present]),
        "erased": erased,
        "restates_baseline": bool(present.any()) and erased == int(present.sum()),
    }


def ranking_table(pairs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Rank perturbations by mean and by median ΔDice over all severities, structures and rows; 1 is worst.

    Parameters
    ----------
    pairs
        From :func:`pairs_of`.
    table
        From :func:`cell_table`, for the cells that only restate the baseline.
    """
    records: list[dict[str, Any]] = []
    for modality in (*MODALITIES, TOGETHER):
        part = pairs if modality == TOGETHER else pairs[pairs["modality"] == modality]
        known = table if modality == TOGETHER else table[table["modality"] == modality]
        for perturbation, rows in part.groupby("perturbation", sort=False):
            of_cells = known[known["perturbation"] == perturbation]
            records.append(
                {
                    "modality": modality,
                    "perturbation": perturbation,
                    "n": len(rows),
                    "mean": float(rows["delta_dice"].mean()),
                    "median": _median(rows["delta_dice"]),
                    "cells": len(of_cells),
                    "cells_restating_baseline": int(of_cells["restates_baseline"].sum()),
                }
            )
    ranking = pd.DataFrame.from_records(records, columns=list(RANKING_COLUMNS))
    for name in ("mean", "median"):
        ranks = ranking.groupby("modality", sort=False)[name].rank(ascending=False, method="min")
        ranking[f"rank_by_{name}"] = ranks.astype(int)
    # The sort is stable: modalities keep their order.
    by_rank = ranking.sort_values("rank_by_mean", kind="stable")
    return by_rank.sort_values("modality", key=lambda column: column.map(_PLACE), kind="stable", ignore_index=True)


def order_of_harm(pairs: pd.DataFrame, statistic: str = "mean") -> list[str]:
    """List the perturbations from most to least harmful."""
    harm = pairs.groupby("perturbation")["delta_dice"].agg(statistic)
    return [str(name) for name in harm.sort_values(ascending=False, kind="stable").index]


def has_variants(study: Study) -> bool:
    """Whether any perturbed table is there."""
    return not is_baseline(study.rows).all()


def _median(values: pd.Series) -> float:
    return float(values.median()) if len(values) else math.nan
