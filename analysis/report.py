"""The report of a run: one self-contained page, a Markdown summary, tables and figures."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from analysis import findings, formatting
from analysis.completeness import Completeness, check_completeness, levels_of, perturbations_of
from analysis.drawing import Drawing
from analysis.errors import AnalysisError
from analysis.figures import draw_box_plots, draw_heat_map
from analysis.limit_table import Limits
from analysis.pairing import absent_structures, is_baseline, paired
from analysis.statistics import LEVEL, RESAMPLES
from analysis.tables import baseline_table, cell_table
from analysis.verdict import Verdict, judge
from nnunet_plugin.benchmark.results import RunFolder

_TEMPLATES = Path(__file__).parent / "templates"


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
    """

    html: Path
    summary: Path
    tables: tuple[Path, ...]
    figures: tuple[Path, ...]
    verdict_line: str
    worst_cells: tuple[str, ...]


@dataclass(frozen=True)
class _Results:
    """Everything that is computed from the rows, before anything is drawn or written."""

    rows: pd.DataFrame
    pairs: pd.DataFrame
    baseline: pd.DataFrame
    cells: pd.DataFrame
    verdict: Verdict
    completeness: Completeness
    absent: dict[str, str]


def write_report(run_folder: Path | str, limits_file: Path | str | None = None) -> Report:
    """Analyse a run and write ``RUN/report``.

    Parameters
    ----------
    run_folder
        A run folder with rows.
    limits_file
        TOML file of limits; None for the study's.

    Raises
    ------
    AnalysisError
        Where the run has nothing to analyse, the limits cannot be used or the report cannot be written.
    BenchmarkError
        Where the folder holds no run.
    """
    run = RunFolder(run_folder)
    limits = Limits.load(limits_file)
    results = _analyse(run, limits)
    folder = run.path / "report"
    try:
        tables = _write_tables(results, folder / "tables")
        drawings = _draw(run, results, limits, folder / "figures")
        html, summary = _write_pages(_context(run, results, limits, drawings), folder)
    except OSError as error:
        raise AnalysisError(
            f"{folder}: cannot write the report ({error.strerror or error}); make the folder writable and free space"
        ) from error
    return Report(
        html=html,
        summary=summary,
        tables=tables,
        figures=tuple(file for drawing in drawings for file in drawing.files),
        verdict_line=findings.verdict_line(results.verdict, results.completeness),
        worst_cells=tuple(findings.worst_cells_in_words(results.cells)),
    )


def _analyse(run: RunFolder, limits: Limits) -> _Results:
    rows = _in_run_order(run.rows(), run)
    if rows.empty or is_baseline(rows).all():
        found = "no measured rows" if rows.empty else "only unperturbed rows"
        failed = "".join(f"\n  {case}: {message}" for case, message in run.failures().items())
        raise AnalysisError(
            f"{run.path}: found {found}, expected perturbed cases in {run.path / 'rows'}; "
            f"measure the run first (nnUNetv2_robustness_run){failed}"
        )
    limits.check_names(
        run.modalities,
        perturbations_of(rows, run.settings),
        run.structures,
        levels_of(rows, run.settings),
    )
    seed = int(run.settings.get("seed", 0))
    return _Results(
        rows=rows,
        pairs=paired(rows),
        baseline=baseline_table(rows),
        cells=cell_table(rows, limits, seed),
        verdict=judge(rows, limits),
        completeness=check_completeness(rows, run.settings, run.failures()),
        absent=absent_structures(rows),
    )


def _in_run_order(rows: pd.DataFrame, run: RunFolder) -> pd.DataFrame:
    """Sort rows as the run lists its channels, perturbations and structures: tables follow the order of rows."""
    orders = {
        "modality": run.modalities,
        "perturbation": perturbations_of(rows, run.settings),
        "structure": run.structures,
    }

    def rank(column: pd.Series) -> pd.Series:
        order = {name: place for place, name in enumerate(orders.get(str(column.name), ()))}
        return column.map(order) if order else column

    keys = ["modality", "perturbation", "severity", "structure", "case"]
    return rows.sort_values(keys, key=rank, na_position="first", ignore_index=True)


def _write_tables(results: _Results, folder: Path) -> tuple[Path, ...]:
    # What an earlier report of the same run left must not be taken for this one's.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    tables = {"baseline": results.baseline, "delta_dice": results.cells, "pairs": results.pairs}
    files = []
    for name, table in tables.items():
        files.append(folder / f"{name}.csv")
        table.to_csv(files[-1], index=False)
    return tuple(files)


def _draw(run: RunFolder, results: _Results, limits: Limits, folder: Path) -> list[Drawing]:
    shutil.rmtree(folder, ignore_errors=True)
    note = "phantom" if _is_synthetic(run) else ""

    def drawings() -> Iterator[Drawing | None]:
        if len(results.cells):
            yield draw_heat_map(results.cells, folder, note)
        for modality in run.modalities:
            for structure in run.structures:
                yield draw_box_plots(results.pairs, limits, modality, structure, folder, note)

    return [drawing for drawing in drawings() if drawing is not None]


def _context(run: RunFolder, results: _Results, limits: Limits, drawings: list[Drawing]) -> dict[str, Any]:
    completeness = results.completeness
    return {
        "cohort": run.settings["cohort"].get("name", run.path.name),
        "synthetic": _is_synthetic(run),
        "state": findings.state_of(results.verdict, completeness),
        "verdict_line": findings.verdict_line(results.verdict, completeness),
        "violations": [(str(key), found) for key, found in results.verdict.violations.items()],
        "worst": findings.worst_cells_in_words(results.cells),
        "hidden": findings.hidden_losses(results.cells),
        "missing": findings.what_is_missing(completeness),
        "completeness": completeness,
        "measured_cases": results.rows["case"].nunique(),
        "baseline": results.baseline.to_dict("records"),
        "cells": results.cells.to_dict("records"),
        "family": int(results.cells["family"].max()) if len(results.cells) else 0,
        "without_limit": len(results.verdict.without_limit),
        "absent": results.absent,
        "drawings": drawings,
        "limits_file": limits.path.name,
        "run_toml": (run.path / "run.toml").read_text(encoding="utf-8"),
        "resamples": RESAMPLES,
        "level": round(100 * LEVEL),
    }


def _write_pages(context: dict[str, Any], folder: Path) -> tuple[Path, Path]:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": formatting.number,
        "p_value": formatting.p_value,
        "md": _markdown_text,
        "svg": _trusted_svg,
    }
    environment.globals |= {"between": formatting.between, "share": formatting.share}
    pages = folder / "report.html", folder / "summary.md"
    for page in pages:
        page.write_text(environment.get_template(page.name).render(context), encoding="utf-8")
    return pages


def _is_synthetic(run: RunFolder) -> bool:
    return bool(run.settings["cohort"].get("synthetic", False))


def _trusted_svg(drawing: Drawing) -> Markup:
    # Drawn here by matplotlib, which escapes the names in it and turns text into outlines.
    return Markup(drawing.svg)  # noqa: S704


def _markdown_text(text: object) -> str:
    """Escape what Markdown or HTML in it would act upon, and keep a table row in its line."""
    escaped = " ".join(str(text).split())
    for character in "\\`*_[]<>|#":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped
