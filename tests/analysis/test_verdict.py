"""Figures of a cell, broken limits in words, pass or fail of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.limit_table import CasesAbove
from analysis.pairing import CellKey
from analysis.tables import paired
from analysis.verdict import CellLimits, CellSummary, Limits, judge, summarise_cell, violations

MakeRow = Callable[..., dict[str, Any]]
BASE = (None, "baseline", 0)
SPIKE = ("CT", "spike", 2)
BLUR = ("CT", "blur", 1)


def summary(**changes: Any) -> CellSummary:
    figures: dict[str, Any] = {
        "n": 4, "median": 0.17, "low": 0.0, "high": 0.5, "mean": 0.2, "newly_missed": 1, "at_risk": 4,
        "worst_case": "b", "worst_delta": 0.6, "zero_differences": 0,
    }  # fmt: skip
    return CellSummary(**(figures | changes))


def rows_of(make_row: MakeRow, variant: Any, dice: dict[str, tuple[float, float]], **more: Any) -> list[dict[str, Any]]:
    """Baseline and perturbed rows of one structure, by case."""
    return [
        make_row(case, which, "GTVp", value, **more)
        for case, pair in dice.items()
        for which, value in zip((BASE, variant), pair, strict=True)
    ]


def test_a_cell_by_hand(make_row: MakeRow) -> None:
    dice = {"a": (0.8, 0.8), "b": (0.9, 0.0), "c": (0.6, 0.5), "d": (0.0, 0.2), "e": (0.7, 0.4)}
    rows = rows_of(make_row, SPIKE, dice)
    rows += [make_row("f", BASE, "GTVp", 1.0, 0, 0), make_row("f", SPIKE, "GTVp", 0.0, 0, 50)]
    s = summarise_cell(paired(pd.DataFrame(rows)))
    # ΔDice: 0, 0.9, 0.1, -0.2, 0.3; f has no reference
    assert (s.n, s.median, s.mean) == (5, pytest.approx(0.1), pytest.approx(0.22))
    assert (s.newly_missed, s.at_risk, s.zero_differences, s.undefined) == (1, 4, 1, 0)
    assert (s.worst_case, s.worst_delta) == ("b", pytest.approx(0.9))
    assert math.isnan(s.low)  # five cases are too few for an interval
    assert s.delta == pytest.approx((-0.2, 0, 0.1, 0.3, 0.9))


def test_of_equally_bad_cases_the_first_by_name_is_named(make_row: MakeRow) -> None:
    pairs = paired(pd.DataFrame(rows_of(make_row, SPIKE, {"b": (0.5, 0.1), "a": (0.5, 0.1), "c": (0.5, 0.4)})))
    assert summarise_cell(pairs).worst_case == "a"
    assert summarise_cell(pairs.iloc[::-1]) == summarise_cell(pairs)


def test_no_limit_no_violation() -> None:
    assert violations(summary(median=1.0, mean=1.0, newly_missed=4), CellLimits()) == []


def test_violations_are_words_with_numbers() -> None:
    found = violations(summary(), CellLimits(0.05, 0.1, 0.2))
    assert found == [
        "median ΔDice 0.17 is not below its limit 0.05 (n = 4)",
        "mean ΔDice 0.20 is not below its limit 0.1 (n = 4)",
        "share of newly missed lesions 0.25 is not below its limit 0.2 (1 of 4 lesions)",
    ]


@pytest.mark.parametrize(
    ("median", "found"),
    [
        (0.0499, None),
        (0.05, "median ΔDice 0.05 is not below its limit 0.05 (n = 4)"),
        (0.30 - 0.25, "median ΔDice 0.05 is not below its limit 0.05 (n = 4)"),
        (0.0502, "median ΔDice 0.0502 is not below its limit 0.05 (n = 4)"),
        (-0.2, None),
    ],
)
def test_the_comparison_is_strict_and_untouched_by_noise(median: float, found: str | None) -> None:
    assert violations(summary(median=median), CellLimits(median_delta_dice=0.05)) == ([found] if found else [])


@pytest.mark.parametrize("limits", [CellLimits(), CellLimits(0.05, 0.05, 0.5)])
def test_what_was_not_measured_never_passes(limits: CellLimits) -> None:
    nothing = summary(n=0, median=math.nan, mean=math.nan, newly_missed=0, at_risk=0, worst_case=None)
    assert violations(nothing, limits) == ["no case with a reference contour has a ΔDice"]
    broken = summary(median=0.0, mean=0.0, newly_missed=0, undefined=2)
    assert violations(broken, limits) == ["ΔDice is undefined in 2 of 6 cases"]


def test_a_share_of_no_lesions_never_passes() -> None:
    found = violations(summary(newly_missed=0, at_risk=0), CellLimits(newly_missed_share=0.5))
    assert found == ["share of newly missed lesions is undefined: the baseline detects none"]


def test_a_nan_dice_or_a_missing_baseline_is_counted_as_undefined(make_row: MakeRow) -> None:
    rows = rows_of(make_row, SPIKE, {"a": (0.8, 0.7), "b": (0.8, 0.7)})
    rows[1]["dice"] = math.nan
    rows.append(make_row("c", SPIKE, "GTVp", 0.5))
    s = summarise_cell(paired(pd.DataFrame(rows)))
    assert (s.n, s.undefined) == (1, 2)


def test_judge_names_the_cell_that_breaks_a_limit(make_row: MakeRow) -> None:
    rows = rows_of(make_row, BLUR, {"a": (0.8, 0.7), "b": (0.8, 0.6), "c": (0.7, 0.69)})
    rows += [make_row(case, SPIKE, "GTVp", 0.0) for case in "abc"]
    verdict = judge(pd.DataFrame(rows), Limits.load())
    blur, spike = CellKey("CT", "blur", 1, "GTVp"), CellKey("CT", "spike", 2, "GTVp")
    assert not verdict.passed
    assert verdict.violations == {blur: ("median ΔDice 0.10 is not below its limit 0.05 (n = 3)",)}
    assert (verdict.judged, verdict.without_limit, verdict.excluded) == ((blur,), (spike,), {})


def test_judge_passes_a_run_that_keeps_its_limits(make_row: MakeRow) -> None:
    rows = rows_of(make_row, BLUR, {"a": (0.8, 0.79), "b": (0.8, 0.3), "c": (0.7, 0.69)})
    assert judge(pd.DataFrame(rows), Limits.load()).passed


def test_a_run_without_a_limited_cell_does_not_pass(make_row: MakeRow) -> None:
    verdict = judge(pd.DataFrame(rows_of(make_row, SPIKE, {"a": (0.8, 0.8)})), Limits.load())
    assert not verdict.passed
    assert not verdict.violations


def test_a_structure_that_is_absent_everywhere_is_excluded_with_the_reason(make_row: MakeRow) -> None:
    rows = rows_of(make_row, BLUR, {"a": (0.8, 0.8), "b": (0.8, 0.8)})
    rows += [make_row(case, which, "GTVn", 1.0, 0, 0) for case in "ab" for which in (BASE, BLUR)]
    verdict = judge(pd.DataFrame(rows), Limits.load())
    absent = CellKey("CT", "blur", 1, "GTVn")
    assert verdict.passed
    assert verdict.excluded == {absent: "no reference contour of the 2 measured cases has GTVn"}
    assert absent not in verdict.judged


def test_a_cell_whose_cases_are_missing_fails_where_the_structure_exists(make_row: MakeRow, tmp_path: Path) -> None:
    rows = rows_of(make_row, BLUR, {"a": (0.8, 0.8)})
    rows += [make_row("b", BASE, "GTVp", 0.8), make_row("c", BASE, "GTVp", 1.0, 0, 0)]
    rows += [make_row("c", ("PET", "blur", 1), "GTVp", 1.0, 0, 0)]
    verdict = judge(pd.DataFrame(rows), Limits.load())
    assert list(verdict.violations) == [CellKey("PET", "blur", 1, "GTVp")]


def test_a_median_alone_passes_a_cell_that_erases_a_quarter_of_the_lesions() -> None:
    """10 of 43 erased: the median is 0, the other figures are not."""
    delta = (0.0,) * 33 + (0.8,) * 10
    cell = summary(n=43, median=0.0, mean=8 / 43, newly_missed=10, at_risk=43, worst_delta=0.8, delta=delta)
    assert violations(cell, CellLimits(median_delta_dice=0.05)) == []
    assert violations(cell, CellLimits(newly_missed_share=0.1)) == [
        "share of newly missed lesions 0.23 is not below its limit 0.1 (10 of 43 lesions)"
    ]
    assert violations(cell, CellLimits(cases_above=CasesAbove(0.3, 0.1))) == [
        "share of cases that lose more than 0.3 0.23 is not below its limit 0.1 (10 of 43 cases)"
    ]
    assert violations(cell, CellLimits(worst_delta_dice=0.5)) == [
        "worst ΔDice 0.80 is not below its limit 0.5 (case b)"
    ]
    assert violations(cell, CellLimits(worst_delta_dice=0.9, cases_above=CasesAbove(0.8, 0.1))) == []
