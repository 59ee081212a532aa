"""The report of a run: what it says, and that a cohort cannot make it say something else."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.errors import AnalysisError
from analysis.report import write_report
from analysis.tables import baseline_table, cell_table
from analysis.verdict import Limits
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.results import RunFolder

Make = Callable[..., Any]


class _Text(HTMLParser):
    """Visible text of a page and the names of its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, _attributes: object) -> None:
        self.elements.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(path: Path) -> str:
    return " ".join(_Text(path.read_text()).text.split())


@pytest.fixture
def small_run(make_run: Make, make_simulation: Make, make_settings: Make, tmp_path: Path) -> Path:
    """Four cases, two perturbations."""
    simulation = make_simulation(4, perturbations=("blur", "spike"))
    return make_run(tmp_path / "run", simulation, make_settings(list(simulation)))


@pytest.fixture
def run(run_of_4: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run_of_4, tmp_path / "run")


def test_everything_is_written_where_the_design_says(run: Path) -> None:
    report = write_report(run)
    folder = run / "report"
    assert (report.html, report.summary) == (folder / "report.html", folder / "summary.md")
    names = {"baseline", "delta_dice", "pairs", "break_points", "missed_lesions", "crossings", "aggregated_dice"}
    names |= {"stability", "degradation", "failure_prediction", "descriptor_definitions"}
    assert {f.name for f in report.tables} == {f"{name}.csv" for name in names}
    # One overview, four panels of box plots, one of risk and coverage; there are no images to describe or to show.
    assert len(report.figures) == 2 * (1 + 4 + 1)
    assert len(report.notes) == 2
    assert "CHUM-001, CHUP-002, CHUS-003, MDA-004" in report.notes[0]
    assert "--images" in report.notes[0]
    assert "--model /models/a" in report.notes[1]
    for file in (report.html, report.summary, *report.tables, *report.figures):
        assert file.stat().st_size > 100
        assert file.is_relative_to(folder)


def test_tables_hold_the_figures_of_the_rows(small_run: Path) -> None:
    write_report(small_run)
    rows = RunFolder(small_run).rows()
    written = pd.read_csv(small_run / "report" / "tables" / "delta_dice.csv", keep_default_na=True)
    keys = ["modality", "perturbation", "severity", "structure"]
    expected = cell_table(rows, Limits.load())
    columns = ["n", "median", "mean", "p", "q", "newly_missed", "worst_delta"]
    pd.testing.assert_frame_equal(
        written.sort_values(keys)[columns].reset_index(drop=True),
        expected.sort_values(keys)[columns].reset_index(drop=True),
        check_dtype=False,
    )
    baseline = pd.read_csv(small_run / "report" / "tables" / "baseline.csv")
    assert baseline["dice_mean"].tolist() == pytest.approx(baseline_table(rows)["dice_mean"].tolist())


def test_the_page_answers_in_order_and_says_phantom(run: Path) -> None:
    report = write_report(run)
    page = report.html.read_text()
    headings = re.findall(r"<h2>(.*?)</h2>", page)
    assert headings == [
        "Is it safe?",
        "The results",
        "Methods, exclusions, provenance",
    ]
    text = text_of(report.html)
    assert report.verdict_line in text
    for words in report.worst_cells:
        assert words in text
    assert "This cohort is synthetic" in text
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(captions) == 6
    assert all(caption.startswith("Phantom.") and "n = " in caption for caption in captions)
    assert "36 cells have no limit" in text
    assert 'name = "paper"' in text  # run.toml


def test_a_real_cohort_is_not_called_a_phantom(
    make_run: Make, make_simulation: Make, make_settings: Make, tmp_path: Path
) -> None:
    simulation = make_simulation(3, perturbations=("blur",))
    run = make_run(tmp_path / "run", simulation, make_settings(list(simulation), synthetic=False))
    report = write_report(run)
    for file in (report.html, report.summary):
        assert "phantom" not in file.read_text().lower()


