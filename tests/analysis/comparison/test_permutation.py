from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from analysis.comparison import hodges_lehmann, sign_flip_max_test, sign_flip_test

QUICK = settings(max_examples=60, deadline=None)
# Ties and zeros are the rule in Dice differences.
values_of = st.lists(st.integers(-8, 8).map(lambda value: value / 8), min_size=2, max_size=9)
matrices = st.tuples(st.integers(2, 7), st.integers(1, 5)).flatmap(
    lambda shape: arrays(float, shape, elements=st.integers(-4, 4).map(lambda value: value / 4))
)


def total(sample: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.sum(sample, axis=axis)


def scipy_p(values: object, resamples: float = np.inf) -> float:
    result = stats.permutation_test(
        (np.asarray(values),),
        total,
        permutation_type="samples",
        alternative="greater",
        n_resamples=resamples,
        vectorized=True,
    )
    return float(result.pvalue)


@QUICK
@given(values=values_of)
def test_all_flips_as_scipy(values: list[float]) -> None:
    test = sign_flip_test(values)
    assert test.exact
    assert test.p == pytest.approx(scipy_p(values), abs=1e-12)


def test_all_flips_of_twelve_cases_as_scipy() -> None:
    values = np.random.default_rng(3).normal(0.4, 1, 12)
    test = sign_flip_test(values)
    assert test.exact
    assert test.p == pytest.approx(scipy_p(values), abs=1e-12)


def test_random_flips_estimate_what_scipy_enumerates() -> None:
    values = np.random.default_rng(1).normal(0.4, 1, 15)
    exact, estimate = scipy_p(values), sign_flip_test(values)
    assert not estimate.exact
    assert estimate.p == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 9999))


def test_random_flips_never_give_zero() -> None:
    assert sign_flip_test(np.ones(40), flips=999).p == 1 / 1000


@pytest.mark.parametrize(("missed", "recovered"), [(7, 0), (5, 2), (9, 3), (1, 0), (6, 6)])
def test_missed_and_recovered_lesions_as_exact_mcnemar(missed: int, recovered: int) -> None:
    values = [1.0] * missed + [-1.0] * recovered + [0.0] * 30
    two_sided = mcnemar([[30, missed], [recovered, 3]], exact=True).pvalue
    test = sign_flip_test(values)
    if missed > recovered and test.exact:
        assert test.p == pytest.approx(two_sided / 2, abs=1e-12)
    assert test.p == pytest.approx(stats.binomtest(missed, missed + recovered, alternative="greater").pvalue, abs=0.02)


def test_zeros_and_undefined_cases_are_counted() -> None:
    test = sign_flip_test([0.5, 0.0, np.nan, 0.25])
    assert (test.n, test.zeros, test.undefined) == (3, 1, 1)
    assert test.p == 0.25


@pytest.mark.parametrize("values", [[], [0.0], [0.0] * 50, [np.nan]])
def test_nothing_that_differs_gives_one(values: list[float]) -> None:
    assert sign_flip_test(values).p == 1.0


def test_a_single_case_gives_a_half() -> None:
    assert sign_flip_test([0.3]).p == 0.5


