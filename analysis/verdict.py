"""The verdict: figures of a cell, the limits that it breaks in words, and pass or fail of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from analysis.formatting import number_beside
from analysis.limit_table import CellLimits, Limits
from analysis.pairing import CellKey, absent_structures, cells, paired
from analysis.statistics import DECIMALS, bootstrap_interval

__all__ = ["CellLimits", "CellSummary", "Limits", "Verdict", "judge", "summarise_cell", "violations"]


@dataclass(frozen=True)
class CellSummary:
    """ΔDice of one cell, over the cases whose reference has the structure.

    Attributes
    ----------
    n
        Cases with a ΔDice.
    median, low, high
        Median and its 95 % bootstrap interval over cases.
    mean
        Mean.
    newly_missed, at_risk
        Lesions that the perturbation made the model miss, of those detected in the baseline.
    worst_case, worst_delta
        The case that loses most, and what it loses.
    zero_differences
        Cases without any change.
    undefined
        Cases of the population that have no ΔDice: the baseline is missing, or a Dice is not a number.
    delta
        ΔDice of the cases, in ascending order.
    """

    n: int
    median: float
    low: float
    high: float
    mean: float
    newly_missed: int
    at_risk: int
    worst_case: str | None
    worst_delta: float
    zero_differences: int
    undefined: int = 0
    delta: tuple[float, ...] = field(default=(), repr=False)

    @property
    def newly_missed_share(self) -> float:
        """Newly missed per lesion at risk; NaN where none is."""
        return self.newly_missed / self.at_risk if self.at_risk else math.nan


@dataclass(frozen=True)
class Verdict:
    """What the limits say about a run.

    Attributes
    ----------
    passed
        At least one cell was judged and none has a violation.
    violations
        Broken limits and figures that could not be judged, in words, by cell.
    judged, without_limit
        Cells with and without a limit.
    excluded
        Cells of structures that no reference contour has, with the reason.
    """

    passed: bool
    violations: Mapping[CellKey, tuple[str, ...]]
    judged: tuple[CellKey, ...]
    without_limit: tuple[CellKey, ...]
    excluded: Mapping[CellKey, str]


def summarise_cell(pairs: pd.DataFrame, seed: int = 0) -> CellSummary:
    """Summarise one cell.

    Parameters
    ----------
    pairs
        The cell's rows of :func:`analysis.pairing.paired`; those without a reference contour are left out.
    seed
        Seed of the bootstrap.
    """
    population = pairs[pairs["reference_present"].astype(bool)]
    measured = population.dropna(subset="delta_dice")
    delta = measured["delta_dice"].to_numpy(dtype=float)
    interval = bootstrap_interval(delta, "median", seed=seed)
    # Of several worst cases the first by name, so that the answer does not depend on the order of the rows.
    ranked = measured.sort_values(["delta_dice", "case"], ascending=[False, True])
    return CellSummary(
        n=len(delta),
        median=float(measured["delta_dice"].median()),
        low=interval.low,
        high=interval.high,
        mean=float(measured["delta_dice"].mean()),
        newly_missed=int(population["newly_missed"].sum()),
        at_risk=int(population["at_risk"].sum()),
        worst_case=str(ranked["case"].iloc[0]) if len(ranked) else None,
        worst_delta=float(ranked["delta_dice"].iloc[0]) if len(ranked) else math.nan,
        zero_differences=int((delta == 0).sum()),
        undefined=len(population) - len(measured),
        delta=tuple(sorted(float(value) for value in delta)),
    )


def violations(summary: CellSummary, limits: CellLimits) -> list[str]:
    """Say which limits a cell breaks; empty where it keeps all of them.

    A cell without a single ΔDice, or with cases that have none, is a violation whatever its limits are: what
    could not be measured must not pass.

    Parameters
    ----------
    summary
        The cell's figures.
    limits
        Its limits.
    """
    if summary.n == 0:
        return ["no case with a reference contour has a ΔDice"]
    found = []
    if summary.undefined:
        found.append(f"ΔDice is undefined in {summary.undefined} of {summary.n + summary.undefined} cases")
    cases = f"n = {summary.n}"
    share = f"{summary.newly_missed} of {summary.at_risk} lesions"
    found += _violation("median ΔDice", summary.median, limits.median_delta_dice, cases)
    found += _violation("mean ΔDice", summary.mean, limits.mean_delta_dice, cases)
    worst = f"case {summary.worst_case}"
    found += _violation("worst ΔDice", summary.worst_delta, limits.worst_delta_dice, worst)
    if limits.cases_above is not None:
        above, allowed = limits.cases_above
        count = sum(value > above for value in summary.delta)
        name = f"share of cases that lose more than {above:g}"
        found += _violation(name, count / summary.n, allowed, f"{count} of {summary.n} cases")
    if limits.newly_missed_share is not None and not summary.at_risk:
        found.append("share of newly missed lesions is undefined: the baseline detects none")
    else:
        found += _violation(
            "share of newly missed lesions", summary.newly_missed_share, limits.newly_missed_share, share
        )
    return found


def _violation(name: str, value: float, limit: float | None, base: str) -> list[str]:
    if limit is None or round(value, DECIMALS) < limit:
        return []
    return [f"{name} {number_beside(value, limit, most=DECIMALS)} is not below its limit {limit:g} ({base})"]


def judge(rows: pd.DataFrame, limits: Limits) -> Verdict:
    """Judge every cell of a run.

    Parameters
    ----------
    rows
        Rows of a run, baseline rows included.
    limits
        The limits.
    """
    absent = absent_structures(rows)
    broken: dict[CellKey, tuple[str, ...]] = {}
    excluded: dict[CellKey, str] = {}
    judged: list[CellKey] = []
    without_limit: list[CellKey] = []
    for key, of_cell in cells(paired(rows)):
        if key.structure in absent:
            excluded[key] = absent[key.structure]
            continue
        of_key = limits.of(*key)
        (judged if of_key else without_limit).append(key)
        if found := violations(summarise_cell(of_cell), of_key):
            broken[key] = tuple(found)
    return Verdict(bool(judged) and not broken, broken, tuple(judged), tuple(without_limit), excluded)
