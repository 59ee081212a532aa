"""Tables of a run: rows in pairs, the unperturbed baseline, ΔDice of every cell."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from analysis.limit_table import Limits
from analysis.pairing import CellKey, absent_structures, cells, is_baseline, paired
from analysis.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    minimum_detectable_difference,
    quantile,
    signed_rank_test,
)
from analysis.verdict import summarise_cell, violations

__all__ = ["CELL_TABLE_COLUMNS", "baseline_table", "cell_table", "paired", "worst_cells"]

NO_EFFECT = 1e-3
"""A draw that changes the image by less (RMS over its SD) did nothing that a network could see."""

CELL_TABLE_COLUMNS = (
    *CellKey._fields,
    *("n", "undefined", "mean", "mean_low", "mean_high", "median", "median_low", "median_high"),
    *("q1", "q3", "iqr", "zero_differences", "draws_without_effect", "draws"),
    *("newly_missed", "nothing_predicted", "at_risk", "recovered", "restates_baseline"),
    *("false_positives", "absent", "p", "q", "family", "rank_biserial", "detectable"),
    *("worst_case", "worst_delta", "limited", "median_limit", "violations"),
)
"""Columns of :func:`cell_table`, in order."""


def baseline_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Summarise the model without perturbation, as the study's Table 2 does.

    Parameters
    ----------
    rows
        Rows of a run; only its baseline rows are used.

    Returns
    -------
    DataFrame
        One row per structure. ``n`` counts the cases whose reference has it and all figures are over these,
        except ``false_positives``, which is over the ``absent`` others. A missed structure has Dice 0 and an
        infinite HD95 that ranks as worst (``hd95_infinite`` counts them).
    """
    unperturbed = rows[is_baseline(rows)]
    records = [
        {"structure": structure, **_baseline_figures(of_structure)}
        for structure, of_structure in unperturbed.groupby("structure", sort=False)
    ]
    return pd.DataFrame.from_records(records)


def _baseline_figures(of_structure: pd.DataFrame) -> dict[str, Any]:
    has_reference = of_structure["reference_mm3"] > 0
    present, absent = of_structure[has_reference], of_structure[~has_reference]
    figures: dict[str, Any] = {
        "n": len(present),
        "undefined": int(present["dice"].isna().sum()),
        "dice_mean": present["dice"].mean(),
    }
    for column, name in (("dice", "dice"), ("hd95_mm", "hd95_mm")):
        values = present[column].to_numpy(dtype=float)
        figures |= {
            f"{name}_median": quantile(values, 0.5),
            f"{name}_q1": quantile(values, 0.25),
            f"{name}_q3": quantile(values, 0.75),
            f"{name}_iqr": _interquartile_range(present[column]),
        }
    figures["hd95_infinite"] = int((present["hd95_mm"] == math.inf).sum())
    for column in ("sensitivity", "specificity", "accuracy"):
        figures[f"{column}_mean"] = present[column].mean()
        figures[f"{column}_median"] = present[column].median()
    figures["missed"] = int((present["outcome"] == "missed").sum())
    figures["absent"] = len(absent)
    figures["false_positives"] = int((absent["outcome"] == "false_positive").sum())
    return figures


def cell_table(rows: pd.DataFrame, limits: Limits, seed: int = 0) -> pd.DataFrame:
    """Summarise ΔDice of all cells, with tests, intervals and broken limits.

    Structures that no reference contour has are left out; ``absent_structures`` says why.

    Parameters
    ----------
    rows
        Rows of a run, baseline rows included.
    limits
        The limits in force.
    seed
        Seed of the bootstrap.

    Returns
    -------
    DataFrame
        One row per cell in order of appearance. ``q`` is Benjamini-Hochberg over all cells of the run that
        could be tested, whose number is ``family``. ``draws_without_effect`` counts draws that changed the image by
        less than ``NO_EFFECT`` (NaN where that was not recorded; ``draws`` how many
        there are). Of the ``newly_missed``, ``nothing_predicted`` counts those without any prediction; in the others it
        lies elsewhere. ``restates_baseline`` marks a cell in which every structure has Dice 0: its ΔDice is the
        baseline's Dice and no finding of its own. ``detectable`` is the
        mean difference that a paired t-test would find with 80 % power. ``violations`` joins the broken limits in
        words, empty where there is none.
    """
    absent = absent_structures(rows)
    records = [
        _cell_figures(key, of_cell, limits, seed) for key, of_cell in cells(paired(rows)) if key.structure not in absent
    ]
    table = pd.DataFrame.from_records(records, columns=list(CELL_TABLE_COLUMNS))
    adjusted = benjamini_hochberg(table["p"].to_numpy(dtype=float))
    return table.assign(q=adjusted.q, family=adjusted.size)


