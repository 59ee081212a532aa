"""What is said of grades: that it follows from the tables, and that it does not say more than they do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.formatting import MINUS, NOTHING
from analysis.grading.agreement import agreement_table, difference_table, repeat_table
from analysis.grading.grades import Grades
from analysis.grading.limits import limits_of
from analysis.grading.page import analyse_grades, grading_tables
from analysis.grading.prediction import predict_usability
from analysis.grading.sentences import (
    agreement_sentences,
    difference_sentences,
    prediction_sentences,
    repeat_sentences,
    usability_sentences,
)
from analysis.grading.usability import usability_table

Lines = list[dict[str, Any]]
ReadLines = Callable[[Lines], Grades]


def lines_of(grades: Any, repeat: int = 0, **columns: Any) -> Lines:
    """A rater, Ann, Bob and so on, per column of grades; no line where one is None."""
    return [
        {"case": f"c{i:02d}", "item": f"c{i:02d}", "structure": "s", "rater": rater, "grade": grade, "repeat": repeat}
        | {name: values[i] for name, values in columns.items()}
        for i, of_item in enumerate(grades)
        for rater, grade in zip(("Ann", "Bob", "Cyn"), of_item, strict=False)
        if grade is not None
    ]


def prediction_words(grades: Grades, lower: tuple[str, ...] = ()) -> str:
    found = predict_usability(grades, lower)
    return " ".join(prediction_sentences(found.best, found.cut_offs))


def limits(grades: Grades) -> str:
    return " ".join(limits_of(grades, grading_tables(grades)))


def noisy(n: int, seed: int = 0, worst: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A quality and grades by it: the worst ones are not usable but for some mistakes."""
    rng = np.random.default_rng(seed)
    quality = np.arange(n) + rng.normal(0, n / 8, n)
    return quality, np.where(np.arange(n) < worst, 2, 4)


def test_strictness_by_the_mean_that_is_tested(grades_of: ReadLines) -> None:
    """Fifteen patients with one of four contours a grade higher, one with all four lower by as many as there are."""
    lines = []
    for case in range(16):
        for item in range(4):
            step = -4 if case == 15 else int(item == 0)
            first = 5 if case == 15 else 3
            for rater, grade in (("Ann", first), ("Bob", first + step)):
                row = {"case": f"c{case:02d}", "item": f"{case}-{item}", "structure": "s"}
                lines.append(row | {"rater": rater, "grade": grade})
    row = difference_table(grades_of(lines)).iloc[0]
    assert row["mean_difference"] == pytest.approx((15 * 0.25 - 4) / 16)
    assert row["rank_biserial"] == pytest.approx((120 - 16) / 136)
    (said,) = difference_sentences(difference_table(grades_of(lines)))
    assert said.startswith("Ann is stricter than Bob on unperturbed s (rank-biserial correlation 0.76, though not by")
    assert "grades" not in said
    usual = [row for row in lines if row["case"] != "c15"]
    (said,) = difference_sentences(difference_table(grades_of(usual)))
    assert said.startswith("Ann is stricter than Bob on unperturbed s (by 0.25 grades, the mean over patients, q < 0.0")


def test_too_few_patients_to_find_a_stricter_rater(grades_of: ReadLines) -> None:
    """Of five patients even the clearest outcome has p = 2 / 32."""
    (said,) = difference_sentences(difference_table(grades_of(lines_of([[5, 1]] * 5))))
    assert said == "Whether a rater is stricter is not known: too few patients (5) for the test to find anything."
    (said,) = difference_sentences(difference_table(grades_of(lines_of([[3, 3]] * 6))))
    assert said == "No rater is detectably stricter than another (smallest q = 1.00, 1 test of 6 patients)."
    (said,) = difference_sentences(difference_table(grades_of(lines_of([[5, 1]] * 6))))
    assert said.startswith("Bob is stricter than Ann on unperturbed s (by 4.00 grades")


