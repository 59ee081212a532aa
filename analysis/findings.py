"""What a run says, in sentences: the verdict line, the worst cells, what is missing."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd

from analysis.completeness import Completeness
from analysis.formatting import counted, number, share
from analysis.pairing import CellKey
from analysis.tables import worst_cells
from analysis.verdict import Verdict

State = Literal["pass", "fail", "incomplete", "not judged"]

HARMLESS_MEDIAN = 0.05
"""The study's bound: below it a median looks harmless."""


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


def worst_cells_in_words(table: pd.DataFrame, count: int = 5) -> list[str]:
    """Describe the cells with the largest median ΔDice."""
    return [_cell_in_words(cell) for cell in worst_cells(table, count).to_dict("records")]


def hidden_losses(table: pd.DataFrame, count: int = 5) -> list[str]:
    """Describe cells that lose lesions although their median looks harmless, most losses first."""
    hidden = table[(table["median"] < HARMLESS_MEDIAN) & (table["newly_missed"] > 0)]
    most = hidden.sort_values("newly_missed", ascending=False, kind="stable").head(count)
    return [_cell_in_words(cell) for cell in most.to_dict("records")]


def _cell_in_words(cell: dict[str, Any]) -> str:
    key = CellKey(*(cell[name] for name in CellKey._fields))
    missed = f"newly missed in {share(cell['newly_missed'], cell['at_risk'])}"
    if not cell["at_risk"]:
        missed = "none detected in the baseline either"
    return f"{key.variant}: median ΔDice {number(cell['median'])} in {key.structure}, {missed}"


def what_is_missing(completeness: Completeness) -> list[str]:
    """Describe what an incomplete run lacks; empty where nothing is known to be missing."""
    sentences = []
    if completeness.missing_cases:
        missing = share(len(completeness.missing_cases), completeness.cases)
        sentences.append(f"{missing} cases have no rows: {_listed(completeness.missing_cases)}.")
    if completeness.missing_variants:
        cases = counted(len(completeness.missing_variants), "case")
        first, names = next(iter(completeness.missing_variants.items()))
        sentences.append(
            f"Variants are missing in {cases}; {first} lacks {share(len(names), completeness.variants)}: "
            f"{_listed(names)}."
        )
    if completeness.failures:
        failed = counted(len(completeness.failures), "case")
        sentences.append(f"{failed} could not be measured: {_listed(tuple(completeness.failures))}.")
    return sentences


def _listed(names: tuple[str, ...], most: int = 8) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
