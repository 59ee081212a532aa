"""The rule that turns a figure and its alternatives into a verdict."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from analysis.replication.claim import (
    FIELDS,
    Alternative,
    Claim,
    Finding,
    Published,
    alternatives_for,
    judge,
    shared_matches,
)

FIGURE = Published("a.b", "source", "statement", "0.67")


def decided(value: Any, readings: dict[str, float] | None = None, **more: Any) -> Claim:
    return judge(FIGURE, Finding(value, "method", alternatives=alternatives_for("0.67", readings or {}), **more))


def test_the_stated_reading_decides_and_no_alternative_is_tried() -> None:
    claim = decided(0.672, {"other": 0.67})
    assert (claim.verdict, claim.alternative, claim.alternatives_tried, claim.gist) == ("reproduced", None, (), "")
    assert (claim.reported, claim.tolerance) == (0.67, 0.005)


def test_an_alternative_within_the_tolerance_goes_before_one_by_double_rounding() -> None:
    claim = decided(0.5, {"nothing": 0.4, "twice": 0.6649, "within": 0.668})
    assert (claim.verdict, claim.alternative) == ("reproduced_by_alternative", "within")
    assert [tried.within_tolerance for tried in claim.alternatives_tried] == [False, False, True]
    assert "3 alternatives tried" in claim.note
    assert "after-the-fact matching is no evidence of error" in claim.note
    assert "Also matching: twice." in claim.note


def test_double_rounding_is_said() -> None:
    claim = decided(0.5, {"twice": 0.6649})
    assert (claim.verdict, claim.alternative) == ("reproduced_by_alternative", "twice")
    assert "takes double rounding: 0.6649, 0.665, 0.67" in claim.note


def test_the_stated_value_may_itself_take_double_rounding() -> None:
    claim = decided(0.6649)
    assert (claim.verdict, claim.alternative) == ("reproduced_by_alternative", "as stated, rounded twice")


def test_a_reading_that_explains_both_structures_goes_first() -> None:
    here = alternatives_for("0.67", {"first": 0.67, "both": 0.6649})
    there = alternatives_for("0.5", {"first": 0.9, "both": 0.52})
    assert shared_matches([here, there]) == {"both"}
    assert shared_matches([]) == frozenset()
    claim = judge(FIGURE, Finding(0.1, "method", alternatives=here), shared=shared_matches([here, there]))
    assert claim.alternative == "both"


def test_nothing_matches() -> None:
    claim = decided(0.64, {"other": 0.6})
    assert (claim.verdict, claim.alternative) == ("not_reproduced", None)
    assert claim.note == "Off by 0.03, with a tolerance of 0.005. None of 1 alternative tried gives it either."


@pytest.mark.parametrize(
    ("value", "more", "verdict"),
    [
        (0.67, {"missing": "x.csv"}, "data_missing"),
        (0.1, {"missing": "x.csv"}, "data_missing"),
        (0.9, {"missing": "x.csv", "refuted": True}, "not_reproduced"),
        (None, {"missing": "x.csv"}, "data_missing"),
        (math.nan, {}, "not_reproduced"),
        (3, {"holds": True}, "reproduced"),
        (3, {"holds": False}, "not_reproduced"),
        (3, {"holds": True, "missing": "x.csv"}, "data_missing"),
    ],
)
def test_missing_tables_and_statements_without_a_figure(value: Any, more: dict[str, Any], verdict: str) -> None:
    claim = decided(value, {"other": 0.67}, **more) if "holds" not in more else decided(value, **more)
    if verdict == "not_reproduced" and not more:
        assert claim.verdict == "reproduced_by_alternative"
        assert claim.recomputed is None
        return
    assert claim.verdict == verdict
    assert claim.alternative is None
    assert ("Missing: x.csv." in claim.note) == ("missing" in more)


def test_a_record_has_the_columns_and_is_strict_json() -> None:
    tries = [Alternative("a", math.nan, False), Alternative("b", "text", True)]
    claim = judge(FIGURE, Finding(math.inf, "method", n=3, p=math.nan, alternatives=tries))
    record = claim.record()
    assert tuple(record) == FIELDS
    assert (record["recomputed"], record["p"]) == (None, None)
    assert record["alternatives_tried"][0] == {"name": "a", "value": None, "within_tolerance": False}
    json.dumps(record, allow_nan=False)
