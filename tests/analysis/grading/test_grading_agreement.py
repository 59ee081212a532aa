"""Agreement, strictness and repeats: against scikit-learn, scipy, published values, and figures worked out by hand."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from analysis.grading.agreement import agreement_table, difference_table, repeat_table
from analysis.grading.grades import Grades, parts
from analysis.statistics import LIKERT, signed_rank_test
from analysis.statistics.case_bootstrap import case_draws, correlation_of_draws, kappa_of_draws, percentile_interval

Lines = list[dict[str, Any]]
ReadLines = Callable[[Lines], Grades]
DrawnItems = Callable[..., list[np.ndarray]]


def line(case: str, rater: str, grade: int, repeat: int = 0, structure: str = "s") -> dict[str, Any]:
    return {"case": case, "structure": structure, "rater": rater, "grade": grade, "repeat": repeat}


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two raters, 30 items of 12 cases."""
    rng = np.random.default_rng(2)
    cases = np.array([f"c{index}" for index in rng.integers(0, 12, 30)])
    first = rng.integers(1, 6, 30).astype(float)
    return first, np.clip(first + rng.integers(-1, 2, 30), 1, 5), cases


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_of_resamples_by_scikit_learn(clustered: Any, drawn_items: DrawnItems, weights: str) -> None:
    """The same cases drawn one resample at a time."""
    first, second, cases = clustered
    found = kappa_of_draws(first, second, weights, case_draws(cases, resamples=150))  # type: ignore[arg-type]
    name = None if weights == "none" else weights
    expected = [
        cohen_kappa_score(first[drawn], second[drawn], weights=name, labels=list(LIKERT))
        for drawn in drawn_items(cases, 150)
    ]
    assert found == pytest.approx(expected)
    assert percentile_interval(found, 12) == pytest.approx(np.quantile(expected, [0.025, 0.975]))


@pytest.mark.parametrize("ranks", [True, False])
def test_correlation_of_resamples_by_scipy(clustered: Any, drawn_items: DrawnItems, ranks: bool) -> None:
    first, second, cases = clustered
    metric = first**3 + np.arange(30) % 4
    correlate = stats.spearmanr if ranks else stats.pearsonr
    expected = [correlate(metric[drawn], second[drawn]).statistic for drawn in drawn_items(cases, 150)]
    found = correlation_of_draws(metric, second, case_draws(cases, resamples=150), ranks=ranks)
    assert found == pytest.approx(expected)


def test_degenerate_resamples() -> None:
    """One grade throughout leaves nothing to agree on beyond chance; equal estimates show no spread."""
    draws = case_draws([f"c{index}" for index in range(12)], resamples=20)
    same = np.full(12, 3.0)
    assert np.isnan(kappa_of_draws(same, same, "quadratic", draws)).all()
    assert np.isnan(correlation_of_draws(same, np.arange(12.0), draws, ranks=True)).all()
    assert np.isnan(correlation_of_draws(same + 1e9, np.arange(12.0), draws, ranks=False)).all()
    infinite = np.append(np.inf, np.arange(11.0))
    assert np.isnan(correlation_of_draws(infinite, np.arange(12.0), draws, ranks=False)).all()
    assert np.isnan(percentile_interval(np.ones(20), 12)).all()
    assert np.isnan(percentile_interval(np.arange(20.0), 9)).all()
    assert np.isnan(percentile_interval(np.append(np.full(11, np.nan), np.arange(9.0)), 12)).all()


def test_draws_count_cases_not_items() -> None:
    draws = case_draws(["b", "a", "b", "c"], resamples=50, seed=3)
    assert (draws[:, 0] == draws[:, 2]).all()
    assert (draws[:, [0, 1, 3]].sum(axis=1) == 3).all()
    again = case_draws(["c", "b", "a"], resamples=50, seed=3)
    assert (again == draws[:, [3, 0, 1]]).all()


def run_lengths(text: str) -> list[int]:
    """``0*2,1*1`` is 0, 0, 1."""
    return [int(part.split("*")[0]) for part in text.split(",") for _ in range(int(part.split("*")[1]))]


@pytest.mark.parametrize("source", ["Artstein", "SAS"])
def test_published_kappas(oracles: Path, grades_of: ReadLines, source: str) -> None:
    """Three grades of which the scale has five: an example of Artstein and Poesio, and one of SAS PROC FREQ."""
    known = json.loads((oracles / "statistics.json").read_text())["cohen_kappa"]
    entry = next(found for found in known if source in found["source"])
    if "table" in entry:
        pairs = [key for key, count in np.ndenumerate(entry["table"]) for _ in range(count)]
    else:
        pairs = list(zip(run_lengths(entry["y1"]), run_lengths(entry["y2"]), strict=True))
    lines = [line(f"c{i}", rater, 1 + of) for i, pair in enumerate(pairs) for rater, of in zip("xy", pair, strict=True)]
    found = agreement_table(grades_of(lines)).set_index("statistic")["value"]
    assert len(entry["expected"]) >= 2
    for name, value in entry["expected"].items():
        assert found[f"kappa_{name}"] == pytest.approx(value, abs=10 ** -entry["places"])