def test_the_page_needs_nothing_but_itself(small_run: Path) -> None:
    page = write_report(small_run).html.read_text()
    # Names of XML vocabularies are no addresses to load from.
    loading = re.findall(r'(?:src|href|action|data)\s*=\s*"(?!#|data:)([^"]*)"|url\((?!#|data:)|@import', page)
    assert [found for found in loading if not found.startswith("http://www.w3.org/")] == []
    assert "<script" not in page


def test_equal_runs_give_equal_reports(small_run: Path) -> None:
    first = {f: f.read_bytes() for f in _files(write_report(small_run))}
    assert {f: f.read_bytes() for f in _files(write_report(small_run))} == first


def _files(report: Any) -> list[Path]:
    return [report.html, report.summary, *report.tables, *report.figures]


def test_an_incomplete_run_says_so_before_anything_else(small_run: Path) -> None:
    lines = (small_run / "rows" / "CHUP-002.jsonl").read_text().splitlines(keepends=True)
    (small_run / "rows" / "CHUP-002.jsonl").write_text("".join(lines[:21]))
    (small_run / "rows" / "MDA-004.jsonl").unlink()
    RunFolder(small_run).record_failure("MDA-004", "MDA-004_0000.nii.gz: truncated gzip")
    report = write_report(small_run)
    assert report.verdict_line.startswith("INCOMPLETE, no verdict")
    text = text_of(report.html)
    assert text.index("This run is incomplete.") < text.index("Worst cells")
    for words in (
        "1 of 4 cases have no rows: MDA-004.",
        "CHUP-002 lacks 3 of 13",  # a header and ten variants of two structures are left
        "MDA-004: MDA-004_0000.nii.gz: truncated gzip",
        "3 of 4 cases have rows.",
    ):
        assert words in text
    summary = report.summary.read_text()
    assert summary.index("This run is incomplete") < summary.index("Worst cells")


def test_a_broken_limit_fails_and_is_named(small_run: Path, limits_file: Callable[[str], Path]) -> None:
    report = write_report(
        small_run, limits_file("[[limit]]\nperturbation='spike'\nmodality='CT'\nmedian_delta_dice=0.1")
    )
    rows = RunFolder(small_run).rows()
    medians = cell_table(rows, Limits.load()).query("perturbation == 'spike' and modality == 'CT'")
    broken = int((medians["median"] >= 0.1).sum())
    assert broken > 1
    assert report.verdict_line == (
        f"FAIL: {broken} cells break a limit or cannot be judged (6 cells judged, 18 without a limit)"
    )
    assert text_of(report.html).count("is not below its limit 0.1 (n = ") == broken
    assert report.html.read_text().count('<tr class="broken">') == broken


def test_an_absent_structure_is_skipped_with_the_reason(
    make_run: Make, make_row: Make, make_settings: Make, tmp_path: Path
) -> None:
    variants = [(None, "baseline", 0), ("CT", "blur", 1), ("PET", "blur", 1)]
    rows = {
        case: {v: [make_row(case, v, "GTVp", 0.8), make_row(case, v, "GTVn", 1.0, 0, 0)] for v in variants}
        for case in "abc"
    }
    report = write_report(make_run(tmp_path / "run", rows, make_settings("abc")))
    assert "Skipped: no reference contour of the 3 measured cases has GTVn." in text_of(report.html)
    assert "no reference contour of the 3 measured cases has GTVn" in report.summary.read_text()
    assert not [file for file in report.figures if "GTVn" in file.name]


def test_a_run_of_an_absent_structure_alone_is_reported_without_cells(
    make_run: Make, make_row: Make, make_settings: Make, tmp_path: Path
) -> None:
    variants = [(None, "baseline", 0), ("CT", "blur", 1), ("PET", "blur", 1)]
    rows = {case: {v: [make_row(case, v, "GTVn", 1.0, 0, 0)] for v in variants} for case in "ab"}
    report = write_report(make_run(tmp_path / "run", rows, make_settings("ab", ["GTVn"])))
    assert report.verdict_line.startswith("NOT JUDGED")
    assert report.worst_cells == ()
    assert report.figures == ()


