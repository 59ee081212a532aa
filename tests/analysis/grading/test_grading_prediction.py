"""Telling usable contours: against scikit-learn, resampling one draw at a time, and figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from analysis.errors import AnalysisError
from analysis.grading.cut_off import best_cut_off
from analysis.grading.grades import Grades, Part, parts
from analysis.grading.prediction import predict_usability
from analysis.statistics import RESAMPLES
from analysis.statistics.case_bootstrap import auc_of_draws, case_draws, percentile_interval

Lines = list[dict[str, Any]]
ReadLines = Callable[[Lines], Grades]
DrawnItems = Callable[..., list[np.ndarray]]


def lines_of(metric: list[Any], grades: list[list[int]], cases: list[str] | None = None, name: str = "dice") -> Lines:
    """A rater per column of grades."""
    return [
        {
            "case": cases[i] if cases else f"c{i}",
            "item": i,
            "structure": "s",
            "rater": f"r{k}",
            "grade": grade,
            name: value,
        }
        for i, (value, given_grades) in enumerate(zip(metric, grades, strict=True))
        for k, grade in enumerate(given_grades)
    ]


def finite(values: pd.Series) -> np.ndarray:
    """scikit-learn refuses infinite scores; their rank is what counts."""
    return np.clip(values.to_numpy(dtype=float), -1e9, 1e9)


def pairwise_area(usable: np.ndarray, scores: np.ndarray) -> float:
    """By definition, and faster than scikit-learn: the share of pairs in which the usable one scores higher."""
    difference = scores[usable][:, None] - scores[~usable]
    return float(((difference > 0) + (difference == 0) / 2).mean()) if difference.size else float("nan")


def test_areas_with_scikit_learn(authors_grades: Grades) -> None:
    table = predict_usability(authors_grades).auc.set_index(["structure", "metric", "rater"])
    for part in parts(authors_grades):
        for metric in authors_grades.metrics:
            sign = -1 if metric == "hd_mm" else 1
            kept = part.items[metric].notna()
            scores = sign * finite(part.items[metric][kept])
            expected = [roc_auc_score(part.grades.loc[kept, r] >= 3, scores) for r in part.raters]
            found = [table.loc[(part.structure, metric, rater), "auc"] for rater in part.raters]
            assert found == pytest.approx(expected)
            assert table.loc[(part.structure, metric, "mean"), "auc"] == pytest.approx(np.mean(expected))
            better = table.loc[(part.structure, metric, "mean"), "better"]
            assert better == ("lower" if metric == "hd_mm" else "higher")


def test_intervals_one_resample_at_a_time(simulated: Grades, drawn_items: DrawnItems) -> None:
    """Unperturbed and perturbed contours together: up to three of a patient, drawn together."""
    part = next(part for part in parts(simulated, together=True) if part.graded == "all")
    table = predict_usability(simulated).auc.set_index(["graded", "structure", "metric", "rater"])
    scores, drawn = -finite(part.items["hd95_mm"]), drawn_items(part.cases, RESAMPLES)
    usable = (part.grades >= 3).to_numpy()
    for column, rater in enumerate(part.raters):
        areas = [pairwise_area(usable[items, column], scores[items]) for items in drawn]
        row = table.loc[("all", part.structure, "hd95_mm", rater)]
        assert [row["low"], row["high"]] == pytest.approx(np.nanquantile(areas, [0.025, 0.975]))
        assert (row["n"], row["cases"]) == (32, 16)


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.integers(0, 6), min_size=4, max_size=25),
    seed=st.integers(0, 10_000),
)
def test_area_of_every_resample(scores: list[int], seed: int) -> None:
    """Ties and all: each row of weights gives what scikit-learn gives for the repeated items."""
    rng = np.random.default_rng(seed)
    positive = rng.random(len(scores)) < 0.5
    draws = case_draws([f"c{i}" for i in range(len(scores))], resamples=8, seed=seed)
    found = auc_of_draws(np.array(scores, dtype=float), positive, draws)
    for weights, value in zip(draws, found, strict=True):
        rows = np.repeat(np.arange(len(scores)), weights.astype(int))
        if len(set(positive[rows])) < 2:
            assert np.isnan(value)
        else:
            assert value == pytest.approx(roc_auc_score(positive[rows], np.array(scores)[rows]))


def test_direction_is_fixed_beforehand(grades_of: ReadLines) -> None:
    """A metric that ranks the wrong way round stays below 0.5 until it is said that lower is better."""
    lines = lines_of(list(range(20)), [[5 - i // 4] for i in range(20)], name="volume_error")
    grades = grades_of(lines)
    assert predict_usability(grades).auc["auc"].tolist() == [0.0]
    part = next(parts(grades))
    assert "expected direction" in best_cut_off(part, "volume_error", (), case_draws(part.cases))["reason"]
    turned = predict_usability(grades, ["volume_error"])
    assert turned.auc["auc"].tolist() == [1.0]
    cut_off = turned.cut_offs.iloc[0]
    assert (cut_off["rule"], cut_off["cut_off"], cut_off["youden"]) == ("<=", 11, 1)
    with pytest.raises(AnalysisError, match="did you mean 'volume_error'"):
        predict_usability(grades, ["volume_eror"])


def test_infinite_distances_are_worst_and_undefined_ones_are_counted(grades_of: ReadLines) -> None:
    distance = ["inf", 9, 3, 4, "", "inf", 2, 5, 1, 6, 7, 8, "inf"]
    grades = [[1], [3], [5], [4], [1], [2], [4], [4], [5], [3], [1], [3], [3]]
    table = predict_usability(grades_of(lines_of(distance, grades, name="hd95_mm")))
    row = table.auc.iloc[0]
    defined = [(-1e9 if d == "inf" else -float(d), g[0] >= 3) for d, g in zip(distance, grades, strict=True) if d != ""]
    assert row["auc"] == pytest.approx(roc_auc_score([u for _, u in defined], [s for s, _ in defined]))
    assert (row["n"], row["undefined"], row["infinite"]) == (12, 1, 3)


def brute_force(part: Part, metric: str, sign: int) -> tuple[float, float]:
    """Highest Youden index over pooled grades by scikit-learn's curve, and the strictest threshold that has it."""
    usable = part.usable().ravel()
    scores = np.repeat(sign * finite(part.items[metric]), len(part.raters))
    kept = ~(np.isnan(usable) | np.isnan(scores))
    false_rate, sensitivity, thresholds = roc_curve(usable[kept], scores[kept], drop_intermediate=False)
    index = np.round(sensitivity - false_rate, 12)
    return float(index.max()), float(sign * thresholds[index == index.max()].max())


