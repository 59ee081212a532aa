"""The page, the summary and the figures of a grading; in a browser too."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.grading.correlation import correlation_table
from analysis.grading.grade_figures import draw_grade_flow, draw_metric_correlations
from analysis.grading.grades import WORST_WORDS, Grades
from analysis.grading.page import GradingReport, analyse_grades
from analysis.published.study import read_study
from analysis.replication.grades import grade_tables

Lines = list[dict[str, Any]]
TABLES = (
    *("grades", "usability", "agreement", "rater_differences", "repeats", "metric_correlations"),
    *("prediction", "best_metric", "cut_offs", "not_given"),
)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


@pytest.fixture(scope="module")
def report(
    tmp_path_factory: pytest.TempPathFactory, grades_csv: Callable[..., Path], simulated_lines: Callable[..., Lines]
) -> GradingReport:
    """Three raters, perturbed contours, repeats, and a grade that was not given."""
    folder = tmp_path_factory.mktemp("page")
    lines = simulated_lines(cases=24, raters=("Ann", "Bob", "<i>Cyn"), repeats=True)
    lines[2]["grade"] = ""
    path = grades_csv(folder / "grades.csv", [line | {"synthetic": "true"} for line in lines])
    return analyse_grades([path], folder / "out", note="dry run")


@pytest.fixture(scope="module")
def page(report: GradingReport) -> str:
    return report.html.read_text(encoding="utf-8")


def test_everything_is_written(report: GradingReport) -> None:
    out = report.html.parent
    assert sorted(file.stem for file in (out / "tables").iterdir()) == sorted(TABLES)
    drawn = {"grade_flow_baseline", "grade_flow_perturbed", "metric_correlations"}
    assert {file.name for file in (out / "figures").iterdir()} == {f"{n}.{e}" for n in drawn for e in ("svg", "png")}
    for name in TABLES:
        assert len(pd.read_csv(out / "tables" / f"{name}.csv")) > 0


def test_the_page_needs_nothing_else_and_names_are_text(page: str) -> None:
    parser = Tags()
    parser.feed(page)
    assert "default-src 'none'" in page
    assert not {"script", "iframe", "img", "object", "i"} & set(parser.names)
    assert all(address.startswith(("#", "data:")) for address in parser.addresses)
    assert "&lt;i&gt;Cyn" in page


def test_selection_bias_and_phantom_are_said_everywhere(report: GradingReport, page: str) -> None:
    summary = report.markdown.read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, flags=re.DOTALL)
    assert len(captions) == 3
    assert all("n = " in caption and "phantom" in caption for caption in captions)
    assert [WORST_WORDS in caption for caption in captions] == [False, True, True]
    assert WORST_WORDS in report.summary_lines
    assert WORST_WORDS in summary
    assert "<h1>Clinical grading (dry run, phantom)</h1>" in page
    assert summary.startswith("# Clinical grading (dry run, phantom)\n\n> **Synthetic phantom cohort")


def test_the_summary_says_what_the_tables_say(report: GradingReport) -> None:
    tables = {name: pd.read_csv(report.html.parent / "tables" / f"{name}.csv") for name in TABLES}
    usable = tables["usability"].set_index(["graded", "structure", "rater"]).loc[("baseline", "GTVp", "mean")]
    first = f"Unperturbed: {100 * usable['share']:.1f} % of GTVp contours are usable (95 % interval "
    assert report.summary_lines[0].startswith(f"{first}{100 * usable['low']:.1f} to {100 * usable['high']:.1f} %")
    text = report.markdown.read_text(encoding="utf-8").replace("\\", "")
    for line in report.summary_lines:
        assert line in text
    best = tables["best_metric"].set_index(["graded", "structure"]).loc[("all", "GTVp")]
    assert f"Best metric for telling usable GTVp, unperturbed and perturbed together: {best['best']}" in text
    assert any(note.startswith("Bob gave no grade for 1 of 96 contours (1 line with") for note in report.notes)


def test_in_a_browser(report: GradingReport, looks_right: Callable[[Path, int], None]) -> None:
    looks_right(report.html, 3)


@pytest.fixture(scope="module")
def authors(authors_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> GradingReport:
    return analyse_grades([authors_csv], tmp_path_factory.mktemp("authors"))


def test_the_authors_table(authors: GradingReport) -> None:
    """The published shares, and the kappa that was worked out elsewhere."""
    report = authors
    assert "79.7 % of GTVp contours" in report.summary_lines[0]
    assert "73.4 % of GTVn contours" in report.summary_lines[0]
    assert "GTVp 0.65" in report.summary_lines[1]
    assert "phantom" not in report.html.read_text(encoding="utf-8")


def test_the_replication_makes_the_same_tables(authors_csv: Path, authors: GradingReport) -> None:
    for name, table in grade_tables(read_study(authors_csv.parents[1])).items():
        written = pd.read_csv(authors.html.parent / "tables" / f"{name}.csv")
        pd.testing.assert_frame_equal(table.reset_index(drop=True), written, check_dtype=False)


def grades_lines(grades: list[list[int]], **columns: list[Any]) -> Lines:
    return [
        {"case": f"c{i}", "structure": "s", "rater": f"r{k}", "grade": grade}
        | {name: values[i] for name, values in columns.items()}
        for i, of_item in enumerate(grades)
        for k, grade in enumerate(of_item)
    ]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (grades_lines([[1 + i % 5] for i in range(12)], dice=list(range(12))), "Only one rater (r0)"),
        (
            grades_lines([[4, 3]], dice=[0.5]),
            "No best metric for telling usable unperturbed s: all contours are usable",
        ),
        (grades_lines([[3, 3]] * 12, dice=[0.5] * 12), "all contours are usable"),
        (grades_lines([[1, 1]] * 12, dice=[0.5] * 12), "no contour is usable"),
        (grades_lines([[1 + i % 5, 3] for i in range(12)]), "No metric was given"),
        (grades_lines([[2, 4]] * 12, dice=[""] * 6 + ["inf"] * 6), "no rater has both"),
        ([{"case": "a", "structure": "s", "rater": "x", "grade": 3, "perturbation": "blur"}], "chosen is not said"),
        (
            [{"case": c, "structure": "s", "rater": r, "grade": 3} for c, r in (("a", "x"), ("b", "y"))],
            "x gave no grade for 1 of 2 contours",
        ),
    ],
    ids=[
        "one rater",
        "one case",
        "all three",
        "all one",
        "no metric",
        "undefined metric",
        "only perturbed",
        "disjoint",
    ],
)
def test_little_to_go_by(lines: Lines, words: str, grades_csv: Callable[..., Path], tmp_path: Path) -> None:
    """Defined answers and a reason, without a warning."""
    report = analyse_grades([grades_csv(tmp_path / "grades.csv", lines)], tmp_path / "out")
    said = " ".join((*report.summary_lines, *report.notes))
    assert words in said
    assert "nan" not in said.lower().split()
    page = report.html.read_text(encoding="utf-8")
    assert ">nan<" not in page
    assert "nan to" not in page


def test_the_flow_has_a_ribbon_per_pair_of_grades(simulated: Grades, tmp_path: Path) -> None:
    """Blocks and ribbons of the drawing, counted in its SVG, are those of the crossed grades."""
    drawing = draw_grade_flow(simulated, "perturbed", tmp_path)
    assert drawing is not None
    rows = simulated.rows[simulated.rows["graded"] == "perturbed"]
    wide = rows.pivot_table(values="grade", index=["structure", "item"], columns="rater")
    ribbons = sum(len(of.value_counts()) for _, of in wide.groupby("structure"))
    blocks = rows.groupby(["structure", "rater"])["grade"].nunique().sum()
    assert drawing.svg.count("opacity: 0.6") == ribbons
    black = re.findall(r"stroke: #000000; stroke-width: 0.6", drawing.svg)
    assert len(black) == blocks
    assert "n = 16 contours of 8 patients" in drawing.caption


def test_significant_cells_are_framed(simulated: Grades, tmp_path: Path) -> None:
    table = correlation_table(simulated)
    drawing = draw_metric_correlations(table, simulated, tmp_path, "phantom")
    assert drawing is not None
    significant = ((table["method"] == "spearman") & (table["q"] < 0.05)).sum()
    assert significant > 0
    assert len(re.findall(r"stroke: #000000; stroke-width: 1.5", drawing.svg)) == significant
    assert "Not tested: perturbed" in drawing.caption
    assert drawing.caption.startswith("Phantom. ")
    assert draw_metric_correlations(table.assign(r=np.nan), simulated, tmp_path) is None


def test_a_folder_that_cannot_be_written(authors_csv: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AnalysisError, match="cannot write the analysis"):
        analyse_grades([authors_csv], tmp_path / "file" / "out")


def test_a_second_analysis_writes_the_same(authors_csv: Path, authors: GradingReport, tmp_path: Path) -> None:
    analyse_grades([authors_csv], tmp_path)
    files = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    assert len(files) == 2 + len(TABLES) + 4
    for file in files:
        assert file.read_bytes() == (authors.html.parent / file.relative_to(tmp_path)).read_bytes(), file