def test_the_studys_agreement(authors_grades: Grades) -> None:
    """0.648 and 0.612, Pearson 0.658 and 0.635, as worked out elsewhere from the public table."""
    table = agreement_table(authors_grades).set_index(["structure", "statistic"])
    for structure, kappa, pearson in (("GTVp", 0.648, 0.658), ("GTVn", 0.612, 0.635)):
        assert round(table.loc[(structure, "kappa_quadratic"), "value"], 3) == kappa
        assert round(table.loc[(structure, "pearson"), "value"], 3) == pearson
    for part in parts(authors_grades):
        first, second = part.grades.to_numpy().T
        same = table.loc[(part.structure, "percent_agreement")]
        assert same["value"] == pytest.approx(100 * np.mean(first == second))
        assert same["interval"] == "Wilson"
        near = table.loc[(part.structure, "percent_within_one"), "value"]
        assert near == pytest.approx(100 * np.mean(abs(first - second) <= 1))
        linear = cohen_kappa_score(first, second, weights="linear", labels=list(LIKERT))
        assert table.loc[(part.structure, "kappa_linear"), "value"] == pytest.approx(linear)


def test_patients_that_are_there_twice_change_the_interval(simulated: Grades) -> None:
    table = agreement_table(simulated)
    kinds = table[table["statistic"] == "kappa_quadratic"].groupby("graded")["interval"].unique()
    assert kinds["baseline"].tolist() == ["large-sample"]
    # Eight patients are too few for a bootstrap.
    assert kinds["perturbed"].tolist() == ["none"]
    assert set(table[table["graded"] == "perturbed"]["cases"]) == {8}


def test_three_raters_of_whom_one_has_gaps(grades_of: ReadLines) -> None:
    lines = [line(f"c{i}", rater, 1 + (i + shift) % 5) for i in range(6) for shift, rater in enumerate("xyz")]
    kept = [found for found in lines if not (found["rater"] == "z" and found["case"] in ("c0", "c1"))]
    table = agreement_table(grades_of(kept)).query("statistic == 'percent_agreement'")
    pairs = table[["first", "second", "n"]].to_numpy().tolist()
    assert pairs == [["x", "y", 6], ["x", "z", 4], ["y", "z", 4]]


def test_raters_who_share_nothing(grades_of: ReadLines) -> None:
    grades = grades_of([line("a", "x", 3), line("b", "y", 4)])
    assert agreement_table(grades)["value"].isna().all()
    assert set(agreement_table(grades)["n"]) == {0}
    row = difference_table(grades).iloc[0]
    assert (row["n"], row["family"]) == (0, 0)
    assert np.isnan([row["mean_difference"], row["p"], row["q"]]).all()


def test_strictness_with_scipy(authors_grades: Grades) -> None:
    table = difference_table(authors_grades)
    for part, (_, row) in zip(parts(authors_grades), table.iterrows(), strict=True):
        difference = (part.grades["observer_2"] - part.grades["observer_1"]).to_numpy()
        assert row["mean_difference"] == pytest.approx(difference.mean())  # a contour per patient
        assert row[["second_higher", "equal", "second_lower"]].tolist() == [
            (difference > 0).sum(),
            (difference == 0).sum(),
            (difference < 0).sum(),
        ]
        # All sign flips of these ranks, which scipy enumerates by permutation.
        nonzero = difference[difference != 0]
        ranks = stats.rankdata(abs(nonzero))
        effect = (ranks[nonzero > 0].sum() - ranks[nonzero < 0].sum()) / ranks.sum()
        assert row["rank_biserial"] == pytest.approx(effect)
        method = stats.PermutationMethod(n_resamples=np.inf)
        if len(nonzero) <= 12:
            assert row["p"] == pytest.approx(stats.wilcoxon(nonzero, method=method).pvalue)
    assert table["q"].to_numpy() == pytest.approx(stats.false_discovery_control(table["p"]))
    assert set(table["family"]) == {2}


