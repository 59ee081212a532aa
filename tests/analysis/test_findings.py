"""What is missing, and what a run says in sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from analysis.completeness import check_completeness
from analysis.findings import (
    break_points_in_words,
    degradation_in_words,
    hidden_losses,
    state_of,
    unproven_limits,
    verdict_line,
    what_is_missing,
    worst_cells_in_words,
)
from analysis.pairing import paired
from analysis.safety import break_points
from analysis.scores import degradation_scores
from analysis.tables import cell_table
from analysis.verdict import Limits, judge

MakeRow = Callable[..., dict[str, Any]]
MakeSettings = Callable[..., dict[str, Any]]
BASE = (None, "baseline", 0)


@pytest.fixture
def rows(make_row: MakeRow) -> pd.DataFrame:
    """Four cases, two modalities, blur and spike once each; CT spike erases three lesions of four."""
    dice = {
        BASE: (0.8, 0.8, 0.8, 0.8),
        ("CT", "blur", 1): (0.8, 0.79, 0.78, 0.8),
        ("PET", "blur", 1): (0.8, 0.8, 0.8, 0.0),
        ("CT", "spike", 1): (0.0, 0.0, 0.0, 0.6),
        ("PET", "spike", 1): (0.7, 0.7, 0.7, 0.7),
    }
    return pd.DataFrame(
        [make_row(c, v, "GTVp", d) for v, values in dice.items() for c, d in zip("abcd", values, strict=True)]
    )


def test_a_complete_run_passes(rows: pd.DataFrame, make_settings: MakeSettings) -> None:
    completeness = check_completeness(rows, make_settings("abcd", ["GTVp"]), {})
    assert completeness.is_complete
    assert (completeness.cases, completeness.variants) == (4, 5)
    verdict = judge(rows, Limits.load())
    assert state_of(verdict, completeness) == "pass"
    assert verdict_line(verdict, completeness) == "PASS: every limit is kept (2 cells judged, 2 without a limit)"


def test_missing_cases_variants_and_failures_are_named_and_no_pass(
    rows: pd.DataFrame, make_settings: MakeSettings
) -> None:
    partial = rows[~((rows["case"] == "b") & (rows["modality"] == "PET") & (rows["perturbation"] == "spike"))]
    completeness = check_completeness(partial, make_settings("abcde", ["GTVp"]), {"e": "truncated image"})
    assert completeness.missing_cases == ("e",)
    assert completeness.missing_variants == {"b": ("PET-spike-1",)}
    assert what_is_missing(completeness) == [
        "1 of 5 cases have no rows: e.",
        "Variants are missing in 1 case; b lacks 1 of 5: PET-spike-1.",
        "1 case could not be measured: e.",
    ]
    verdict = judge(partial, Limits.load())
    assert verdict.passed
    assert state_of(verdict, completeness) == "incomplete"
    assert verdict_line(verdict, completeness).startswith("INCOMPLETE, no verdict")


def test_a_variant_that_no_case_has_is_missed_only_where_the_run_records_its_grid(
    rows: pd.DataFrame, make_settings: MakeSettings
) -> None:
    settings = make_settings("abcd", ["GTVp"])
    assert not check_completeness(rows, settings, {}).grid_is_recorded
    settings["catalogue"]["severities"] = {"blur": 1, "spike": 2}
    completeness = check_completeness(rows, settings, {})
    assert completeness.grid_is_recorded
    assert completeness.missing_variants["a"] == ("CT-spike-2", "PET-spike-2")
    # A modality without any row is noticed either way.
    only_ct = rows[rows["modality"] != "PET"]
    names = check_completeness(only_ct, make_settings("abcd", ["GTVp"]), {}).missing_variants["a"]
    assert names == ("PET-blur-1", "PET-spike-1")


def test_a_violation_fails_whatever_is_missing(rows: pd.DataFrame, make_settings: MakeSettings) -> None:
    bad = rows.copy()
    bad.loc[bad["modality"].eq("CT") & bad["perturbation"].eq("blur"), "dice"] = 0.5
    verdict = judge(bad, Limits.load())
    complete = check_completeness(bad, make_settings("abcd", ["GTVp"]), {})
    assert state_of(verdict, complete) == "fail"
    assert verdict_line(verdict, complete) == (
        "FAIL: 1 cell breaks a limit or cannot be judged (2 cells judged, 2 without a limit)"
    )
    incomplete = check_completeness(bad, make_settings("abcde", ["GTVp"]), {})
    assert verdict_line(verdict, incomplete).endswith("; the run is incomplete")


def test_a_run_without_limited_cells_is_not_judged(rows: pd.DataFrame, make_settings: MakeSettings) -> None:
    spikes = rows[rows["perturbation"] != "blur"]
    completeness = check_completeness(spikes, make_settings("abcd", ["GTVp"]), {})
    assert state_of(judge(spikes, Limits.load()), completeness) == "not judged"


def test_the_worst_cells_in_words(rows: pd.DataFrame) -> None:
    table = cell_table(rows, Limits.load())
    assert worst_cells_in_words(table, 2) == [
        "CT spike 1 loses GTVp in 3 of 4 patients where it was detected, in 3 to a prediction elsewhere "
        "(median ΔDice 0.800, n = 4)",
        "PET spike 1: median ΔDice 0.100, n = 4 in GTVp, lost in no patient",
    ]
    # Three of four cases lose nothing, one loses its lesion: the median is 0.
    assert hidden_losses(table, noun="phantom case") == [
        "PET blur 1 loses GTVp in 1 of 4 phantom cases where it was detected, in 1 to a prediction elsewhere "
        "(median ΔDice 0.000, n = 4)"
    ]


def test_break_points_in_words(rows: pd.DataFrame) -> None:
    points = break_points(cell_table(rows, Limits.load()))
    assert break_points_in_words(points) == [
        {"name": "CT blur", "cells": {"GTVp": "none of 1 to 1"}},
        {"name": "PET blur", "cells": {"GTVp": "none of 1 to 1"}},
        {"name": "CT spike", "cells": {"GTVp": "from 1 (no limit)"}},
        {"name": "PET spike", "cells": {"GTVp": "from 1 (no limit)"}},
    ]


def test_degradation_in_words(rows: pd.DataFrame) -> None:
    table = degradation_in_words(degradation_scores(paired(rows)))
    assert [(row["name"], row["total"]) for row in table] == [
        *(("CT blur", False), ("CT spike", False), ("CT all", True)),
        *(("PET blur", False), ("PET spike", False), ("PET all", True)),
    ]
    # 0.8 - (0, 0, 0, 0.6): mean 0.65
    assert table[1]["cells"]["GTVp"] == "0.650, n = 4"


def test_limits_that_are_kept_without_being_shown_to_be(rows_of_40: pd.DataFrame, rows: pd.DataFrame) -> None:
    table = cell_table(rows_of_40, Limits.load())
    kept = table[table["median_limit"].notna() & (table["violations"] == "")]
    reached = int((kept["median_high"] >= kept["median_limit"]).sum())
    words = unproven_limits(table)
    assert (f"in {reached} the 95 % interval reaches the limit" in words) == bool(reached)
    assert unproven_limits(cell_table(rows, Limits.load())) == (
        "Of 2 cells that keep a limit of the median, in 2 there are too few cases for an interval."
    )
