"""Statistics against published values, scipy, statsmodels and enumeration."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.statistics import benjamini_hochberg, bootstrap_interval, quantile, signed_rank_test

differences = st.lists(st.floats(-1, 1).map(lambda x: round(x, 2)), min_size=3, max_size=40)


@pytest.fixture(scope="module")
def published(oracles: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((oracles / "statistics.json").read_text())
    return content


def differences_of(entry: dict[str, Any]) -> list[float]:
    if "x" in entry:
        return [float(x - y) for x, y in zip(entry["x"], entry["y"], strict=True)]
    if isinstance(entry["differences"], list):
        return entry["differences"]
    return [float(d) for d in np.repeat(np.arange(-4, 5), [1, 4, 16, 15, 8, 4, 5, 1, 2])]


class TestSignedRank:
    def test_agrees_with_published_values_for_dropped_zeros(self, published: dict[str, Any]) -> None:
        compared = 0
        for entry in published["wilcoxon_signed_rank"]:
            p = entry.get("p_nocorrection", entry.get("p"))
            if p is None or entry.get("zero_method", "wilcox") != "wilcox":
                continue
            result = signed_rank_test(differences_of(entry), method="asymptotic")
            assert result.statistic == entry["statistic"]
            assert result.p == pytest.approx(p, rel=1e-9)
            compared += 1
        assert compared == 3

    @pytest.mark.parametrize("n", [3, 5, 12, 30, 50])
    def test_exact_p_is_scipys_without_ties(self, n: int) -> None:
        d = np.random.default_rng(n).normal(0.2, 1, n)
        expected = stats.wilcoxon(d, method="exact")
        result = signed_rank_test(d)
        assert result.method == "exact"
        assert (result.statistic, result.p) == pytest.approx((expected.statistic, expected.pvalue))

    @pytest.mark.parametrize("d", [[1, 1, 1, 2], [1, -1, 2, 2, 3], [0.1, 0.1, -0.1, 0.3, 0.3, 0.3, -0.2, 0, 0]])
    def test_exact_p_with_ties_is_that_of_all_sign_flips(self, d: list[float]) -> None:
        nonzero = np.array([x for x in d if x])
        ranks = stats.rankdata(np.abs(nonzero))
        centred = [
            abs(sum(r * s for r, s in zip(ranks, signs, strict=True)))
            for signs in itertools.product([-1, 1], repeat=len(nonzero))
        ]
        observed = abs((ranks * np.sign(nonzero)).sum())
        expected = np.mean([c >= observed - 1e-9 for c in centred])
        assert signed_rank_test(d).p == pytest.approx(expected)

    def test_many_differences_take_the_normal_approximation(self) -> None:
        d = np.random.default_rng(1).normal(0.1, 1, 80).round(1)
        expected = stats.wilcoxon(d[d != 0], correction=False, method="asymptotic")
        result = signed_rank_test(d)
        assert result.method == "asymptotic"
        assert result.p == pytest.approx(expected.pvalue)

    def test_effect_size_by_hand(self) -> None:
        # ranks 1, 2, 3, 4; the differences -1 and 3 have ranks 1 and 3: W- = 1, W+ = 9
        assert signed_rank_test([-1, 2, 3, 4]).rank_biserial == pytest.approx((9 - 1) / 10)

    def test_floating_point_noise_is_neither_a_difference_nor_breaks_a_tie(self) -> None:
        noisy = signed_rank_test([0.1 + 0.2 - 0.3, 0.3, 0.1 + 0.2, 0.7, -0.2])
        clean = signed_rank_test([0.0, 0.3, 0.3, 0.7, -0.2])
        assert noisy == clean
        assert clean.zero_differences == 1

    @pytest.mark.parametrize(
        ("d", "p", "effect", "n", "zeros", "undefined"),
        [
            ([], math.nan, math.nan, 0, 0, 0),
            ([0.5], math.nan, 1.0, 1, 0, 0),
            ([0.5, -0.1], math.nan, 1 / 3, 2, 0, 0),
            ([0.0, 0.0], math.nan, 0.0, 2, 2, 0),
            ([0.0] * 5, 1.0, 0.0, 5, 5, 0),
            ([0.0, 0.0, 0.4], 1.0, 1.0, 3, 2, 0),
            ([math.nan] * 4, math.nan, math.nan, 0, 0, 4),
            ([math.nan, 1, 2, 3], 0.25, 1.0, 3, 0, 1),
            ([math.inf, 1, 2], 0.25, 1.0, 3, 0, 0),
        ],
    )
    def test_degenerate_input_has_a_defined_answer_and_no_warning(
        self, d: list[float], p: float, effect: float, n: int, zeros: int, undefined: int
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = signed_rank_test(d)
        assert (result.n, result.zero_differences, result.undefined) == (n, zeros, undefined)
        assert (result.p, result.rank_biserial) == pytest.approx((p, effect), nan_ok=True)

    @given(differences)
    def test_turning_all_signs_turns_only_the_effect(self, d: list[float]) -> None:
        result, turned = signed_rank_test(d), signed_rank_test([-x for x in d])
        assert turned.p == pytest.approx(result.p)
        assert turned.rank_biserial == pytest.approx(-result.rank_biserial)
        assert 0 < result.p <= 1
        assert -1 <= result.rank_biserial <= 1

    @given(differences, st.integers(0, 10))
    def test_zeros_change_nothing_but_their_count(self, d: list[float], zeros: int) -> None:
        result, more = signed_rank_test(d), signed_rank_test(d + [0.0] * zeros)
        assert (more.p, more.rank_biserial) == (result.p, result.rank_biserial)
        assert more.zero_differences == result.zero_differences + zeros


class TestBenjaminiHochberg:
    def test_agrees_with_published_values(self, published: dict[str, Any]) -> None:
        for entry in published["benjamini_hochberg"]:
            adjusted = benjamini_hochberg(entry["p"])
            assert adjusted.q == pytest.approx(entry["bh"], rel=1e-9)
            assert adjusted.size == len(entry["p"])

    @given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=60))
    def test_agrees_with_statsmodels_and_leaves_nan_out(self, p: list[float]) -> None:
        adjusted = benjamini_hochberg(p)
        tested = [x for x in p if not math.isnan(x)]
        expected = list(multipletests(tested, method="fdr_bh")[1]) if tested else []
        assert adjusted.size == len(tested)
        assert [q for q in adjusted.q if not math.isnan(q)] == pytest.approx(expected)
        assert [math.isnan(q) for q in adjusted.q] == [math.isnan(x) for x in p]

    def test_an_empty_family(self) -> None:
        assert benjamini_hochberg([]).size == 0
        assert benjamini_hochberg([math.nan]).size == 0


class TestBootstrap:
    def test_of_three_cases_is_that_of_all_resamples(self) -> None:
        values = [0.0, 0.2, 1.0]
        everything = np.array(list(itertools.product(values, repeat=3)))
        medians, means = np.median(everything, axis=1), everything.mean(axis=1)
        median = bootstrap_interval(values, "median", resamples=20_000)
        assert (median.low, median.high) == (np.quantile(medians, 0.025), np.quantile(medians, 0.975))
        mean = bootstrap_interval(values, "mean", resamples=20_000, level=0.8)
        assert (mean.low, mean.high) == pytest.approx((np.quantile(means, 0.1), np.quantile(means, 0.9)), abs=1e-9)

    @pytest.mark.parametrize("statistic", ["median", "mean"])
    def test_agrees_with_scipys_percentile_bootstrap(self, statistic: Any) -> None:
        values = np.random.default_rng(3).gamma(2, 0.1, 40)
        expected = stats.bootstrap(
            (values,), getattr(np, statistic), method="percentile", n_resamples=20_000, rng=np.random.default_rng(8)
        ).confidence_interval
        interval = bootstrap_interval(values, statistic, resamples=20_000)
        assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=0.004)

    def test_the_seed_decides(self) -> None:
        values = np.random.default_rng(4).normal(size=25)
        first = bootstrap_interval(values, "mean", seed=1)
        np.random.default_rng().random()
        assert bootstrap_interval(values, "mean", seed=1) == first
        assert bootstrap_interval(values, "mean", seed=2) != first

    def test_degenerate_input(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for values in ([], [0.3], [math.nan, 0.3]):
                interval = bootstrap_interval(values, "median")
                assert math.isnan(interval.low)
                assert math.isnan(interval.high)
            assert bootstrap_interval([0.3, 0.3, math.nan], "mean").high == 0.3
            assert bootstrap_interval([1.0, 2.0, math.inf, math.inf], "median").high == math.inf

    @given(st.lists(st.floats(-1, 1), min_size=2, max_size=20))
    def test_lies_within_the_values(self, values: list[float]) -> None:
        interval = bootstrap_interval(values, "median", resamples=200)
        assert min(values) <= interval.low <= interval.high <= max(values)


class TestQuantile:
    @given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 1))
    def test_is_numpys_where_all_is_finite(self, values: list[float], q: float) -> None:
        assert quantile(values, q) == pytest.approx(np.quantile(values, q), rel=1e-9, abs=1e-6)

    @pytest.mark.parametrize(
        ("values", "q", "expected"),
        [
            ([1, 2, math.inf], 0.5, 2),
            ([1, math.inf], 0.5, math.inf),
            ([math.inf, math.inf, 1], 0.75, math.inf),
            ([1, 3, math.inf, math.inf, math.inf], 0.25, 3),
            ([2, math.nan, 4], 0.5, 3),
            ([math.nan], 0.5, math.nan),
            ([], 0.5, math.nan),
        ],
    )
    def test_an_infinite_value_keeps_its_rank(self, values: list[float], q: float, expected: float) -> None:
        assert quantile(values, q) == pytest.approx(expected, nan_ok=True)
