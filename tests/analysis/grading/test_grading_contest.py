"""Which metric is the best: against scikit-learn, resampling one draw at a time, and figures worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from analysis.grading.contest import best_metric
from analysis.grading.grades import Grades, Part
from analysis.grading.prediction import predict_usability
from analysis.statistics.case_bootstrap import case_draws, percentile_interval

Lines = list[dict[str, Any]]
ReadLines = Callable[[Lines], Grades]


def lines_of(grades: Any, **metrics: Any) -> Lines:
    """One rater; a patient per contour."""
    return [
        {"case": f"c{i:03d}", "structure": "s", "rater": "r", "grade": int(grade)}
        | {name: values[i] for name, values in metrics.items()}
        for i, grade in enumerate(grades)
    ]


def simulated(n: int, seed: int, **noise: float) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Grades by a quality, and metrics that are this quality with noise."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(0, 1, n)
    grades = np.clip(np.round(3 + quality + rng.normal(0, 0.5, n)), 1, 5).astype(int)
    return grades, {name: quality + rng.normal(0, spread, n) for name, spread in noise.items()}


@pytest.mark.parametrize("seed", [2, 4])
def test_one_resample_at_a_time(grades_of: ReadLines, seed: int) -> None:
    """Chosen among what was drawn and judged by what was not; intervals are those of all resamples."""
    grades, metrics = simulated(30, seed, dice=1.0, other=0.8, third=0.9)
    found = predict_usability(grades_of(lines_of(grades, **metrics))).best.iloc[0]
    usable, names = grades >= 3, list(metrics)

    def areas(rows: np.ndarray) -> list[float]:
        return [float(roc_auc_score(usable[rows], metrics[name][rows])) for name in names]

    whole = dict(zip(names, areas(np.arange(30)), strict=True))
    best = max(whole, key=lambda name: whole[name])
    assert found["best"] == best
    assert found["auc"] == pytest.approx(whole[best])
    hits, judged, leads, differences = [], [], [], []
    for weights in case_draws([f"c{i:03d}" for i in range(30)]):
        rows, others = np.repeat(np.arange(30), weights.astype(int)), np.flatnonzero(weights == 0)
        inside = np.round(areas(rows), 12)
        chosen = int(np.argmax(inside))
        hits.append(inside[names.index(best)] == inside[chosen])
        differences.append(inside[names.index(best)] - inside[0])
        if len(set(usable[others])) < 2:
            continue
        outside = areas(others)
        judged.append(outside[chosen])
        leads.append(outside[chosen] - outside[0])
    assert 1900 < len(judged) < len(hits) == 2000
    assert found["best_share"] == pytest.approx(np.mean(hits))
    assert found["auc_corrected"] == pytest.approx(np.mean(judged))
    if best != "dice":
        assert found["difference_to_dice"] == pytest.approx(whole[best] - whole["dice"])
        assert found["difference_corrected"] == pytest.approx(np.mean(leads))
        interval = percentile_interval(np.array(differences), 30)
        assert (found["difference_low"], found["difference_high"]) == pytest.approx(interval)
    assert found["candidates"] == 3


def test_all_are_compared_on_the_same_contours(grades_of: ReadLines) -> None:
    """``hard`` is undefined for two contours that Dice gets wrong: on the other 28 both are as good as each other."""
    grades = np.array([2] * 14 + [4] * 16)
    dice = np.arange(30.0)
    dice[:2] = 90, 91
    hard: list[Any] = list(dice)
    hard[:2] = ["", ""]
    row = predict_usability(grades_of(lines_of(grades, dice=dice, hard=hard))).best.iloc[0]
    assert (row["contours"], row["cases"], row["left_out"]) == (28, 28, "")
    assert (row["best"], row["tied"], row["candidates"], row["auc"]) == ("dice", "hard", 1, 1)


@pytest.mark.parametrize(
    ("n", "undefined", "left_out"),
    [
        (30, 3, ""),
        (30, 4, "easy (26 of 30 contours, 26 patients)"),
        (11, 1, ""),
        (10, 1, "easy (9 of 10 contours, 9 patients)"),
    ],
)
def test_a_metric_that_is_undefined_too_often_is_left_out(
    grades_of: ReadLines, n: int, undefined: int, left_out: str
) -> None:
    grades, metrics = simulated(n, 1, dice=2.0)
    grades[:2] = 1, 5
    easy = ["" if i < undefined else int(grade) for i, grade in enumerate(grades)]
    row = predict_usability(grades_of(lines_of(grades, easy=easy, **metrics))).best.iloc[0]
    assert row["left_out"] == left_out
    assert row["best"] == ("dice" if left_out else "easy")
    assert row["contours"] == (n if left_out else n - undefined)


def test_metrics_that_rank_alike_are_one(grades_of: ReadLines) -> None:
    """Jaccard is D / (2 - D); Dice stands for both."""
    grades, metrics = simulated(30, 0, dice=1.0, other=3.0)
    dice = 1 / (1 + np.exp(-metrics["dice"]))
    lines = lines_of(grades, jaccard=dice / (2 - dice), other=metrics["other"], dice=dice)
    row = predict_usability(grades_of(lines)).best.iloc[0]
    assert (row["best"], row["tied"], row["candidates"]) == ("dice", "jaccard", 2)
    alone = predict_usability(grades_of(lines_of(grades, dice=dice, other=metrics["other"]))).best.iloc[0]
    figures = ["auc", "low", "high", "auc_corrected", "best_share"]
    assert row[figures].tolist() == alone[figures].tolist()


def test_equal_areas_without_equal_ranks_are_tied(grades_of: ReadLines) -> None:
    """Both separate, in another order within the kinds; without Dice the first column stands for both."""
    grades = [2] * 10 + [4] * 10
    row = predict_usability(
        grades_of(lines_of(grades, worse=[0] * 20, b=list(range(20)), a=[*range(10)][::-1] + [9.5] * 10))
    ).best.iloc[0]
    assert (row["best"], row["tied"], row["candidates"], row["best_share"]) == ("b", "a", 3, 1)
    assert row["auc"] == row["auc_corrected"] == 1
    assert (row["interval"], row["verdict"]) == ("none: all resamples give the same", "")


def test_one_metric_alone_was_not_chosen(grades_of: ReadLines) -> None:
    grades, metrics = simulated(30, 0, dice=0.5)
    row = predict_usability(grades_of(lines_of(grades, **metrics))).best.iloc[0]
    assert (row["best"], row["candidates"]) == ("dice", 1)
    assert row["low"] < row["auc"] < row["high"]
    assert np.isnan(row[["auc_corrected", "best_share"]].astype(float)).all()


@pytest.mark.parametrize(("noise", "verdict"), [(0.5, ""), (60.0, "no better than chance")])
def test_chance(grades_of: ReadLines, noise: float, verdict: str) -> None:
    grades, metrics = simulated(40, 5, dice=noise, b=noise, c=noise)
    prediction = predict_usability(grades_of(lines_of(grades, **metrics)))
    row = prediction.best.iloc[0]
    assert row["verdict"] == verdict
    assert (row["low"] > 0.5) == (not verdict)
    assert (prediction.cut_offs["reason"] == verdict).all()


def test_the_correction_undoes_the_choice() -> None:
    """Of nine metrics with a true area of 0.75 the best of 32 patients shows 0.87; corrected it is near the truth."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        usable = np.arange(32) < 22
        columns = {name: 0.954 * usable + rng.normal(size=32) for name in ("dice", *"abcdefgh")}
        items = pd.DataFrame({"case": [f"c{i}" for i in range(32)], **columns})
        part = Part("baseline", "s", items, pd.DataFrame({"r": np.where(usable, 4.0, 2.0)}))
        row = best_metric(part, list(columns), set(), case_draws(part.cases, resamples=300))
        found.append([row["auc"], row["auc_corrected"]])
    apparent, corrected = np.mean(found, axis=0)
    assert apparent > 0.84
    assert abs(corrected - 0.75) < 0.035
