"""Statistics of many resamples at once, against one resample at a time."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.statistics import case_bootstrap
from analysis.statistics.case_bootstrap import (
    auc_of_draws,
    case_draws,
    correlation_of_draws,
    estimate_of_draws,
    mean_of_draws,
    percentile_interval,
)

CASES = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=25)
PAIRS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(-3, 3) | st.just(np.inf), st.integers(-3, 3)),
    min_size=1,
    max_size=25,
)


@given(CASES)
def test_a_resample_draws_as_many_whole_cases_as_there_are(cases: list[str]) -> None:
    draws = pd.DataFrame(case_draws(cases, resamples=7).T).groupby(cases)
    pd.testing.assert_frame_equal(draws.min(), draws.max())
    assert (draws.min().sum() == len(set(cases))).all()


def test_cases_are_drawn_with_replacement_and_equally_often() -> None:
    """The counts of one case are binomial, by scipy."""
    counts = case_draws(list("abbccc"), resamples=20_000)
    for of_case in (counts[:, 0], counts[:, 1], counts[:, 3]):
        found = np.bincount(of_case.astype(int), minlength=4)
        assert stats.chisquare(found, 20_000 * stats.binom(3, 1 / 3).pmf(range(4))).pvalue > 0.001


@given(CASES, st.randoms(use_true_random=False))
def test_the_order_of_items_changes_nothing(cases: list[str], chance: random.Random) -> None:
    order = chance.sample(range(len(cases)), len(cases))
    moved = case_draws([cases[index] for index in order], resamples=5)
    np.testing.assert_array_equal(moved, case_draws(cases, resamples=5)[:, order])


def test_copies_of_a_case_do_not_narrow_an_interval() -> None:
    """Thirty rows of each of 15 cases say what one of each says: scipy's bootstrap of the 15."""
    values, cases = np.random.default_rng(4).normal(size=15), [f"{number:02d}" for number in range(15)]
    intervals = []
    for copies in (1, 30):
        rows, of_case = np.repeat(values, copies), np.repeat(cases, copies)
        means = estimate_of_draws(partial(mean_of_draws, rows), of_case, resamples=20_000)
        intervals.append(percentile_interval(means, 15))
    assert intervals[0] == pytest.approx(intervals[1])
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert intervals[0] == pytest.approx(tuple(expected), abs=0.01)


@pytest.mark.parametrize(
    ("estimates", "cases"),
    [(np.arange(100.0), 9), (np.append(np.full(51, np.nan), np.arange(49.0)), 10), (np.full(100, 0.3), 10)],
    ids=["few cases", "mostly undefined", "no spread"],
)
def test_no_interval(estimates: np.ndarray, cases: int) -> None:
    assert np.isnan(percentile_interval(estimates, cases)).all()


def test_the_mean_of_nothing_is_undefined() -> None:
    found = mean_of_draws(np.array([1.0, 4.0]), np.array([[0.0, 0.0], [2.0, 1.0]]))
    assert found == pytest.approx([np.nan, 2], nan_ok=True)


@given(PAIRS)
def test_rank_statistics_equal_those_of_the_drawn_items(items: list[tuple[str, float, int]]) -> None:
    """scipy's Spearman and scikit-learn's area, with many ties and infinite values."""
    cases, x, y = (np.array(column) for column in zip(*items, strict=True))
    x, y, positive = x.astype(float), y.astype(float), y > 0
    draws = case_draws(cases, resamples=5)
    correlations, areas = correlation_of_draws(x, y, draws, ranks=True), auc_of_draws(x, positive, draws)
    for weights, correlation, area in zip(draws, correlations, areas, strict=True):
        drawn = np.repeat(np.arange(len(x)), weights.astype(int))
        ranks = stats.rankdata(x[drawn]), stats.rankdata(y[drawn])
        if min(map(np.ptp, ranks)) == 0:
            assert np.isnan(correlation)
        else:
            assert correlation == pytest.approx(stats.pearsonr(*ranks).statistic)
        if len(set(positive[drawn])) < 2:
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(positive[drawn], ranks[0]))


@pytest.mark.parametrize("most", [1, 7, 100, 10**9])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    cases = list("abcabcdde")
    values = np.random.default_rng(0).normal(size=(2, len(cases)))
    monkeypatch.setattr(case_bootstrap, "_MOST_WEIGHTS", most)
    found = estimate_of_draws(
        lambda draws: correlation_of_draws(*values, draws, ranks=True), cases, seed=3, resamples=8
    )
    expected = correlation_of_draws(*values, case_draws(cases, seed=3, resamples=8), ranks=True)
    np.testing.assert_allclose(found, expected, atol=1e-12)
