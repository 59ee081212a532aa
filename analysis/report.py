"""The report of a run: one self-contained page, a Markdown summary, tables and figures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import findings
from analysis.association_figures import draw_correlations, draw_risk_coverage
from analysis.drawing import Drawing
from analysis.errors import AnalysisError
from analysis.figures import draw_box_plots, draw_heat_map
from analysis.formatting import listed
from analysis.limit_table import Limits
from analysis.pages import render
from analysis.pictures.worst_cells import Pictures, draw_pictures
from analysis.progress import Progress, no_progress
from analysis.results import Results, Sources, analyse
from analysis.statistics import LEVEL, RESAMPLES
from analysis.tables import NO_EFFECT, worst_of_each_perturbation
from nnunet_plugin.benchmark.results import RunFolder

PICTURES = 5
"""Worst cells that are shown in pictures."""


@dataclass(frozen=True)
class Report:
    """What was written, and its message.

    Attributes
    ----------
    html, summary
        The page and the Markdown summary.
    tables, figures
        CSV, SVG and PNG files.
    verdict_line
        The verdict in one line.
    worst_cells
        The five worst cells in words, worst first.
    notes
        What is not in the report for want of input, in words.
    """

    html: Path
    summary: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    verdict_line: str
    worst_cells: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Figures:
    """All figures, by the place they have in the page."""

    overview: list[Drawing]
    boxes: list[Drawing]
    correlations: list[Drawing]
    confidence: list[Drawing]
    pictures: Pictures

    def __iter__(self) -> Iterator[Drawing]:
        yield from (*self.overview, *self.boxes, *self.correlations, *self.confidence, *self.pictures.drawings)


def write_report(
    run_folder: Path | str,
    limits_file: Path | str | None = None,
    sources: Sources | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Analyse a run and write ``RUN/report``.

    Parameters
    ----------
    run_folder
        A run folder with rows.
    limits_file
        TOML file of limits; None for the study's.
    sources
        Where images, clinical data and the model are; None for what the run records, without pictures.
    progress
        Called with what is being done, how many steps of it are done, and of how many.

    Raises
    ------
    AnalysisError
        Where the run has nothing to analyse, an input cannot be used or the report cannot be written.
    BenchmarkError
        Where the folder holds no run.
    """
    run, sources = RunFolder(run_folder), sources or Sources()
    limits = Limits.load(limits_file)
    results = analyse(run, limits, sources, progress)
    folder = run.path / "report"
    try:
        tables = _write_tables(results, folder / "tables")
        figures = _draw(run, results, limits, sources, folder / "figures", progress)
        html, summary = _write_pages(_context(run, results, limits, figures), folder)
    except OSError as error:
        raise AnalysisError(
            f"{folder}: cannot write the report ({error.strerror or error}); make the folder writable and free space"
        ) from error
    return Report(
        html=html,
        summary=summary,
        tables=tables,
        figures=tuple(file for drawing in figures for file in drawing.files),
        verdict_line=findings.verdict_line(results.verdict, results.completeness),
        worst_cells=tuple(findings.worst_cells_in_words(results.cells, noun=_noun(run))),
        notes=(*_without_descriptors(results), *figures.pictures.reasons),
    )


def _write_tables(results: Results, folder: Path) -> tuple[Path, ...]:
    # What an earlier report of the same run left must not be taken for this one's.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = []
    for name, table in results.tables().items():
        if not table.empty:
            files.append(folder / f"{name}.csv")
            table.to_csv(files[-1], index=False)
    return tuple(files)


def _draw(
    run: RunFolder, results: Results, limits: Limits, sources: Sources, folder: Path, progress: Progress
) -> _Figures:
    shutil.rmtree(folder, ignore_errors=True)
    note = "phantom" if _is_synthetic(run) else ""
    panels = [(modality, structure) for modality in run.modalities for structure in run.structures]
    labels = {definition.name: definition.label for definition in results.correlated}
    boxes: list[Drawing | None] = []
    correlations: list[Drawing | None] = []
    for done, panel in enumerate(panels, start=1):
        boxes.append(draw_box_plots(results.pairs, limits, *panel, folder, note))
        correlations.append(draw_correlations(results.correlations, labels, *panel, folder, note))
        progress("figures", done, len(panels))
    risk = draw_risk_coverage(results.rows, run.structures, folder, note)
    return _Figures(
        overview=[draw_heat_map(results.cells, folder, note)] if len(results.cells) else [],
        boxes=[drawing for drawing in boxes if drawing],
        correlations=[drawing for drawing in correlations if drawing],
        confidence=[risk] if risk else [],
        pictures=_pictures(run, results, sources, folder, progress),
    )


