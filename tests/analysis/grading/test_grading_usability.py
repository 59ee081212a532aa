"""Shares and their intervals: against statsmodels, plain pandas, and figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from analysis.grading.grades import Grades, parts
from analysis.grading.usability import clustered_share, distribution_table, usability_table


def names(count: int) -> np.ndarray:
    return np.array([f"c{index}" for index in range(count)])


def expected_effective_size(hits: np.ndarray, cases: np.ndarray) -> float:
    """By the cluster-robust variance of statsmodels' regression on a constant, a row per grade."""
    raters = hits.shape[1]
    values, clusters = hits.ravel(), np.unique(np.repeat(cases, raters), return_inverse=True)[1]
    fit = sm.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    n, m, p = len(values), len(set(cases)), values.mean()
    freedom = (stats.t.ppf(0.975, n - 1) / stats.t.ppf(0.975, m - 1)) ** 2
    return float(p * (1 - p) / fit.bse[0] ** 2 * freedom)


@pytest.mark.parametrize(("hits", "n"), [(26, 32), (0, 12), (7, 7), (1, 1)])
def test_wilson_where_every_case_is_there_once(hits: int, n: int) -> None:
    found = clustered_share((np.arange(n) < hits).astype(float)[:, None], names(n))
    assert (found.low, found.high) == pytest.approx(proportion_confint(hits, n, method="wilson"))
    assert (found.count, found.n, found.cases, found.interval) == (hits, n, n, "Wilson")


@pytest.mark.parametrize("raters", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_effective_size_by_statsmodels(raters: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = np.sort(names(12)[rng.integers(0, 12, 30)])
    of_case = dict(zip(names(12), rng.normal(0.5, 1, 12), strict=True))
    hits = np.array([[float(of_case[case] + rng.normal(0, 0.5) > 0) for _ in range(raters)] for case in cases])
    effective = min(expected_effective_size(hits, cases), hits.size)
    found = clustered_share(hits, cases)
    assert found.share == pytest.approx(hits.mean())
    assert found.interval == f"Wilson, effective n = {effective:.1f}"
    low, high = proportion_confint(hits.mean() * effective, effective, method="wilson")
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_by_hand() -> None:
    """Two cases of two items, one all usable, one not at all: p = 1/2, v = 2 (1/4² + 1/4²) = 1/4, p (1 - p) / v = 1."""
    found = clustered_share(np.array([[1.0], [1.0], [0.0], [0.0]]), np.array(["a", "a", "b", "b"]))
    effective = (stats.t.ppf(0.975, 3) / stats.t.ppf(0.975, 1)) ** 2
    assert (found.share, found.cases) == (0.5, 2)
    assert (found.low, found.high) == pytest.approx(proportion_confint(effective / 2, effective, method="wilson"))


def test_without_variance_the_cases_count() -> None:
    """Four items of two cases, all usable: no more is known than from two."""
    found = clustered_share(np.ones((4, 1)), np.array(["a", "a", "b", "b"]))
    assert (found.low, found.high) == pytest.approx(proportion_confint(2, 2, method="wilson"))
    one = clustered_share(np.array([[1.0], [0.0]]), np.array(["a", "a"]))
    assert (one.low, one.high) == pytest.approx(proportion_confint(0.5, 1, method="wilson"))


def test_raters_with_gaps_count_alike() -> None:
    hits = np.array([[1.0, 0.0], [1.0, np.nan], [0.0, np.nan], [1.0, 1.0]])
    found = clustered_share(hits, names(4))
    assert found.share == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert (found.count, found.n, found.cases) == (4, 6, 4)
    nothing = clustered_share(np.full((3, 1), np.nan), names(3))
    assert (nothing.n, nothing.cases, nothing.interval) == (0, 0, "none")
    assert np.isnan([nothing.share, nothing.low, nothing.high]).all()


@settings(max_examples=150, deadline=None)
@given(
    hits=arrays(float, st.tuples(st.integers(1, 8), st.integers(1, 3)), elements=st.sampled_from([0.0, 1.0])),
    seed=st.integers(0, 1000),
)
def test_properties(hits: np.ndarray, seed: int) -> None:
    """It holds the share and is at least as wide as Wilson's of all grades; order and names do not matter."""
    rng = np.random.default_rng(seed)
    cases = names(4)[rng.integers(0, 4, len(hits))]
    found, order = clustered_share(hits, cases), rng.permutation(len(hits))
    assert 0 <= found.low <= found.share + 1e-12
    assert found.share - 1e-12 <= found.high <= 1
    again = clustered_share(hits[order], np.char.add("other", cases[order]))
    assert (again.low, again.high) == (pytest.approx(found.low), pytest.approx(found.high))
    low, high = proportion_confint(hits.mean() * hits.size, hits.size, method="wilson")
    assert found.high - found.low >= high - low - 1e-9
    turned = clustered_share(1 - hits, cases)
    assert (1 - turned.high, 1 - turned.low) == (pytest.approx(found.low), pytest.approx(found.high))


@pytest.mark.parametrize(("cases", "items", "raters"), [(32, 1, 2), (9, 2, 2), (12, 3, 1)])
def test_coverage(cases: int, items: int, raters: int) -> None:
    """Of 400 simulated studies whose contours share their patient's luck, about 95 % of intervals hold the truth."""
    rng = np.random.default_rng(5)
    # Mean 0.5 standard deviations above 0, of variance 1 + 0.5 + 0.5.
    truth, held = stats.norm.cdf(0.5), 0
    for _ in range(400):
        latent = np.sqrt(2) * 0.5 + rng.normal(0, 1, (cases, 1, 1)) + rng.normal(0, np.sqrt(0.5), (cases, items, 1))
        hits = (latent + rng.normal(0, np.sqrt(0.5), (cases, items, raters)) > 0).astype(float)
        found = clustered_share(hits.reshape(-1, raters), np.repeat(names(cases), items))
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.995


def test_the_published_shares(authors_grades: Grades) -> None:
    """79.7 % and 73.4 % (Schanne et al.), and 26, 25, 25 and 22 of 32 by counting in the table."""
    table = usability_table(authors_grades).set_index(["structure", "rater"])
    assert round(100 * table.loc[("GTVp", "mean"), "share"], 1) == 79.7
    assert round(100 * table.loc[("GTVn", "mean"), "share"], 1) == 73.4
    raters = table.drop("mean", level="rater")
    assert raters["usable"].tolist() == [26, 25, 25, 22]
    assert set(raters["interval"]) == {"Wilson"}
    assert set(table["cases"]) == {32}


def test_tables_with_pandas(simulated: Grades) -> None:
    rows = simulated.rows
    shares = rows.assign(usable=rows["grade"] >= 3).groupby(["graded", "structure", "rater"], sort=False)["usable"]
    table = usability_table(simulated)
    raters = table[table["rater"] != "mean"].set_index(["graded", "structure", "rater"])
    pd.testing.assert_series_equal(raters["share"], shares.mean(), check_names=False)
    assert raters["n"].to_dict() == shares.size().to_dict()
    assert raters["interval"].str.startswith("Wilson, effective").groupby("graded").all().to_dict() == {
        "baseline": False,
        "perturbed": True,
    }
    grades = distribution_table(simulated)
    counts = rows.value_counts(["graded", "structure", "rater", "grade"])
    found = grades[grades["count"] > 0].set_index(["graded", "structure", "rater", "grade"])["count"]
    assert found.to_dict() == counts.to_dict()
    assert grades.groupby(["graded", "structure", "rater"])["share"].sum().to_numpy() == pytest.approx(1)
    assert len(list(parts(simulated))) == 4
