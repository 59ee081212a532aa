from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.comparison import Margins, Settings
from analysis.comparison.judgement import holm_adjusted
from analysis.comparison.quantities import cases_to_decide, mean_interval, quantity, state_of
from analysis.errors import AnalysisError
from analysis.statistics import Interval, bootstrap_interval

SETTINGS = Settings(flips=499, resamples=499)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [
        (-0.05, -0.01, "superior"),
        (-0.01, 0.01, "equivalent"),
        (-0.02, 0.01, "non-inferior"),
        (-0.30, 0.0, "non-inferior"),
        (-0.01, 0.02, "inconclusive"),
        (0.02, 0.05, "inconclusive"),
        (0.021, 0.05, "inferior"),
        (np.nan, np.nan, "inconclusive"),
    ],
)
def test_states(low: float, high: float, state: str) -> None:
    assert state_of(Interval(low, high, 0.9, 1), 0.02) == state


@pytest.mark.parametrize("n", [1, 2, 50])
def test_no_difference_at_all_is_equivalent(n: int) -> None:
    found = quantity("clean", np.zeros(n), 0.02, SETTINGS)
    assert found.state == "equivalent"
    assert (found.mean, found.p, found.zeros, found.cases_to_decide) == (0.0, 1.0, n, None)


def test_the_mean_sees_what_the_median_does_not() -> None:
    values = np.repeat([0.8, 0.0], [8, 92])
    found = quantity("clean", values, 0.02, Settings()).in_family(0.01, 0.05)
    assert found.mean == pytest.approx(0.064)
    assert found.median == found.hodges_lehmann == 0
    assert found.p < 0.01
    assert found.is_regression
    assert not found.is_non_inferior


@pytest.mark.parametrize("values", [[], [np.nan], [0.01], [0.5]])
def test_hardly_any_case_shows_nothing(values: list[float]) -> None:
    found = quantity("clean", values, 0.02, SETTINGS)
    assert found.state == "inconclusive"
    assert found.cases_to_decide is None
    assert not found.in_family(1.0, 0.05).is_regression
    assert None in found.to_dict().values()


@pytest.mark.parametrize("n", [8, 30, 300])
def test_the_interval_has_the_width_of_student(n: int) -> None:
    # Normal scores, whose bootstrap distribution is close to normal.
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)
    found = quantity("clean", [*values, np.nan], 0.02, Settings(flips=9))
    low, high = stats.t.interval(0.9, n - 1, values.mean(), stats.sem(values))
    assert found.low == pytest.approx(low, rel=0.06)
    assert found.high == pytest.approx(high, rel=0.06)
    assert found.undefined == 1


def test_the_interval_of_many_cases_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(0).exponential(0.05, 3000)
    plain = bootstrap_interval(values, "mean", resamples=499, level=0.9)
    found = mean_interval(values, SETTINGS)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), rel=1e-3)
    assert found.level == 0.9


def test_a_significant_trifle_is_no_regression() -> None:
    found = quantity("clean", np.full(50, 0.001), 0.02, SETTINGS).in_family(0.008, 0.05)
    assert found.p <= 0.01
    assert not found.is_regression
    assert found.state == "equivalent"


@pytest.mark.parametrize("n", [3, 7, 30, 50])
def test_a_harm_of_the_margin_is_neither_above_nor_below_it(n: int) -> None:
    found = quantity("clean", np.full(n, 0.02), 0.02, SETTINGS).in_family(0.01, 0.05)
    assert found.state == "inconclusive"
    assert not found.is_regression


def test_cases_to_decide_by_hand() -> None:
    # SD 0.1, distance 0.02: (1.6449 + 0.8416)^2 * 25 = 154.6.
    values = np.array([-0.1, 0.1] * 50) * np.sqrt(99 / 100)
    assert cases_to_decide(values, 0.02) == 155


def test_the_suggested_number_of_cases_decides_in_four_of_five_cohorts() -> None:
    rng = np.random.default_rng(4)
    sample = rng.normal(0, 1, 2000)
    sample = 0.1 * (sample - sample.mean()) / sample.std(ddof=1)
    n = cases_to_decide(sample, 0.02)
    assert n is not None
    shown = [
        quantity("clean", rng.choice(sample, n), 0.02, Settings(flips=1, resamples=299, seed=seed)).is_non_inferior
        for seed in range(300)
    ]
    assert 0.73 < np.mean(shown) < 0.87


@pytest.mark.parametrize("values", [[0.5], [0.1, 0.1], [0.02, 0.02], [0.0, 0.04]])
def test_no_number_of_cases_can_be_given(values: list[float]) -> None:
    assert cases_to_decide(values, 0.02) is None


# The oracle collects garbage on each call, which takes a while.
@settings(max_examples=20, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_as_statsmodels(p: list[float]) -> None:
    np.testing.assert_allclose(holm_adjusted(p), multipletests(p, method="holm")[1], atol=1e-12)


@pytest.mark.parametrize("value", [0, -0.1, 2, float("nan"), float("inf"), True, "0.1"])
def test_a_margin_must_be_a_fraction(value: object) -> None:
    with pytest.raises(AnalysisError, match="margin clean = "):
        Margins(clean=value)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"flips": 0}, {"resamples": 0}])
def test_settings_must_make_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(AnalysisError, match="expected alpha between 0 and 1"):
        Settings(**wrong)  # type: ignore[arg-type]
