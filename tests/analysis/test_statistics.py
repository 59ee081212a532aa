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
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from statsmodels.stats.multitest import multipletests

from analysis.statistics import (
    LIKERT,
    area_under_curve,
    benjamini_hochberg,
    bootstrap_interval,
    minimum_detectable_difference,
    pearson,
    quantile,
    signed_rank_test,
    spearman,
    weighted_kappa,
)
from analysis.statistics.association import KappaWeights

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


def raters_of(entry: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Two columns of grades, from runs such as ``0*46,1*44`` or from a table of counts."""
    if "table" in entry:
        pairs = [(i, j) for i, row in enumerate(entry["table"]) for j, n in enumerate(row) for _ in range(n)]
        return [float(i) for i, _ in pairs], [float(j) for _, j in pairs]
    if "y1" not in entry:
        return [], []
    runs = ([run.split("*") for run in entry[key].split(",")] for key in ("y1", "y2"))
    first, second = ([float(grade) for grade, count in column for _ in range(int(count))] for column in runs)
    return first, second


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
    def test_of_six_cases_is_that_of_all_resamples(self) -> None:
        values = [0.0, 0.1, 0.2, 0.4, 0.7, 1.0]
        everything = np.array(list(itertools.product(values, repeat=6)))
        medians, means = np.median(everything, axis=1), everything.mean(axis=1)
        median = bootstrap_interval(values, "median", resamples=20_000)
        assert (median.low, median.high) == pytest.approx((np.quantile(medians, 0.025), np.quantile(medians, 0.975)))
        mean = bootstrap_interval(values, "mean", resamples=20_000, level=0.8)
        assert (mean.low, mean.high) == pytest.approx((np.quantile(means, 0.1), np.quantile(means, 0.9)), abs=0.01)

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
            for values in ([], [0.3], [math.nan, 0.3], [0.1] * 5, [*range(5), math.nan]):
                interval = bootstrap_interval(values, "median")
                assert math.isnan(interval.low)
                assert math.isnan(interval.high)
            assert bootstrap_interval([0.3] * 6 + [math.nan], "mean").high == pytest.approx(0.3)
            assert bootstrap_interval([1.0, 2.0, 3.0] + [math.inf] * 3, "median").high == math.inf

    @given(st.lists(st.floats(-1, 1), min_size=6, max_size=20))
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


class TestZeros:
    def test_pratt_agrees_with_published_values(self, published: dict[str, Any]) -> None:
        entries = [e for e in published["wilcoxon_signed_rank"] if e.get("zero_method") == "pratt"]
        assert len(entries) == 2
        for entry in entries:
            result = signed_rank_test(differences_of(entry), method="asymptotic", zeros="pratt")
            assert result.statistic == entry["statistic"]
            assert result.p == pytest.approx(entry["p"], rel=1e-9)

    @given(differences)
    def test_without_zeros_both_rules_are_one(self, d: list[float]) -> None:
        nonzero = [x for x in d if x]
        assert signed_rank_test(nonzero, zeros="pratt") == signed_rank_test(nonzero)


class TestMinimumDetectableDifference:
    def test_agrees_with_the_textbook_example_of_g_power(self) -> None:
        # Faul et al. (2007), G*Power: 34 pairs find d = 0.5 with power 0.8078 at a two-sided level of 5 %.
        sample = stats.zscore(np.random.default_rng(0).normal(size=34), ddof=1)
        assert minimum_detectable_difference(sample, power=0.8077775) == pytest.approx(0.5, abs=1e-4)

    def test_simulated_tests_find_it_as_often_as_promised(self) -> None:
        rng = np.random.default_rng(1)
        detectable = minimum_detectable_difference(stats.zscore(rng.normal(size=12), ddof=1))
        p = stats.ttest_1samp(rng.normal(detectable, 1, (20_000, 12)), 0, axis=1).pvalue
        assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.01)

    @pytest.mark.parametrize(
        ("d", "expected"),
        [([], math.nan), ([*range(9)], math.nan), ([0.3] * 12, math.nan), ([*range(11), math.inf], math.nan)],
    )
    def test_degenerate_input(self, d: list[float], expected: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert minimum_detectable_difference(d) == pytest.approx(expected, nan_ok=True)

    @given(st.integers(10, 400))
    def test_more_cases_find_smaller_differences(self, n: int) -> None:
        sample = [(-1.0) ** i for i in range(n)]
        assert minimum_detectable_difference(sample * 2) < minimum_detectable_difference(sample)


class TestCorrelation:
    def test_spearman_agrees_with_r(self, published: dict[str, Any]) -> None:
        for entry in published["spearman"]:
            result = spearman(entry["x"], entry["y"])
            assert (result.r, result.p) == pytest.approx((entry["rho"], entry["p"]), rel=1e-9)

    @given(st.integers(9, 60), st.integers(0, 99))
    def test_pearson_agrees_with_scipy(self, n: int, seed: int) -> None:
        x, y = np.random.default_rng(seed).normal(size=(2, n))
        expected = stats.pearsonr(x, y)
        interval = expected.confidence_interval()
        result = pearson(x, y)
        assert (result.r, result.p) == pytest.approx((expected.statistic, expected.pvalue))
        assert (result.low, result.high) == pytest.approx((interval.low, interval.high))

    @pytest.mark.parametrize("correlate", [pearson, spearman])
    @pytest.mark.parametrize("n", [3, 4, 5])
    def test_no_straight_line_is_surer_than_a_permutation(self, correlate: Any, n: int) -> None:
        result = correlate(list(range(n)), list(range(n)))
        assert result.r == pytest.approx(1)
        assert result.p == pytest.approx(2 / math.factorial(n))
        assert math.isnan(result.low)

    @given(st.integers(9, 60), st.integers(0, 99))
    def test_spearman_agrees_with_scipy_with_ties(self, n: int, seed: int) -> None:
        x, y = np.random.default_rng(seed).integers(0, 5, size=(2, n)).astype(float)
        if np.ptp(x) and np.ptp(y):
            expected = stats.spearmanr(x, y)
            assert (spearman(x, y).r, spearman(x, y).p) == pytest.approx((expected.statistic, expected.pvalue))

    def test_spearmans_interval_covers_as_promised(self) -> None:
        rng = np.random.default_rng(2)
        rho, covered = 0.6, 0
        truth = 6 / math.pi * math.asin(rho / 2)  # Spearman's of a normal pair
        for _ in range(2000):
            x = rng.normal(size=40)
            result = spearman(x, rho * x + math.sqrt(1 - rho**2) * rng.normal(size=40))
            covered += result.low <= truth <= result.high
        assert covered / 2000 == pytest.approx(0.95, abs=0.015)

    @pytest.mark.parametrize("correlate", [pearson, spearman])
    @pytest.mark.parametrize(
        ("x", "y", "r"),
        [
            ([], [], math.nan),
            ([1, 2], [1, 2], math.nan),
            ([1, 1, 1, 1], [1, 2, 3, 4], math.nan),
            ([1, 2, 3, 4], [2, 4, 6, 8], 1.0),
            ([1, 2, 3, math.nan], [3, 2, 1, 9], -1.0),
        ],
    )
    def test_degenerate_input(self, correlate: Any, x: list[float], y: list[float], r: float) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = correlate(x, y)
        assert result.r == pytest.approx(r, nan_ok=True)
        assert result.n + result.undefined == len(x)

    def test_floating_point_noise_is_no_spread(self) -> None:
        assert math.isnan(pearson([0.1 + 0.2, 0.3, 0.3, 0.3], [1, 2, 3, 4]).r)

    def test_an_infinite_value_has_a_rank_but_no_product(self) -> None:
        assert spearman([1, 2, 3, math.inf], [1, 2, 3, 4]).r == pytest.approx(1)
        assert math.isnan(pearson([1, 2, 3, math.inf], [1, 2, 3, 4]).r)

    def test_columns_of_different_length_are_refused(self) -> None:
        with pytest.raises(ValueError, match="one length"):
            pearson([1, 2, 3], [1, 2])


class TestKappa:
    def test_agrees_with_published_tables(self, published: dict[str, Any]) -> None:
        compared = 0
        for entry in published["cohen_kappa"]:
            for weights, expected in entry.get("expected", {}).items():
                if "rater2" in entry:
                    continue  # R drops unused grades before weighting; the full scale is compared below
                first, second = raters_of(entry)
                scale = range(int(min(first + second)), int(max(first + second)) + 1)
                result = weighted_kappa(first, second, weights, tuple(scale))
                assert result.kappa == pytest.approx(expected, abs=0.6 * 10.0 ** -entry["places"])
                if weights in entry.get("se", {}):
                    assert result.standard_error == pytest.approx(entry["se"][weights], abs=1e-4)
                compared += 1
        assert compared == 6

    def test_weights_span_the_full_scale_where_a_grade_is_unused(self, published: dict[str, Any]) -> None:
        (entry,) = (e for e in published["cohen_kappa"] if "rater2" in e)
        for weights in ("quadratic", "linear"):
            result = weighted_kappa(entry["rater2"], entry["rater3"], weights, (1, 2, 3, 4, 5, 6))  # type: ignore[arg-type]
            assert result.kappa == pytest.approx(entry["computed_here_full_scale_1to6"][weights], rel=1e-9)

    @given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2, max_size=60))
    def test_agrees_with_scikit_learn_and_does_not_depend_on_the_order_of_raters(
        self, grades: list[tuple[int, int]]
    ) -> None:
        a, b = (list(column) for column in zip(*grades, strict=True))
        for weights in ("none", "linear", "quadratic"):
            result = weighted_kappa(a, b, weights)
            if len({*a, *b}) > 1:
                expected = cohen_kappa_score(a, b, labels=[*LIKERT], weights=None if weights == "none" else weights)
                assert result.kappa == pytest.approx(expected)
                assert math.isnan(result.low) or result.low <= result.kappa <= result.high
                fixed = abs(expected) == pytest.approx(1) or len(set(a)) == 1 or len(set(b)) == 1
                assert math.isnan(result.low) == (len(a) < 10 or fixed)
            assert weighted_kappa(b, a, weights).kappa == pytest.approx(result.kappa, nan_ok=True)

    def test_degenerate_input(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert math.isnan(weighted_kappa([], []).kappa)
            same = weighted_kappa([3] * 10, [3] * 10)
            full = weighted_kappa([1, 2, 5, 4], [1, 2, 5, 4])
            missing = weighted_kappa([1, 2, math.nan, 4], [1, 3, 3, 4])
        assert math.isnan(same.kappa)
        assert same.agreement == 1
        assert full.kappa == 1
        assert math.isnan(full.low)
        assert (missing.n, missing.undefined) == (3, 1)

    @pytest.mark.parametrize("varied", [[1] * 9 + [2], [5] * 9 + [1], [1, 2] * 20, [*LIKERT] * 12])
    @pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
    def test_a_rater_who_always_gives_the_same_leaves_no_interval(
        self, varied: list[int], weights: KappaWeights
    ) -> None:
        """Kappa is 0 by construction; an interval of rounding noise around it would look like certainty."""
        for constant in LIKERT:
            result = weighted_kappa(varied, [constant] * len(varied), weights)
            assert (result.kappa, math.isnan(result.low), math.isnan(result.high)) == (pytest.approx(0), True, True)

    def test_a_grade_off_the_scale_is_refused(self) -> None:
        with pytest.raises(ValueError, match="found the grade 6, expected one of 1, 2, 3, 4, 5"):
            weighted_kappa([1, 6], [1, 2])


class TestAreaUnderCurve:
    @given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=50))
    def test_agrees_with_scikit_learn(self, rows: list[tuple[int, bool]]) -> None:
        scores, positive = [float(score) for score, _ in rows], [flag for _, flag in rows]
        if len(set(positive)) == 1:
            assert math.isnan(area_under_curve(scores, positive))
        else:
            assert area_under_curve(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
