"""A candidate's run beside that of the model in use: the decision as page, Markdown and JSON."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.comparability import check_comparable
from analysis.comparison import Decision, Margins, NoiseFloor, compare_rows, decide, noise_floor
from analysis.comparison.noise import FEWEST_REPEATS
from analysis.completeness import check_completeness
from analysis.errors import AnalysisError, suggestion
from analysis.findings import what_is_missing
from analysis.pages import render
from analysis.pairing import BASELINE
from nnunet_plugin.benchmark.results import RunFolder

WORST = 10
"""Cases that are named."""

HEADLINES = {
    "pass": "PASS: harm beyond the margins is excluded",
    "regression": "REGRESSION: the candidate is worse, by more than chance and more than its margin",
    "inconclusive": "INCONCLUSIVE: these cases cannot tell whether the candidate is worse",
}


@dataclass(frozen=True)
class ModelUpdate:
    """A comparison of two runs.

    Attributes
    ----------
    decision
        The outcome and all that it rests on.
    candidate, reference
        The runs.
    notes
        What differs between the runs without forbidding a comparison, and what the decision is conditional on.
    noise
        Noise floor from repeated runs of the reference model; None without them.
    worst, best
        Cases with the largest mean harm and gain: ``case``, ``clean``, ``perturbed``.
    flips
        By structure, without and under perturbation: contours found by ``both``, by ``neither``, ``lost`` and ``won``.
    """

    decision: Decision
    candidate: Path
    reference: Path
    notes: tuple[str, ...]
    noise: NoiseFloor | None
    worst: pd.DataFrame
    best: pd.DataFrame
    flips: pd.DataFrame

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        return HEADLINES[self.decision.outcome]

    def markdown(self) -> str:
        """The summary that a CI job shows."""
        return render("update.md", self._context())

    def write(self, folder: Path) -> tuple[Path, Path, Path]:
        """Write ``update.html``, ``update.md`` and ``update.json``; returns their paths.

        Raises
        ------
        AnalysisError
            Where the folder cannot be written.
        """
        names = ("update.html", "update.md", "update.json")
        html, markdown, record = (folder / name for name in names)
        content = {
            "candidate": str(self.candidate),
            "reference": str(self.reference),
            "notes": list(self.notes),
            "noise": self.noise.to_dict() if self.noise else None,
            **self.decision.to_dict(),
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            html.write_text(render("update.html", self._context()), encoding="utf-8")
            markdown.write_text(self.markdown(), encoding="utf-8")
            record.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        except OSError as error:
            raise AnalysisError(
                f"{folder}: cannot write the comparison ({error.strerror or error}); name another folder with -o"
            ) from error
        return html, markdown, record

    def _context(self) -> dict[str, Any]:
        return {
            "update": self,
            "decision": self.decision,
            "quantities": (self.decision.clean, self.decision.perturbed, self.decision.lesions),
            "worst": self.worst.to_dict("records"),
            "best": self.best.to_dict("records"),
            "flips": self.flips.to_dict("records"),
        }


def compare_runs(
    candidate: RunFolder, reference: RunFolder, margins: Margins | None = None, variants: set[Any] | None = None
) -> ModelUpdate:
    """Decide whether the candidate may replace the model in use.

    Parameters
    ----------
    candidate, reference
        Their runs. Repeated runs of the reference model, in ``REFERENCE/repeats``, widen the margins to its noise.
    margins
        None for the defaults.
    variants
        Keys (modality, perturbation, severity) to compare; None for all of either run.

    Raises
    ------
    AnalysisError
        Where the runs are not of the same cases, catalogue and seed, or the pipeline is too noisy for the margins.
    """
    notes = check_comparable(candidate, reference)
    noise, words = _noise(reference)
    used = (margins or Margins()) if noise is None else noise.widened(margins or Margins())
    rows = [_of_variants(run.rows(), variants) for run in (candidate, reference)]
    differences = compare_rows(*rows)
    if variants is None:
        for name, run, of_run in zip(("candidate", "reference"), (candidate, reference), rows, strict=True):
            missing = what_is_missing(check_completeness(of_run, run.settings, run.failures()))
            notes += [f"{name}: {sentence}" for sentence in missing]
    by_case = _by_case(differences)
    return ModelUpdate(
        decision=decide(differences, used),
        candidate=candidate.path,
        reference=reference.path,
        notes=(*notes, *words),
        noise=noise,
        worst=by_case[by_case["harm"] > 0].head(WORST),
        best=by_case[by_case["harm"] < 0].iloc[::-1].head(WORST),
        flips=_flips(differences),
    )


def load_margins(path: Path | None) -> Margins:
    """Read the table ``[margins]`` of a limits file; what it does not set keeps its default.

    Raises
    ------
    AnalysisError
        Where the file cannot be read, or holds a margin that is unknown or out of range.
    """
    if path is None:
        return Margins()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("margins", {})
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise AnalysisError(f"limits {path}: cannot be read ({error}); expected a TOML file") from error
    names = [field.name for field in fields(Margins)]
    if not isinstance(table, dict):
        raise AnalysisError(f"limits {path}: margins = {table!r}; expected a table [margins]")
    for name in table.keys() - set(names):
        raise AnalysisError(
            f"limits {path}, [margins]: unknown {name!r}; {suggestion(name, names)}expected {', '.join(names)}"
        )
    try:
        return Margins(**table)
    except AnalysisError as error:
        raise AnalysisError(f"limits {path}: {error}") from error


def _of_variants(rows: pd.DataFrame, variants: set[Any] | None) -> pd.DataFrame:
    if variants is None:
        return rows
    keys = zip(rows["modality"], rows["perturbation"], rows["severity"], strict=True)
    return rows[[p == BASELINE or (m, p, int(s)) in variants for m, p, s in keys]]


def _noise(reference: RunFolder) -> tuple[NoiseFloor | None, list[str]]:
    folders = sorted(path.parent for path in (reference.path / "repeats").glob("*/run.toml"))
    if not folders:
        return None, ["no repeated runs of the reference model: its noise is taken to be below the margins"]
    if len(folders) < FEWEST_REPEATS:
        return None, [f"{len(folders)} repeated runs of the reference model are too few for a noise floor (10)"]
    return noise_floor([RunFolder(folder).rows() for folder in folders]), []


def _by_case(differences: pd.DataFrame) -> pd.DataFrame:
    population = differences[differences["reference_present"]].dropna(subset="d")
    is_clean = population["perturbation"] == BASELINE
    blocks = {"clean": population[is_clean], "perturbed": population[~is_clean]}
    # Within a structure first, as the gate does.
    means = {
        name: rows.groupby(["case", "structure"])["d"].mean().groupby("case").mean() for name, rows in blocks.items()
    }
    table = pd.DataFrame(means).assign(harm=lambda of: of.mean(axis=1))
    return table.sort_values("harm", ascending=False, kind="stable").rename_axis("case").reset_index()


def _flips(differences: pd.DataFrame) -> pd.DataFrame:
    present = differences[differences["reference_present"] & (differences["gap"] == "")]
    records = []
    for structure, of_structure in present.groupby("structure"):
        is_clean = of_structure["perturbation"] == BASELINE
        for block, rows in (("without perturbation", of_structure[is_clean]), ("perturbed", of_structure[~is_clean])):
            reference, candidate = rows["reference_detected"], rows["candidate_detected"]
            counts = {"both": reference & candidate, "neither": ~reference & ~candidate}
            counts |= {"lost": reference & ~candidate, "won": ~reference & candidate}
            figures = {name: int(flag.sum()) for name, flag in counts.items()}
            records.append({"structure": structure, "block": block, "n": len(rows), **figures})
    columns = ["structure", "block", "n", "both", "lost", "won", "neither"]
    return pd.DataFrame.from_records(records, columns=columns)