@pytest.mark.parametrize(
    ("grades", "words"),
    [
        ([[1 + i % 5, 1 + i % 5] for i in range(9)], "s no kappa (fewer than 10 contours: 9), 100 % within one grade."),
        ([[1 + i % 5, 1 + i % 5] for i in range(10)], "s 1.00, 100 % within one grade."),
        (
            [[4, 1 + i % 5] for i in range(10)],
            "s no kappa (Ann gave one grade only, so that kappa is 0 by construction)",
        ),
        (
            [[1 + i % 5, 1 + i % 5, 4] for i in range(12)],
            "s 1.00 over 1 of 3 pairs of raters (at least 12 contours), 50 to 100 % within one grade.",
        ),
        (
            [[1 + i % 5, 1 + i % 5, 5 - i % 5 if i < 10 else None] for i in range(12)],
            f"s {MINUS}1.00 to 1.00 over 3 pairs of raters (at least 10 contours), 20 to 100 % within one grade.",
        ),
    ],
)
def test_kappa_beside_the_share_within_one_grade(grades_of: ReadLines, grades: Any, words: str) -> None:
    (said,) = agreement_sentences(agreement_table(grades_of(lines_of(grades))))
    assert words in said


def test_a_rater_who_graded_little_is_named_beside_the_mean(grades_of: ReadLines) -> None:
    """By hand: 1 of 1 usable to Ann, 4 of 8 to Bob: the mean share is 75 %, though 5 of 9 grades are usable."""
    grades = grades_of(lines_of([[5, 5], *[[None, 5 if i < 4 else 1] for i in range(1, 8)]]))
    (said,) = usability_sentences(grades, usability_table(grades))
    assert "75.0 % of s contours are usable" in said
    assert "each rater counts the same, whatever they graded: Ann 1, Bob 8" in said
    even = grades_of(lines_of([[5, 5], [1, 5]]))
    assert "whatever they graded" not in next(usability_sentences(even, usability_table(even)))


def test_repeats_count_patients_and_have_no_kappa_below_ten(grades_of: ReadLines) -> None:
    first = lines_of([[1 + i % 5] for i in range(12)])
    for count, kappa in ((9, ""), (10, ", quadratic kappa 1.00")):
        again = lines_of([[1 + i % 5] for i in range(count)], repeat=1)
        (said,) = repeat_sentences(repeat_table(grades_of(first + again)))
        repeated = f"Ann repeated 100 % of {count} grades of {count} patients exactly"
        assert said == f"{repeated} (100 % within one grade{kappa})."


def test_the_best_of_several(grades_of: ReadLines) -> None:
    quality, grades = noisy(40)
    rng = np.random.default_rng(1)
    metrics = {name: quality + rng.normal(0, spread, 40) for name, spread in (("dice", 20), ("other", 3))}
    read = grades_of(lines_of([[g] for g in grades], **metrics))
    said, row = prediction_words(read), predict_usability(read).best.iloc[0]
    assert said.startswith("Best metric for telling usable unperturbed s: other, AUC ")
    assert "; rater Ann, 40 contours of 40 patients. Interval and" in said
    assert " difference are those of a metric named beforehand; chosen as the best here, both are too fav" in said
    assert "Best, ties included, in" in said
    assert (
        f"choice among 2 metrics: AUC {row['auc_corrected']:.2f}, {row['difference_corrected']:.2f} above dice" in said
    )
    assert "Youden's J" in said
    assert "in the same data, corrected for optimism" in said


def test_one_metric_is_not_the_best_of_one(grades_of: ReadLines) -> None:
    quality, grades = noisy(40)
    said = prediction_words(grades_of(lines_of([[g] for g in grades], dice=quality)))
    assert said.startswith("Metric for telling usable unperturbed s: dice, AUC")
    assert "there is no other to compare it with." in said
    assert "resamples" not in said
    assert "Best" not in said


def test_no_better_than_chance_and_the_wrong_way_round(grades_of: ReadLines) -> None:
    quality, grades = noisy(40)
    noise = np.random.default_rng(8).normal(size=40)
    read = grades_of(lines_of([[g] for g in grades], error=quality.max() - quality, noise=noise))
    said = prediction_words(read)
    assert said.startswith("No metric tells usable unperturbed s better than chance here (highest: noise, AUC ")
    assert "Cut-off" not in said
    note = "error ranks unperturbed s the wrong way round (AUC "
    assert note in limits(read)
    assert "if low values are good, name it in --lower-is-better" in limits(read)
    assert "noise ranks" not in limits(read)
    turned = prediction_words(read, ("error",))
    assert turned.startswith("Best metric for telling usable unperturbed s: error")