def _pictures(run: RunFolder, results: Results, sources: Sources, folder: Path, progress: Progress) -> Pictures:
    if sources.model is None:
        measured_with = run.settings.get("provenance", {}).get("model_folder", "the measured model")
        reason = f"no pictures of the worst cells; name the model to have them drawn: --model {measured_with}"
        return Pictures([], [reason])
    return draw_pictures(
        run,
        worst_of_each_perturbation(results.cells, PICTURES),
        sources.model,
        folder,
        images=sources.images,
        labels=sources.labels,
        progress=lambda done, total: progress("pictures", done, total),
    )


def _context(run: RunFolder, results: Results, limits: Limits, figures: _Figures) -> dict[str, Any]:
    noun = _noun(run)
    return {
        "cohort": run.settings["cohort"].get("name", run.path.name),
        "synthetic": _is_synthetic(run),
        "noun": noun,
        "structures": run.structures,
        "state": findings.state_of(results.verdict, results.completeness),
        "verdict_line": findings.verdict_line(results.verdict, results.completeness),
        "violations": [(str(key), found) for key, found in results.verdict.violations.items()],
        "worst": findings.worst_cells_in_words(results.cells, noun=noun),
        "hidden": findings.hidden_losses(results.cells, noun=noun),
        "missing": findings.what_is_missing(results.completeness),
        "break_points": findings.break_points_in_words(results.break_points),
        "degradation": findings.degradation_in_words(results.degradation),
        "repairs": run.repairs(),
        "without_descriptors": _without_descriptors(results),
        "measured_cases": results.rows["case"].nunique(),
        "family": int(results.cells["family"].max()) if len(results.cells) else 0,
        "correlation_family": int(results.correlations["family"].max()) if len(results.correlations) else 0,
        "aggregated_baseline": _baseline_values(results.aggregated),
        "aggregated_mean": pd.Series(_baseline_values(results.aggregated), dtype=float).mean(),
        "cell_details": _cell_details(results),
        "unproven": findings.unproven_limits(results.cells),
        "restating": [
            f"{cell['modality']} {cell['perturbation']} {cell['severity']} {cell['structure']}"
            for cell in results.cells[results.cells["restates_baseline"].astype(bool)].to_dict("records")
        ],
        "without_limit": len(results.verdict.without_limit),
        "results": results,
        "records": {name: table.to_dict("records") for name, table in results.tables().items()},
        "figures": figures,
        "limits_file": limits.path.name,
        "run_toml": (run.path / "run.toml").read_text(encoding="utf-8"),
        "resamples": RESAMPLES,
        "level": round(100 * LEVEL),
        "no_effect": NO_EFFECT,
    }


def _baseline_values(aggregated: pd.DataFrame) -> dict[str, float]:
    unperturbed = aggregated[aggregated["modality"].isna()]
    return dict(zip(unperturbed["structure"], unperturbed["aggregated_dice"], strict=True))


def _cell_details(results: Results) -> list[dict[str, Any]]:
    """What the ΔDice table has no room for: aggregated Dice and stability of every cell."""
    key = ["modality", "perturbation", "severity", "structure"]
    stability = results.stability.rename(columns={name: f"stability_{name}" for name in ("median", "q1", "q3", "n")})
    columns = [*key, "detectable", "n"]
    joined = results.cells[columns].merge(stability, on=key).merge(results.aggregated.drop(columns="n"), on=key)
    records: list[dict[str, Any]] = joined.to_dict("records")
    return records


def _without_descriptors(results: Results) -> list[str]:
    cases: dict[str, list[str]] = {}
    for case, reason in results.lesions.reasons.items():
        cases.setdefault(reason, []).append(case)
    return [f"no lesion descriptors of {listed(names)}: {reason}" for reason, names in cases.items()]


def _write_pages(context: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    pages = folder / "report.html", folder / "summary.md"
    for page in pages:
        page.write_text(render(page.name, context), encoding="utf-8")
    return pages


def _is_synthetic(run: RunFolder) -> bool:
    return bool(run.settings["cohort"].get("synthetic", False))


def _noun(run: RunFolder) -> str:
    return "phantom case" if _is_synthetic(run) else "patient"
