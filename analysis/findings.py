"""What a run says, in sentences: the verdict line, the worst cells, what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import pandas as pd

from analysis.completeness import Completeness
from analysis.formatting import counted, estimate, number, share
from analysis.pairing import CellKey
from analysis.safety import HARMLESS_MEDIAN
from analysis.tables import worst_cells
from analysis.verdict import Verdict

State = Literal["pass", "fail", "incomplete", "not judged"]


def state_of(verdict: Verdict, completeness: Completeness) -> State:
    """Decide what may be said about a run: never ``pass`` where something is missing or nothing was judged."""
    if verdict.violations:
        return "fail"
    if not completeness.is_complete:
        return "incomplete"
    return "pass" if verdict.passed else "not judged"


def verdict_line(verdict: Verdict, completeness: Completeness) -> str:
    """Say the verdict in one line, with its denominators."""
    judged, unlimited = len(verdict.judged), len(verdict.without_limit)
    basis = f"{counted(judged, 'cell')} judged, {unlimited} without a limit"
    match state_of(verdict, completeness):
        case "fail":
            noun = "cell breaks a limit" if len(verdict.violations) == 1 else "cells break a limit"
            line = f"FAIL: {len(verdict.violations)} {noun} or cannot be judged ({basis})"
            return line if completeness.is_complete else f"{line}; the run is incomplete"
        case "incomplete":
            return f"INCOMPLETE, no verdict: no limit is broken so far, but part of the run is missing ({basis})"
        case "not judged":
            return f"NOT JUDGED: no cell has a limit ({basis})"
        case _:
            return f"PASS: every limit is kept ({basis})"


def worst_cells_in_words(table: pd.DataFrame, count: int = 5, noun: str = "patient") -> list[str]:
    """Describe the cells with the largest median ΔDice; ``noun`` is what a case is called."""
    return [_cell_in_words(cell, noun) for cell in worst_cells(table, count).to_dict("records")]


def hidden_losses(table: pd.DataFrame, count: int = 5, noun: str = "patient") -> list[str]:
    """Describe cells that lose lesions although their median looks harmless, most losses first."""
    hidden = table[(table["median"] < HARMLESS_MEDIAN) & (table["newly_missed"] > 0)]
    most = hidden.sort_values("newly_missed", ascending=False, kind="stable").head(count)
    return [_cell_in_words(cell, noun) for cell in most.to_dict("records")]


def _cell_in_words(cell: dict[str, Any], noun: str) -> str:
    key = CellKey(*(cell[name] for name in CellKey._fields))
    # Three digits, so that a median beside its bound is on the right side of it.
    change = f"median ΔDice {number(cell['median'], 3)}, n = {cell['n']}"
    if not cell["at_risk"]:
        return f"{key.variant} has no {key.structure} to erase, the baseline detects none ({change})"
    if cell["newly_missed"]:
        of_all = f"{cell['newly_missed']} of {counted(cell['at_risk'], noun)}"
        return f"{key.variant} erases {key.structure} in {of_all} where it was detected ({change})"
    verb = "costs Dice of" if cell["median"] > 0 else "spares"
    return f"{key.variant} {verb} {key.structure} but erases it in no {noun} ({change})"


def break_points_in_words(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Arrange break-points as rows of a table: a perturbed modality each, a cell per structure."""
    rows: list[dict[str, Any]] = []
    for (modality, perturbation), of_variant in points.groupby(["modality", "perturbation"], sort=False):
        cells = {point["structure"]: _break_point(point) for point in of_variant.to_dict("records")}
        rows.append({"name": f"{modality} {perturbation}", "cells": cells})
    return rows


def degradation_in_words(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Arrange degradation scores as rows of a table: a perturbed modality each, a cell per structure."""
    rows: list[dict[str, Any]] = []
    for (modality, perturbation), of_pair in scores.groupby(["modality", "perturbation"], sort=False):
        cells = {
            score["structure"]: estimate(score["degradation"], score["low"], score["high"], 3)
            for score in of_pair.to_dict("records")
        }
        rows.append({"name": f"{modality} {perturbation}", "cells": cells, "total": perturbation == "all"})
    return rows


def _break_point(point: dict[str, Any]) -> str:
    against = "" if point["limited"] else " (no limit)"
    if math.isnan(point["severity"]):
        return f"holds up to {max(point['tested'])}{against}"
    return f"from {int(point['severity'])}{against}"


def what_is_missing(completeness: Completeness) -> list[str]:
    """Describe what an incomplete run lacks; empty where nothing is known to be missing."""
    sentences = []
    if completeness.missing_cases:
        missing = share(len(completeness.missing_cases), completeness.cases)
        sentences.append(f"{missing} cases have no rows: {listed(completeness.missing_cases)}.")
    if completeness.missing_variants:
        cases = counted(len(completeness.missing_variants), "case")
        first, names = next(iter(completeness.missing_variants.items()))
        sentences.append(
            f"Variants are missing in {cases}; {first} lacks {share(len(names), completeness.variants)}: "
            f"{listed(names)}."
        )
    if completeness.failures:
        failed = counted(len(completeness.failures), "case")
        sentences.append(f"{failed} could not be measured: {listed(list(completeness.failures))}.")
    return sentences


def listed(names: Sequence[str], most: int = 8) -> str:
    """Write names with commas, and the number of those beyond ``most``."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
