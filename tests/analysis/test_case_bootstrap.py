"""Statistics of many resamples at once, against one resample at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from analysis.statistics import case_bootstrap
from analysis.statistics.case_bootstrap import auc_of_draws, case_draws, correlation_of_draws, estimate_of_draws

PAIRS = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(-3, 3) | st.just(np.inf), st.integers(-3, 3)),
    min_size=1,
    max_size=25,
)


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