def test_values_of_a_cohort_cannot_inject_anything(
    make_run: Make, make_row: Make, make_settings: Make, tmp_path: Path
) -> None:
    evil = "<script>alert(1)<b>|[x](http:evil)"
    variants = [(None, "baseline", 0), ("CT", "<img src=x onerror=alert(1)>", 1), ("PET", "<b>", 1)]
    structure = "--><script>alert(2)</script>"
    cases = [f"{evil}{i}" for i in range(3)]
    rows = {case: {v: [make_row(case, v, structure, 0.8 - i / 9)] for v in variants} for i, case in enumerate(cases)}
    settings = make_settings([*cases, evil], [structure])
    settings["cohort"]["name"] = evil
    run = make_run(tmp_path / "run", rows, settings)
    RunFolder(run).record_failure("c9", "</pre><script>alert(3)</script>")
    report = write_report(run)
    elements = set(_Text(report.html.read_text()).elements)
    assert not elements & {"script", "img", "b", "iframe"}
    assert set(re.findall(r'<a href="([^"]*)"', report.html.read_text())) == {"#safe", "#results", "#methods"}
    summary = report.summary.read_text()
    assert not re.search(r"(?<!\\)<", summary.replace("> **", ""))
    assert "[x](http" not in summary
    inside = (tmp_path / "run" / "report").resolve()
    assert all(file.resolve().is_relative_to(inside) for file in _files(report))


def test_files_of_an_earlier_report_do_not_stay(small_run: Path) -> None:
    write_report(small_run)
    stale = small_run / "report" / "figures" / "delta_dice_MR_GTVp.png"
    stale.write_bytes(b"old")
    kept = small_run / "report" / "junit.xml"
    kept.write_text("<testsuites/>")
    write_report(small_run)
    assert not stale.exists()
    assert kept.exists()


def test_order_follows_the_run_not_the_alphabet(
    make_run: Make, make_row: Make, make_settings: Make, tmp_path: Path
) -> None:
    variants = [(None, "baseline", 0)]
    variants += [(m, p, 1) for m in ("T2", "ADC") for p in ("spike", "blur")]
    rows = {c: {v: [make_row(c, v, s, 0.8) for s in ("zone", "apex")] for v in variants} for c in "ab"}
    settings = make_settings("ab", ["zone", "apex"])
    settings["cohort"]["modalities"] = ["T2", "ADC"]
    settings["catalogue"]["severities"] = {"spike": 1, "blur": 1}
    write_report(make_run(tmp_path / "run", rows, settings))
    table = pd.read_csv(tmp_path / "run" / "report" / "tables" / "delta_dice.csv")
    cells = (table["modality"] + " " + table["perturbation"] + " " + table["structure"]).tolist()
    assert cells[:5] == ["T2 spike zone", "T2 spike apex", "T2 blur zone", "T2 blur apex", "ADC spike zone"]


def test_runs_without_results_are_refused(
    run: Path, make_run: Make, make_row: Make, make_settings: Make, tmp_path: Path
) -> None:
    with pytest.raises(BenchmarkError, match="is no run folder"):
        write_report(tmp_path / "nowhere")
    empty = make_run(tmp_path / "empty", {}, make_settings("a"))
    RunFolder(empty).record_failure("a", "no label")
    with pytest.raises(AnalysisError, match=r"(?s)no measured rows.*a: no label"):
        write_report(empty)
    base = (None, "baseline", 0)
    only = {"a": {base: [make_row("a", base, "GTVp", 0.8), make_row("a", base, "GTVn", 0.8)]}}
    with pytest.raises(AnalysisError, match="only unperturbed rows"):
        write_report(make_run(tmp_path / "only", only, make_settings("a")))


def test_a_report_that_cannot_be_written_is_an_error_in_words(small_run: Path) -> None:
    (small_run / "report").write_text("a file where the folder should be")
    with pytest.raises(AnalysisError, match="cannot write the report"):
        write_report(small_run)


def test_what_was_repaired_is_said(small_run: Path) -> None:
    RunFolder(small_run).record_repair("rows/CHUP-002.jsonl: dropped 12\nbytes <b>")
    page = write_report(small_run).html.read_text()
    assert "Found broken and measured again: rows/CHUP-002.jsonl: dropped 12 bytes &lt;b&gt;" in page
