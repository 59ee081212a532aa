"""Metrics beside grades: against scipy and pandas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.grading.correlation import MEAN_OF_COEFFICIENTS, correlation_table
from analysis.grading.grades import Grades, parts

Lines = list[dict[str, Any]]
ReadLines = Callable[[Lines], Grades]


def test_coefficients_with_scipy(authors_grades: Grades) -> None:
    table = correlation_table(authors_grades).set_index(["structure", "metric", "rater", "method"])
    for part in parts(authors_grades):
        for metric in ("dice", "hd_mm", "specificity"):
            found = []
            for rater in part.raters:
                # The distance of one right empty contour is undefined.
                kept = part.items[metric].notna()
                expected = stats.spearmanr(part.items[metric][kept], part.grades[rater][kept])
                row = table.loc[(part.structure, metric, rater, "spearman")]
                assert (row["r"], row["p"]) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
                n = 31 if (part.structure, metric) == ("GTVn", "hd_mm") else 32
                assert (row["n"], row["cases"], row["interval"]) == (n, n, "Bonett-Wright")
                found.append(expected.statistic)
            mean = table.loc[(part.structure, metric, MEAN_OF_COEFFICIENTS, "spearman")]
            assert mean["r"] == pytest.approx(np.mean(found))
            assert np.isnan(mean["p"])
        pearson = stats.pearsonr(part.items["dice"], part.grades["observer_1"])
        row = table.loc[(part.structure, "dice", "observer_1", "pearson")]
        interval = pearson.confidence_interval()
        assert (row["r"], row["low"], row["high"]) == pytest.approx((pearson.statistic, *interval))


def test_families_are_of_one_method(authors_grades: Grades) -> None:
    table = correlation_table(authors_grades)
    for method, size in (("spearman", 24), ("pearson", 20)):
        of = table[(table["method"] == method) & table["p"].notna()]
        assert set(of["family"]) == {size} == {len(of)}
        assert of["q"].to_numpy() == pytest.approx(stats.false_discovery_control(of["p"]))


def test_an_infinite_distance_has_a_rank_and_no_line(authors_grades: Grades) -> None:
    rows = correlation_table(authors_grades).query(
        "metric == 'hd_mm' and structure == 'GTVp' and rater == 'observer_1'"
    )
    assert rows["infinite"].tolist() == [4, 4]
    assert rows.set_index("method")["r"].isna().to_dict() == {"spearman": False, "pearson": True}


def test_patients_that_are_there_twice_are_not_tested(
    grades_of: ReadLines, simulated_lines: Callable[..., Lines]
) -> None:
    grades = grades_of(simulated_lines(cases=28))
    table = correlation_table(grades)
    coefficients = table[table["rater"] != MEAN_OF_COEFFICIENTS]
    perturbed = coefficients[coefficients["graded"] == "perturbed"]
    spearman = perturbed[perturbed["method"] == "spearman"]
    assert perturbed["p"].isna().all()
    assert perturbed["q"].isna().all()
    assert set(spearman["interval"]) == {"bootstrap over cases"}
    assert (spearman["low"] < spearman["r"]).all()
    assert (spearman["r"] < spearman["high"]).all()
    assert set(spearman["n"]) == {28}
    assert set(spearman["cases"]) == {14}
    tested = coefficients[(coefficients["graded"] == "baseline") & (coefficients["method"] == "spearman")]
    assert set(tested["family"]) == {len(tested)} == {12}


def test_undefined_values_are_left_out_and_counted(grades_of: ReadLines) -> None:
    metric = ["", 0.1, 0.4, 0.3, "", 0.9, "inf"]
    lines = [
        {"case": f"c{i}", "structure": "s", "rater": "x", "grade": grade, "m": value}
        for i, (grade, value) in enumerate(zip([1, 1, 2, 3, 4, 5, 4], metric, strict=True))
    ]
    row = correlation_table(grades_of(lines)).set_index("method").loc["spearman"]
    expected = stats.spearmanr([0.1, 0.4, 0.3, 0.9, np.inf], [1, 2, 3, 5, 4]).statistic
    assert (row["n"], row["undefined"], row["infinite"], row["r"]) == (5, 2, 1, pytest.approx(expected))


def test_a_constant_metric_and_a_constant_grade(grades_of: ReadLines) -> None:
    lines = [
        {"case": f"c{i // 2}", "structure": "s", "rater": rater, "grade": grade, "m": 1, "k": i, "item": i}
        for i in range(24)
        for rater, grade in (("x", 3), ("y", 1 + i % 5))
    ]
    table = correlation_table(grades_of(lines))
    assert table.query("metric == 'm' or rater == 'x'")[["r", "p", "low"]].isna().all(axis=None)
    assert table.query("metric == 'k' and rater == 'y'")["r"].notna().all()