def _cell_figures(key: CellKey, of_cell: pd.DataFrame, limits: Limits, seed: int) -> dict[str, Any]:
    summary = summarise_cell(of_cell, seed)
    present = of_cell["reference_present"]
    delta = of_cell.loc[present, "delta_dice"]
    mean_interval = bootstrap_interval(delta.to_numpy(dtype=float), "mean", seed=seed)
    test = signed_rank_test(delta.to_numpy(dtype=float))
    of_key = limits.of(*key)
    return {
        **key._asdict(),
        "n": summary.n,
        "undefined": summary.undefined,
        "mean": summary.mean,
        "mean_low": mean_interval.low,
        "mean_high": mean_interval.high,
        "median": summary.median,
        "median_low": summary.low,
        "median_high": summary.high,
        "q1": quantile(delta.to_numpy(dtype=float), 0.25),
        "q3": quantile(delta.to_numpy(dtype=float), 0.75),
        "iqr": _interquartile_range(delta),
        "zero_differences": summary.zero_differences,
        "draws_without_effect": _without_effect(of_cell["relative_change"]),
        "draws": int(of_cell["relative_change"].notna().sum()),
        "newly_missed": summary.newly_missed,
        "at_risk": summary.at_risk,
        "nothing_predicted": int(of_cell["nothing_predicted"].sum()),
        "recovered": int(of_cell["recovered"].sum()),
        "restates_baseline": bool(present.any() and (of_cell.loc[present, "dice"] == 0).all()),
        "false_positives": int(of_cell["false_positive"].sum()),
        "absent": int((~present).sum()),
        "p": test.p,
        "rank_biserial": test.rank_biserial,
        "detectable": minimum_detectable_difference(delta.to_numpy(dtype=float)),
        "worst_case": summary.worst_case,
        "worst_delta": summary.worst_delta,
        "limited": bool(of_key),
        "median_limit": math.nan if of_key.median_delta_dice is None else of_key.median_delta_dice,
        "violations": "; ".join(violations(summary, of_key)),
    }


def _without_effect(changes: pd.Series) -> float:
    return math.nan if changes.isna().all() else float((changes < NO_EFFECT).sum())


def _interquartile_range(values: pd.Series) -> float:
    low, high = (quantile(values.to_numpy(dtype=float), q) for q in (0.25, 0.75))
    # Between two infinite quartiles the range is undefined.
    return math.nan if math.isinf(low) else high - low


def worst_cells(table: pd.DataFrame, count: int = 5) -> pd.DataFrame:
    """Pick the cells with the largest median ΔDice, worst first; ties by share newly missed, then by mean.

    Parameters
    ----------
    table
        From :func:`cell_table`.
    count
        How many.
    """
    share = table["newly_missed"] / table["at_risk"].where(table["at_risk"] > 0)
    order = table.assign(share=share.fillna(0)).sort_values(
        ["median", "share", "mean"], ascending=False, kind="stable", na_position="last"
    )
    return order.head(count).drop(columns="share")


def worst_of_each_perturbation(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Pick the worst cell of every perturbed modality and perturbation, worst first.

    Parameters
    ----------
    table
        From :func:`cell_table`.
    count
        How many at most.
    """
    ordered = worst_cells(table, len(table))
    return ordered.drop_duplicates(["modality", "perturbation"]).head(count)
