"""What a clinician asks first: from which severity on, how many lesions are lost, and for whom."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

import pandas as pd
from scipy import stats

from analysis.pairing import CELL_COLUMNS, is_baseline
from analysis.statistics import LEVEL

USABLE_DICE = 0.5
"""Where the study's contours begin to look poor; a mark for counting, no validated bound of usability."""

HARMLESS_MEDIAN = 0.05
"""The study's bound of the median ΔDice; the yardstick for cells without a limit of their own."""


def break_points(cells: pd.DataFrame) -> pd.DataFrame:
    """Find the first severity of each perturbation that is over its limit.

    Parameters
    ----------
    cells
        From :func:`analysis.tables.cell_table`.

    Returns
    -------
    DataFrame
        One row per modality, perturbation and structure: ``severity`` (NaN where no level is over), ``over`` and
        ``tested`` (the levels that are over, and those that have a ΔDice) and ``limited``: whether the limits in force
        decide, else the study's bound of the median.
    """
    over = (cells["violations"] != "") | (~cells["limited"].astype(bool) & (cells["median"] >= HARMLESS_MEDIAN))
    records = []
    for key, of_perturbation in cells.assign(over=over).groupby(["modality", "perturbation", "structure"], sort=False):
        names = dict(zip(("modality", "perturbation", "structure"), key, strict=True))
        levels = {
            name: tuple(sorted(int(level) for level in of_perturbation.loc[chosen, "severity"]))
            for name, chosen in (("over", of_perturbation["over"]), ("tested", of_perturbation["n"] > 0))
        }
        first = min(levels["over"], default=math.nan)
        records.append(names | {"severity": first, **levels, "limited": bool(of_perturbation["limited"].all())})
    columns = ["modality", "perturbation", "structure", "severity", "over", "tested", "limited"]
    return pd.DataFrame.from_records(records, columns=columns)


def missed_rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Count structures that are missed, unperturbed and in the variant that misses most.

    Parameters
    ----------
    rows
        Rows of a run.

    Returns
    -------
    DataFrame
        One row per structure that a reference has: ``missed`` of ``n`` without perturbation with the exact 95 %
        interval (Clopper-Pearson) ``low`` to ``high`` of the rate; ``perturbed_missed`` of ``perturbed_n`` over all
        variants; ``worst_variant`` with ``worst_missed`` of ``worst_n``, and ``equally_bad`` others.
    """
    present = rows[rows["reference_mm3"] > 0].assign(missed=lambda of: of["outcome"] == "missed")
    records = [
        {"structure": structure, **_missed(of_structure)}
        for structure, of_structure in present.groupby("structure", sort=False)
    ]
    columns = ["structure", "missed", "n", "low", "high", "perturbed_missed", "perturbed_n"]
    columns += ["worst_variant", "worst_missed", "worst_n", "equally_bad"]
    return pd.DataFrame.from_records(records, columns=columns)


def _missed(of_structure: pd.DataFrame) -> dict[str, Any]:
    unperturbed = of_structure.loc[is_baseline(of_structure), "missed"]
    perturbed = of_structure[~is_baseline(of_structure)]
    low, high = clopper_pearson(int(unperturbed.sum()), len(unperturbed))
    figures: dict[str, Any] = {"missed": int(unperturbed.sum()), "n": len(unperturbed), "low": low, "high": high}
    figures |= {"perturbed_missed": int(perturbed["missed"].sum()), "perturbed_n": len(perturbed)}
    variants = perturbed.groupby(CELL_COLUMNS[:3], sort=False)["missed"].agg(["sum", "count"])
    if variants.empty:
        return figures | {"worst_variant": None, "worst_missed": 0, "worst_n": 0, "equally_bad": 0}
    rates = variants["sum"] / variants["count"]
    worst = rates.idxmax()
    counts = variants.loc[worst]
    figures |= {"worst_variant": " ".join(str(part) for part in worst), "worst_missed": int(counts["sum"])}
    return figures | {"worst_n": int(counts["count"]), "equally_bad": int((rates == rates[worst]).sum()) - 1}


def clopper_pearson(count: int, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a share; NaN where there is nothing to count among.

    Parameters
    ----------
    count, total
        Events, and trials.
    level
        Nominal coverage.
    """
    if not total:
        return math.nan, math.nan
    interval = stats.binomtest(count, total).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def crossings(pairs: pd.DataFrame) -> pd.DataFrame:
    """Name the cases whose contour falls below, or rises to, Dice 0.5 under perturbation.

    Parameters
    ----------
    pairs
        From :func:`analysis.pairing.paired`.

    Returns
    -------
    DataFrame
        One row per case, structure and direction: ``case``, ``structure``, ``baseline_dice``, ``direction``
        (``falls`` or ``rises``), ``furthest`` (lowest or highest Dice), ``count`` of ``variants`` and their names in
        ``which``, most first.
    """
    population = pairs[pairs["reference_present"]].dropna(subset="delta_dice")
    was, is_ = (population[column] >= USABLE_DICE for column in ("baseline_dice", "dice"))
    records = []
    for direction, flag in (("falls", was & ~is_), ("rises", ~was & is_)):
        marked = population.assign(crosses=flag)
        for (case, structure), of_case in marked.groupby(["case", "structure"], sort=False):
            if of_case["crosses"].any():
                found = {"case": case, "structure": structure, "baseline_dice": of_case["baseline_dice"].iloc[0]}
                furthest = of_case["dice"].min() if direction == "falls" else of_case["dice"].max()
                found |= {"direction": direction, "furthest": furthest, "variants": len(of_case)}
                found["count"] = int(of_case["crosses"].sum())
                records.append(found | {"which": _condensed(of_case[of_case["crosses"]])})
    columns = ["case", "structure", "baseline_dice", "direction", "furthest", "count", "variants", "which"]
    table = pd.DataFrame.from_records(records, columns=columns)
    return table.sort_values(["direction", "count"], ascending=[True, False], kind="stable", ignore_index=True)


def _condensed(variants: pd.DataFrame) -> str:
    """``CT spike 1-3, PET noise 3``."""
    keys = zip(variants["modality"], variants["perturbation"], variants["severity"], strict=True)
    names = []
    for (modality, perturbation), group in groupby(sorted(keys), key=lambda key: key[:2]):
        levels = [int(level) for *_, level in group]
        unbroken = len(levels) > 1 and levels == list(range(levels[0], levels[-1] + 1))
        names.append(
            f"{modality} {perturbation} "
            + (f"{levels[0]}-{levels[-1]}" if unbroken else ", ".join(str(level) for level in levels))
        )
    return "; ".join(names)
