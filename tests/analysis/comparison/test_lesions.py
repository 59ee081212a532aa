from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.comparison import cases_needed, lesion_bound, upper_limit


@given(total=st.integers(1, 300), share=st.floats(0, 1))
def test_upper_limit_as_scipy(total: int, share: float) -> None:
    events = round(total * share)
    interval = stats.binomtest(events, total, alternative="less").proportion_ci(0.95, method="exact")
    assert upper_limit(events, total) == pytest.approx(interval.high, abs=1e-9)


def test_none_of_45_excludes_no_less_than_six_per_cent() -> None:
    assert upper_limit(0, 45) == pytest.approx(0.0644, abs=5e-5)


def test_nothing_at_risk_promises_nothing() -> None:
    bound = lesion_bound(np.zeros((3, 2), bool), np.zeros((3, 2), bool), 0.1)
    assert bound.upper == 1.0
    assert not bound.met
    assert bound.to_dict()["share"] is None


@pytest.mark.parametrize(("limit", "events", "needed"), [(0.05, 0, 59), (0.05, 1, 93), (0.10, 0, 29), (1.0, 3, 4)])
def test_cases_that_a_promise_needs(limit: float, events: int, needed: int) -> None:
    assert cases_needed(limit, events) == needed


@given(limit=st.floats(0.01, 0.9), events=st.integers(0, 10))
def test_no_fewer_cases_would_do(limit: float, events: int) -> None:
    needed = cases_needed(limit, events)
    assert upper_limit(events, needed) < limit <= upper_limit(events, needed - 1) + 1e-12


def test_two_lesions_of_a_case_are_one_event() -> None:
    reference = np.array([[True, True], [True, False], [False, False]])
    candidate = np.array([[False, False], [True, True], [True, True]])
    bound = lesion_bound(reference, candidate, 0.1)
    assert (bound.events, bound.at_risk) == (1, 2)
    assert (bound.lesions_lost, bound.lesions_at_risk) == (2, 3)
    assert bound.needed_for_promise == 59
