"""What counts as the printed figure."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.replication.rounding import is_within, rounding_steps, takes_double_rounding, tolerance_of

values = st.floats(-1000, 1000)
decimals = st.integers(1, 4)


@pytest.mark.parametrize(
    ("printed", "tolerance"),
    [("0.5", 0.05), ("0.50", 0.005), ("0.678", 0.0005), ("79.7", 0.05), ("4", 0.0), ("0", 0.0)],
)
def test_the_tolerance_is_half_of_the_last_printed_digit(printed: str, tolerance: float) -> None:
    assert tolerance_of(printed) == tolerance


@pytest.mark.parametrize(
    ("value", "printed", "within", "twice"),
    [
        (0.658, "0.66", True, False),
        (0.648, "0.66", False, False),
        (0.6649, "0.67", False, True),
        (0.6645, "0.67", False, True),
        (0.6644, "0.67", False, False),
        (0.665, "0.67", True, False),
        (0.675, "0.67", True, False),
        (0.6751, "0.67", False, False),
        (27.8, "27.9", False, False),
        (27.849, "27.9", False, True),
        (3.96, "4", False, False),
        (4, "4", True, False),
        (math.nan, "0.5", False, False),
        (math.inf, "0.5", False, False),
        (-0.3146, "-0.32", False, True),
    ],
)
def test_within_or_only_by_rounding_twice(value: float, printed: str, within: bool, twice: bool) -> None:
    assert is_within(value, printed) is within
    assert takes_double_rounding(value, printed) is twice


def test_the_steps_of_rounding_twice_are_shown() -> None:
    assert rounding_steps(0.66453802, "0.67") == "0.6645, 0.665, 0.67"
    assert rounding_steps(0.8249579, "0.83") == "0.82496, 0.825, 0.83"


@given(value=values, digits=decimals)
def test_a_number_is_within_what_it_prints_as(value: float, digits: int) -> None:
    printed = str(round(Decimal(repr(value)), digits))
    assert is_within(value, printed)
    assert not takes_double_rounding(value, printed)


@given(value=values, digits=decimals, steps=st.integers(-20, 20))
def test_within_is_what_exact_arithmetic_says(value: float, digits: int, steps: int) -> None:
    unit = Decimal(1).scaleb(-digits)
    printed = round(Decimal(repr(value)), digits) + steps * unit
    distance = abs(Decimal(repr(value)) - printed)
    assert is_within(value, str(printed)) == (distance <= unit / 2)
    if takes_double_rounding(value, str(printed)):
        assert unit / 2 < distance <= unit / 2 + unit / 20


@given(last=st.integers(0, 998), next_digit=st.integers(0, 9))
def test_what_rounds_up_twice_is_found(last: int, next_digit: int) -> None:
    value, above = float(f"0.{last:03d}4{next_digit}"), f"0.{last + 1:03d}"
    assert takes_double_rounding(value, above) == (next_digit >= 5)
    assert is_within(value, f"0.{last:03d}")
