"""What a run says, in sentences: the verdict line, the worst cells, what is missing."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from analysis.completeness import Completeness
from analysis.formatting import counted, estimate, listed, number_beside, share
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
    change = f"median ΔDice {number_beside(cell['median'], HARMLESS_MEDIAN, 3)}, n = {cell['n']}"
    if not cell["n"]:
        return f"{key.variant}: no ΔDice of {key.structure}"
    if not cell["at_risk"]:
        return f"{key.variant}: {key.structure} is not detected without perturbation either ({change})"
    if not cell["newly_missed"]:
        return f"{key.variant}: {change} in {key.structure}, lost in no {noun}"
    of_all = f"{cell['newly_missed']} of {counted(cell['at_risk'], noun)} where it was detected"
    elsewhere = cell["newly_missed"] - cell["nothing_predicted"]
    if not elsewhere:
        return f"{key.variant} erases {key.structure} in {of_all} ({change})"
    return f"{key.variant} loses {key.structure} in {of_all}, in {elsewhere} to a prediction elsewhere ({change})"


def unproven_limits(table: pd.DataFrame) -> str:
    """Say in how many cells that keep a limit of the median this is not shown; empty where there are none."""
    kept = table[table["median_limit"].notna() & (table["violations"] == "") & (table["n"] > 0)]
    reached = int((kept["median_high"] >= kept["median_limit"]).sum())
    unknown = int(kept["median_high"].isna().sum())
    if not reached and not unknown:
        return ""
    parts = [f"in {reached} the 95 % interval reaches the limit"] if reached else []
    parts += [f"in {unknown} there are too few cases for an interval"] if unknown else []
    return f"Of {counted(len(kept), 'cell')} that keep a limit of the median, {' and '.join(parts)}."


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
            score["structure"]: f"{estimate(score['degradation'], score['low'], score['high'], 3)}, n = {score['n']}"
            for score in of_pair.to_dict("records")
        }
        rows.append({"name": f"{modality} {perturbation}", "cells": cells, "total": perturbation == "all"})
    return rows


def _break_point(point: dict[str, Any]) -> str:
    against = "" if point["limited"] else " (no limit)"
    tested, over = point["tested"], point["over"]
    if not tested:
        return "no data"
    if not over:
        return f"none of {min(tested)} to {max(tested)}{against}"
    above = [level for level in tested if level >= over[0]]
    words = f"from {over[0]}" if list(over) == above else f"at {' and '.join(map(str, over))} only"
    return f"{words}{against}"


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