def test_strictness_is_tested_with_a_value_per_patient(grades_of: ReadLines) -> None:
    """Each patient's mean of two structures' items; counting items instead would double every patient."""
    rng = np.random.default_rng(0)
    lines, means = [], []
    for case in range(9):
        steps = rng.integers(-2, 1, 2)
        means.append(steps.mean())
        for item, step in zip("ab", steps, strict=True):
            for rater, grade in (("x", 4), ("y", 4 + step)):
                lines.append(line(f"c{case}", rater, int(grade)) | {"item": f"{case}{item}"})
    row = difference_table(grades_of(lines)).iloc[0]
    expected = stats.wilcoxon([m for m in means if m], method=stats.PermutationMethod(n_resamples=np.inf)).pvalue
    assert (row["n"], row["cases"], row["mean_difference"]) == (18, 9, pytest.approx(np.mean(means)))
    assert row["p"] == pytest.approx(expected)
    assert row["p"] == signed_rank_test(means).p


def test_the_mean_difference_is_of_what_is_tested(grades_of: ReadLines) -> None:
    """Eight patients with a contour each, y one grade higher; one with ten, y two lower: (8 - 2) / 9, not -12 / 18."""
    steps = [(f"c{i}", 1) for i in range(8)] + [("c8", -2)] * 10
    lines = [
        line(case, rater, 4 + step * (rater == "y")) | {"item": i}
        for i, (case, step) in enumerate(steps)
        for rater in "xy"
    ]
    row = difference_table(grades_of(lines)).iloc[0]
    assert row["mean_difference"] == pytest.approx(6 / 9)
    assert row[["second_higher", "second_lower", "cases", "zero_differences"]].tolist() == [8, 10, 9, 0]
    assert row["rank_biserial"] > 0


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ([1 + i % 5 for i in range(12)], "none: x gave one grade only, so that kappa is 0 by construction"),
        ([3] * 12, "none: x gave one grade only, so that kappa is 0 by construction"),
        ([4] * 12, "none: all grades are the same"),
    ],
)
def test_no_kappa_where_a_rater_gave_one_grade(grades_of: ReadLines, second: list[int], reason: str) -> None:
    """scikit-learn gives 0 whatever the other rater says, or NaN."""
    with warnings.catch_warnings(action="ignore"):
        assert not cohen_kappa_score([4] * 12, second, weights="quadratic", labels=list(LIKERT)) > 0
    lines = [line(f"c{i}", rater, grade) for i, of in enumerate(second) for rater, grade in (("x", 4), ("y", of))]
    lines += [line(f"c{i}", "x", 4, repeat=1) for i in range(11)]
    grades = grades_of(lines)
    kappas = agreement_table(grades).set_index("statistic").filter(like="kappa", axis=0)
    assert len(kappas) == 3
    assert kappas[["value", "low", "high"]].isna().all(axis=None)
    assert set(kappas["interval"]) == {reason}
    of_x = repeat_table(grades).set_index(["rater", "structure", "statistic"]).loc[("x", "all", "kappa_quadratic")]
    assert np.isnan(of_x["value"])
    assert of_x["interval"] == "none: all grades are the same"


def test_repeats_by_hand(grades_of: ReadLines) -> None:
    """x repeats 4 of 5 grades exactly and gives one 2 points higher; y was shown no repeat."""
    lines = [line(f"c{i}", rater, 1 + i % 5) for i in range(6) for rater in "xy"]
    lines += [line(f"c{i}", "x", 1 + i % 5 + 2 * (i == 2), repeat=1) for i in range(5)]
    grades = grades_of(lines)
    table = repeat_table(grades).set_index(["rater", "structure", "statistic"])
    assert set(table.index.get_level_values("rater")) == {"x"}
    of_x = table.loc[("x", "all")]
    assert of_x.loc["percent_agreement", "value"] == 80
    assert of_x.loc["percent_within_one", "value"] == 80
    assert of_x.loc["mean_difference", "value"] == pytest.approx(0.4)
    kappa = cohen_kappa_score([1, 2, 3, 4, 5], [1, 2, 5, 4, 5], weights="quadratic", labels=list(LIKERT))
    assert of_x.loc["kappa_quadratic", "value"] == pytest.approx(kappa)
    assert of_x["low"].isna().all()
    assert set(of_x["interval"]) == {"none"}
    # What is shown twice counts once elsewhere.
    assert set(agreement_table(grades)["n"]) == {6}
    assert agreement_table(grades).set_index("statistic").loc["percent_agreement", "value"] == 100


def test_repeats_with_an_interval(grades_of: ReadLines, simulated_lines: Callable[..., Lines]) -> None:
    grades = grades_of(simulated_lines(cases=24, repeats=True))
    table = repeat_table(grades)
    pooled = table[(table["structure"] == "all") & (table["statistic"] == "kappa_quadratic")]
    assert set(pooled["interval"]) == {"bootstrap over cases"}
    assert (pooled["low"] < pooled["value"]).all()
    assert (pooled["value"] < pooled["high"]).all()
    assert set(pooled["cases"]) == {12}
    assert set(pooled["n"]) == {72}
