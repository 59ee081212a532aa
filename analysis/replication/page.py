"""The replication as files: claims, tables and one self-contained page."""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis import formatting
from analysis import tables as run_tables
from analysis.association_figures import draw_correlations
from analysis.correlations import correlation_table
from analysis.drawing import Drawing
from analysis.errors import AnalysisError
from analysis.figures import draw_box_plots, draw_heat_map
from analysis.limit_table import Limits
from analysis.pages import render
from analysis.published.layout import DESCRIPTORS, MODALITIES, STRUCTURES
from analysis.published.study import Study, read_study
from analysis.replication.baseline import baseline_claims
from analysis.replication.claim import FIELDS, Claim
from analysis.replication.correlation_claims import correlation_claims
from analysis.replication.grade_claims import grade_claims
from analysis.replication.grades import grade_tables
from analysis.replication.perturbed import cell_table, has_variants, pairs_of, ranking_table
from analysis.replication.perturbed_claims import perturbed_claims, restating

VERDICTS = {
    "reproduced": "reproduced",
    "reproduced_by_alternative": "by an alternative",
    "not_reproduced": "not reproduced",
    "data_missing": "data missing",
}
"""Verdict, with the words of its badge."""

_TOPICS = {
    "Segmentation without perturbation": ("dice", "hd95", "missed", "false_positive"),
    "Clinical grading": ("usable", "kappa", "spearman"),
    "Loss under perturbation": ("delta_dice", "most_harmful"),
    "Which lesions lose most": ("pearson",),
    "Cross-validation": ("development",),
}


@dataclass(frozen=True)
class Replication:
    """What was found, and where it was written.

    Attributes
    ----------
    claims
        All statements, judged.
    html
        The page.
    missing, missing_words
        Published tables that were not in the folder, and the same in words.
    """

    claims: tuple[Claim, ...]
    html: Path
    missing: tuple[str, ...]
    missing_words: str

    @property
    def summary_line(self) -> str:
        """How many statements there are of each verdict."""
        return summary_line(self.claims)


def write_replication(folder: Path | str, out: Path | str) -> Replication:
    """Recompute the published figures and write claims, tables and page.

    Parameters
    ----------
    folder
        The authors' tables.
    out
        Folder that is made where it is not there; files of an earlier replication in it are replaced.

    Raises
    ------
    AnalysisError
        Where the tables cannot be used, or ``out`` cannot be written.
    """
    out = Path(out)
    study = read_study(folder)
    pairs = pairs_of(study)
    cells = cell_table(pairs)
    correlations = correlation_table(pairs, study.descriptors, list(DESCRIPTORS), test="pearson")
    claims = [
        *baseline_claims(study),
        *grade_claims(study),
        *perturbed_claims(study, pairs, cells),
        *correlation_claims(study, correlations),
    ]
    tables = {
        "delta_dice": cells,
        "delta_dice_with_reference": run_tables.cell_table(study.rows, Limits.load()),
        "ranking": ranking_table(pairs, cells),
        "correlations": correlations,
        **grade_tables(study),
    }
    try:
        _write_claims(claims, out)
        _write_tables(tables, out / "tables")
        drawings = _draw(pairs, tables)
        html = out / "replication.html"
        html.write_text(render(html.name, _context(study, claims, tables, drawings)), encoding="utf-8")
    except OSError as error:
        raise AnalysisError(
            f"{out}: cannot write the replication ({error.strerror or error}); name another folder with -o, or make it "
            "writable and free space"
        ) from error
    return Replication(tuple(claims), html, study.missing, _missing_in_words(study))


def summary_line(claims: Sequence[Claim]) -> str:
    """Count the statements by verdict, in words."""
    counts = Counter(claim.verdict for claim in claims)
    parts = ", ".join(f"{counts[verdict]} {words}" for verdict, words in VERDICTS.items())  # type: ignore[index]
    return f"{len(claims)} published statements: {parts}"


def _write_claims(claims: Sequence[Claim], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    records = [claim.record() for claim in claims]
    text = json.dumps(records, indent=1, ensure_ascii=False, allow_nan=False)
    (out / "claims.json").write_text(text + "\n", encoding="utf-8")
    with (out / "claims.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        writer.writeheader()
        for record in records:
            tried = json.dumps(record["alternatives_tried"], ensure_ascii=False, allow_nan=False)
            writer.writerow(record | {"alternatives_tried": tried})


def _write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)


def _draw(pairs: pd.DataFrame, tables: dict[str, pd.DataFrame]) -> list[Drawing]:
    limits = Limits.load()

    def drawings(folder: Path) -> Iterator[Drawing | None]:
        for modality in MODALITIES:
            for structure in STRUCTURES:
                yield draw_correlations(
                    tables["correlations"], DESCRIPTORS, modality, structure, folder, test="Pearson's test"
                )
        if len(tables["delta_dice_with_reference"]):
            yield draw_heat_map(tables["delta_dice_with_reference"], folder)
        for modality in MODALITIES:
            for structure in STRUCTURES:
                yield draw_box_plots(pairs, limits, modality, structure, folder)

    # The page holds the drawings themselves.
    with tempfile.TemporaryDirectory() as folder:
        return [drawing for drawing in drawings(Path(folder)) if drawing is not None]


def _context(
    study: Study, claims: Sequence[Claim], tables: dict[str, pd.DataFrame], drawings: list[Drawing]
) -> dict[str, Any]:
    return {
        "folder": study.folder.name or str(study.folder),
        "summary": summary_line(claims),
        "counts": Counter(claim.verdict for claim in claims),
        "badges": VERDICTS,
        "topics": _by_topic(claims),
        "claims": claims,
        "missing": study.missing,
        "missing_words": _missing_in_words(study),
        "cases": study.rows["case"].nunique(),
        "variants": len(study.rows.drop_duplicates(["modality", "perturbation", "severity"])) - 1,
        "has_variants": has_variants(study),
        "restating": restating(tables["delta_dice"]),
        "ranking": tables["ranking"].to_dict("records"),
        "usability": tables["usability"].to_dict("records"),
        "agreement": tables["agreement"].to_dict("records"),
        "tables": {f"{name}.csv": len(table) for name, table in tables.items()},
        "drawings": drawings,
        "figure_of": _figure_of,
    }


def _by_topic(claims: Sequence[Claim]) -> dict[str, list[Claim]]:
    return {
        topic: [claim for claim in claims if claim.id.partition(".")[0] in prefixes]
        for topic, prefixes in _TOPICS.items()
    }


def _missing_in_words(study: Study) -> str:
    files = [name for name in study.missing if name.startswith("Baseline/")]
    return " and ".join(part for part in (", ".join(files), study.missing_variants()) if part)


def _figure_of(value: Any, claim: Claim) -> str:
    """Write a figure with one digit more than was printed, so that a near miss is seen to be one."""
    if value is None:
        return formatting.NOTHING
    if isinstance(value, str | int):
        return str(value)
    printed = str(claim.reported).partition(".")[2] if isinstance(claim.reported, float) else "00"
    return formatting.number(value, len(printed) + 1)