@QUICK
@given(values=st.lists(st.floats(-1, 1), min_size=14, max_size=20), seed=st.integers(0, 100))
def test_the_order_of_the_cases_is_irrelevant(values: list[float], seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(values)
    assert sign_flip_test(shuffled, flips=99) == sign_flip_test(values, flips=99)


def step_down_by_definition(matrix: np.ndarray) -> np.ndarray:
    """Westfall and Young's algorithm, one flip at a time."""
    scale = np.sqrt((matrix**2).sum(axis=0))
    observed = matrix.sum(axis=0) / scale
    flips = [np.array(signs) @ matrix / scale for signs in itertools.product([1, -1], repeat=len(matrix))]
    order = np.argsort(-observed)
    adjusted, previous = np.empty(len(observed)), 0.0
    for position, column in enumerate(order):
        rest = order[position:]
        reached = np.mean([flip[rest].max() >= observed[column] - 1e-9 for flip in flips])
        adjusted[column] = previous = max(previous, float(reached))
    return adjusted


@QUICK
@given(matrix=matrices.filter(lambda matrix: (matrix != 0).any(axis=0).all()))
def test_max_t_by_its_definition(matrix: np.ndarray) -> None:
    test = sign_flip_max_test(matrix)
    np.testing.assert_allclose(test.adjusted, step_down_by_definition(matrix), atol=1e-12)
    np.testing.assert_allclose(test.p, [scipy_p(column) for column in matrix.T], atol=1e-12)
    assert test.p_any == min(test.adjusted)


@QUICK
@given(matrix=matrices, copies=st.integers(2, 4))
def test_duplicated_columns_change_nothing(matrix: np.ndarray, copies: int) -> None:
    once, often = sign_flip_max_test(matrix), sign_flip_max_test(np.tile(matrix, (1, copies)))
    assert often.adjusted == once.adjusted * copies


def test_duplicated_columns_change_nothing_with_random_flips() -> None:
    matrix = np.random.default_rng(0).normal(0.2, 1, (50, 20))
    once, often = sign_flip_max_test(matrix), sign_flip_max_test(np.tile(matrix, (1, 3)))
    assert often.adjusted == once.adjusted * 3


def test_adjusted_is_never_below_the_p_of_the_column() -> None:
    test = sign_flip_max_test(np.random.default_rng(0).normal(0.2, 1, (30, 12)))
    assert all(adjusted >= p for adjusted, p in zip(test.adjusted, test.p, strict=True))


def test_false_discovery_rate_as_statsmodels() -> None:
    test = sign_flip_max_test(np.random.default_rng(0).normal(0.2, 1, (30, 12)))
    np.testing.assert_allclose(test.q, multipletests(test.p, method="fdr_bh")[1])


def test_a_wide_column_does_not_hide_a_narrow_one() -> None:
    rng = np.random.default_rng(0)
    narrow = rng.normal(0.02, 0.01, (30, 1))
    test = sign_flip_max_test(np.hstack([narrow, rng.normal(0, 0.5, (30, 40))]))
    assert test.adjusted[0] < 0.01
    assert min(test.adjusted[1:]) > 0.05


def test_columns_without_spread_are_defined() -> None:
    matrix = np.column_stack([np.zeros(20), np.full(20, 0.1), np.full(20, -0.1), np.full(20, np.nan)])
    test = sign_flip_max_test(matrix, flips=999)
    assert test.p == (1.0, 0.001, 1.0, 1.0)
    assert test.adjusted == (1.0, 0.001, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (5, 0), (1, 1)])
def test_hardly_any_data_is_defined(shape: tuple[int, int]) -> None:
    test = sign_flip_max_test(np.zeros(shape))
    assert test.adjusted == (1.0,) * shape[1]
    assert test.p_any == 1.0


def test_no_change_alarms_at_the_level_that_was_asked_for() -> None:
    rng = np.random.default_rng(8)
    runs, alarms = 400, 0
    for seed in range(runs):
        shared = rng.normal(size=(20, 1))
        # Correlated cells, a third of them mostly zero.
        matrix = shared + rng.standard_t(3, size=(20, 12))
        matrix[:, :4] *= rng.random((20, 4)) < 0.2
        alarms += sign_flip_max_test(matrix, flips=199, seed=seed).p_any <= 0.05
    assert stats.binom.ppf(0.001, runs, 0.03) <= alarms <= stats.binom.ppf(0.999, runs, 0.05)


def test_hodges_lehmann_by_hand() -> None:
    # Walsh averages of 0, 1, 5: 0, 0.5, 1, 2.5, 3, 5.
    assert hodges_lehmann([5.0, np.nan, 0.0, 1.0]) == 1.75
    assert np.isnan(hodges_lehmann([]))