@pytest.mark.parametrize(("metric", "sign"), [("dice", 1), ("hd_mm", -1)])
def test_cut_offs_with_scikit_learn(authors_grades: Grades, metric: str, sign: int) -> None:
    for part in parts(authors_grades):
        found = best_cut_off(part, metric, ("hd_mm",), case_draws(part.cases))
        index, threshold = brute_force(part, metric, sign)
        assert (found["youden"], found["cut_off"]) == (pytest.approx(index), pytest.approx(threshold))
        assert found["youden"] == pytest.approx(found["sensitivity"] + found["specificity"] - 1)
        defined = part.items[metric].notna().to_numpy()
        counts = (2 * defined.sum(), defined.sum())
        assert (found["rule"], found["n"], found["cases"]) == (">=" if sign > 0 else "<=", *counts)
        values = np.repeat(part.items[metric].to_numpy()[defined], 2)
        called = values >= found["cut_off"] if sign > 0 else values <= found["cut_off"]
        usable = part.usable()[defined].ravel() == 1
        assert found["sensitivity"] == pytest.approx(called[usable].mean())
        assert found["specificity"] == pytest.approx(1 - called[~usable].mean())


def test_optimism_one_resample_at_a_time(simulated: Grades) -> None:
    """Found anew in every resample, judged by the patients that were not drawn; up to three contours of a patient."""
    part = next(part for part in parts(simulated, together=True) if part.graded == "all")
    draws = case_draws(part.cases, resamples=200)
    found = best_cut_off(part, "dice", (), draws)
    usable, dice = part.usable(), part.items["dice"].to_numpy()

    def index(rows: np.ndarray, threshold: float) -> float:
        called, truth = np.repeat(dice[rows] >= threshold, usable.shape[1]), usable[rows].ravel() == 1
        return float(called[truth].mean() - called[~truth].mean())

    everything = np.arange(len(dice))
    judged, thresholds = [], []
    for weights in draws:
        rows, others = np.repeat(everything, weights.astype(int)), everything[weights == 0]
        if len(set(usable[rows].ravel())) < 2 or len(set(usable[others].ravel())) < 2:
            continue
        best = max(sorted(set(dice[rows]), reverse=True), key=lambda level: round(index(rows, level), 12))
        thresholds.append(best)
        judged.append(index(others, best))
    assert len(thresholds) > 150
    assert found["youden_corrected"] == pytest.approx(np.mean(judged))
    assert found["youden_corrected"] < found["youden"]
    expected = percentile_interval(np.array(thresholds), 16)
    assert (found["low"], found["high"]) == pytest.approx(expected)


def test_no_cut_off_that_new_patients_do_not_bear_out(grades_of: ReadLines) -> None:
    """Noise has a best cut-off, too; judged by patients that did not choose it, its index is not above 0."""
    rng = np.random.default_rng(3)
    grades = grades_of(lines_of(list(rng.normal(size=30)), [[4 if i % 2 else 2] for i in range(30)]))
    part = next(parts(grades))
    assert brute_force(part, "dice", 1)[0] > 0
    row = best_cut_off(part, "dice", (), case_draws(part.cases))
    assert row["reason"].startswith("no better than chance: corrected for optimism, Youden's J is ")
    assert "cut_off" not in row
    # Nor is one given where the metric does not rank better than chance.
    assert predict_usability(grades).cut_offs["reason"].tolist() == ["no better than chance"]