def test_raters_who_have_an_area_are_named(grades_of: ReadLines) -> None:
    quality, grades = noisy(40)
    other = np.where(np.arange(40) < 10, 1, 4)
    read = grades_of(lines_of([[4, g, o] for g, o in zip(grades, other, strict=True)], dice=quality))
    assert "; mean of 2 of 3 raters (Bob, Cyn), 40 contours of 40 patients;" in prediction_words(read)
    assert "Ann found every unperturbed s contour usable and has no area" in limits(read)
    alone = grades_of(lines_of([[4, g] for g in grades], dice=quality))
    assert "; rater Bob, 1 of 2, 40 contours" in prediction_words(alone)


@pytest.mark.parametrize(
    ("n", "worst", "words"),
    [
        (40, 4, ""),
        (40, 5, "one kind is rare: unperturbed s, not usable in 5 patients."),
        (40, 9, "one kind is rare: unperturbed s, not usable in 9 patients."),
        (40, 31, "one kind is rare: unperturbed s, usable in 9 patients."),
        (40, 10, ""),
        (9, 5, ""),
    ],
)
def test_rare_kinds(grades_of: ReadLines, n: int, worst: int, words: str) -> None:
    """No such note where there is no interval for it to be of."""
    quality, grades = noisy(n, worst=worst)
    read = grades_of(lines_of([[g] for g in grades], dice=quality))
    found = limits(read)
    assert (words in found) if words else ("rare" not in found)
    if worst == 4:
        assert "No interval: not usable in fewer than 5 patients (4)." in prediction_words(read)


def test_rare_kinds_of_the_strictest_and_of_all_together(grades_of: ReadLines) -> None:
    """Bob finds 6 of 40 not usable, all of them perturbed: rare among the perturbed ones, and in the part ``all``."""
    quality, grades = noisy(40, worst=12)
    bob = np.where(np.arange(40) < 6, 1, 5)
    perturbation = ["noise"] * 20 + [""] * 20
    samples = ["worst"] * 20 + [""] * 20
    pairs = [[a, b] for a, b in zip(grades, bob, strict=True)]
    read = grades_of(lines_of(pairs, dice=quality, perturbation=perturbation, sample=samples))
    said = limits(read)
    assert "rare: perturbed s, not usable in 6 patients for Bob; all s, not usable in 6 patients for Bob." in said
    assert (
        "chosen by their loss and not paired with the others by design (20 and 20 patients, 0 of them the same)" in said
    )
    assert "not of the same patients" not in said


def test_intervals_of_kappa_from_few_patients(grades_of: ReadLines) -> None:
    words = "Intervals of kappa from fewer than about 50 patients"
    for n in (49, 50):
        pairs = [[1 + i % 5, 1 + (i + (i % 7 == 0)) % 5] for i in range(n)]
        assert (f"{words} hold the truth less often" in limits(grades_of(lines_of(pairs)))) == (n < 50)
    assert words not in limits(grades_of(lines_of([[3, 3]] * 12)))


def test_the_mean_of_raters_with_gaps_has_no_count(grades_csv: Callable[..., Path], tmp_path: Path) -> None:
    """Ann: 2 of 4, Bob: 1 of 1, so that 3 of 5 is not 75 %."""
    gaps = lines_of([[4, 4], [4, None], [1, None], [1, None]])
    full = lines_of([[4, 4], [4, 4], [1, 4], [1, 4]])
    for lines, cell in ((gaps, NOTHING), (full, "6 of 8")):
        report = analyse_grades([grades_csv(tmp_path / "grades.csv", lines)], tmp_path / "out")
        row = next(line for line in report.markdown.read_text("utf-8").splitlines() if "| mean |" in line)
        assert row.startswith(f"| unperturbed | s | mean | {cell} | 75.0 % |")
        page = report.html.read_text("utf-8")
        assert f'<td class="text">mean</td><td>{cell}</td>' in page
        assert '<td class="text">Ann</td><td>2 of 4</td>' in page


def test_a_map_without_tests_does_not_count_them(grades_csv: Callable[..., Path], tmp_path: Path) -> None:
    """Every patient is there twice: nothing is tested."""
    quality, grades = noisy(24)
    lines = lines_of([[g + i % 2] for i, g in enumerate(grades)], dice=quality)
    for index, row in enumerate(lines):
        row["case"] = f"c{index // 4}"
    report = analyse_grades([grades_csv(tmp_path / "grades.csv", lines)], tmp_path / "out")
    page = report.html.read_text("utf-8")
    assert "Not tested: unperturbed" in page
    assert "over 0 tests" not in page