def test_a_cut_off_by_hand(grades_of: ReadLines) -> None:
    """Usable from 0.6 on but for one; 0.6 finds 5 of 6 usable ones and none of the other 6: J = 5/6."""
    dice = [0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.15]
    grades = [[1], [2], [1], [2], [2], [1], [3], [4], [5], [4], [3], [4]]
    row = predict_usability(grades_of(lines_of(dice, grades))).cut_offs.iloc[0]
    assert (row["cut_off"], row["sensitivity"], row["specificity"]) == (0.6, pytest.approx(5 / 6), 1)
    assert row["youden_corrected"] < row["youden"]


@pytest.mark.parametrize(
    ("grades", "cases", "reason"),
    [
        ([3, 4, 5] * 4, 12, "all contours are usable"),
        ([1, 2] * 6, 12, "no contour is usable"),
        ([1, 4, 5] * 3, 9, "fewer than 10 patients (9)"),
        ([1, 4, 5] * 4, 6, "fewer than 10 patients (6)"),
        ([1] * 4 + [4] * 26, 30, "not usable in fewer than 5 patients (4)"),
        ([5] * 4 + [2] * 26, 30, "usable in fewer than 5 patients (4)"),
        # Eight contours are not usable, of four patients.
        ([1] * 4 + [4] * 11 + [1] * 4 + [4] * 11, 15, "not usable in fewer than 5 patients (4)"),
    ],
)
def test_no_cut_off_and_why(grades_of: ReadLines, grades: list[int], cases: int, reason: str) -> None:
    names = [f"c{i % cases}" for i in range(len(grades))]
    metric = [g / 7 + (i % 5) / 9 for i, g in enumerate(grades)]
    found = predict_usability(grades_of(lines_of(metric, [[g] for g in grades], names)))
    row = found.cut_offs.iloc[0]
    assert row["reason"] == reason
    assert np.isnan(row["cut_off"])
    assert found.auc["interval"].tolist() in ([f"none: {reason}"], ["none"])
    assert found.auc[["low", "high"]].isna().all(axis=None)


def test_a_rater_who_finds_everything_usable(grades_of: ReadLines) -> None:
    grades = [[1 + i % 5, 4] for i in range(15)]
    found = predict_usability(grades_of(lines_of([i % 5 for i in range(15)], grades)))
    table = found.auc.set_index("rater")
    assert np.isnan(table.loc["r1", "auc"])
    assert table.loc["mean", "auc"] == table.loc["r0", "auc"] == 1
    assert table.loc["mean", "n"] == 15
    assert found.best["raters"].tolist() == ["r0"]
    # All resamples separate: that shows no spread.
    assert np.isnan(table.loc["r0", "low"])
    assert table.loc["r0", "interval"] == "none: all resamples give the same"
    assert (table.loc["mean", "raters"], table.loc["mean", "raters_used"], table.loc["mean", "raters_all"]) == (
        "r0",
        1,
        2,
    )


def test_an_area_without_spread_is_not_known_without_error(grades_of: ReadLines) -> None:
    """r0 grades by the metric and is told apart in every resample; r1 is not: the mean of both has no interval."""
    rng = np.random.default_rng(1)
    metric = list(range(30))
    grades = [[2 if i < 12 else 4, 2 if i + rng.normal(0, 9) < 12 else 4] for i in range(30)]
    table = predict_usability(grades_of(lines_of(metric, grades))).auc.set_index("rater")
    assert table.loc["r0", "auc"] == 1
    assert table.loc["r1", "low"] < table.loc["r1", "auc"] < table.loc["r1", "high"]
    assert np.isnan(table.loc["mean", ["low", "high"]].astype(float)).all()
    assert table.loc["mean", "interval"] == "none: all resamples give the same for r0"


def test_the_mean_counts_only_raters_who_have_an_area(grades_of: ReadLines) -> None:
    """r0 finds all 20 contours usable and adds nothing; r1 graded 8 and r2 12 of them, 5 both: 15 patients, too few."""
    rng = np.random.default_rng(0)
    grades = [[4, 1 + i % 5 if i < 8 else "", 1 + i % 5 if i % 2 or i in (2, 16) else ""] for i in range(20)]
    grades[16][2], grades[18][2] = 1, ""
    lines = lines_of(list(rng.normal(size=20)), grades)
    of_rater = {k: {row["case"] for row in lines if row["rater"] == f"r{k}" and row["grade"] != ""} for k in (1, 2)}
    found = predict_usability(grades_of(lines))
    mean = found.auc.set_index("rater").loc["mean"]
    assert len(of_rater[1]) == 8
    assert (mean["raters"], mean["raters_used"], mean["raters_all"]) == ("r1, r2", 2, 3)
    assert mean["cases"] == len(of_rater[1] | of_rater[2]) < 20
    assert mean["n"] == len(of_rater[1]) + len(of_rater[2])
    assert np.isnan(mean["low"])
    assert mean["interval"] == "none: fewer than 10 patients (8) for r1"
    assert found.cut_offs["reason"].tolist()[0].startswith(("no better", "fewer than 10 patients (8) for r1"))
