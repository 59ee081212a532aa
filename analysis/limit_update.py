"""New limits from what was measured, written below those that a person wrote."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w

from analysis.errors import AnalysisError
from analysis.limit_table import CasesAbove, CellLimits, Limits
from analysis.pairing import CellKey
from analysis.verdict import CellSummary, violations
from nnunet_plugin.benchmark.results import write_atomically

Which = Literal["failed", "all", "new"]
WHICH: tuple[Which, ...] = get_args(Which)
"""Cells to update: those that break a limit, all of them, or those without a limit."""

MARKER = "# Below: written by --robustness-update-limits, which replaces it. Limits of your own belong above this line."

_SCALE = 100
_NAMES = tuple(field.name for field in fields(CellLimits))
_SET_FOR_NEW = ("median_delta_dice", "mean_delta_dice", "newly_missed_share")


@dataclass(frozen=True)
class LimitUpdate:
    """What an update changes.

    Attributes
    ----------
    path
        The limits file.
    text
        Its new content.
    changes
        One line per changed limit: cell, figure, old and new value.
    """

    path: Path
    text: str
    changes: tuple[str, ...]

    def write(self) -> None:
        """Write the file, in one step.

        Raises
        ------
        AnalysisError
            Where it cannot be written.
        """
        try:
            write_atomically(self.path, self.text.encode())
        except OSError as error:
            raise AnalysisError(
                f"limits {self.path}: cannot be written ({error.strerror}); make its folder writable"
            ) from error


def update_limits(limits: Limits, summaries: Mapping[CellKey, CellSummary], which: Which) -> LimitUpdate:
    """Set limits to what was measured, rounded up to the next hundredth.

    Comments and tables above the marker line stay as they are; the tables below it are written anew.

    Parameters
    ----------
    limits
        The limits in force; its file need not exist yet.
    summaries
        Figures of the measured cells.
    which
        ``failed``: broken limits of cells that break one; ``new``: median, mean and erased share of cells without a
        limit; ``all``: the same of every cell, and what else is limited there.
    """
    written, generated = _split(limits.path)
    changes = []
    for key, summary in summaries.items():
        before = limits.of(*key)
        for name in _names(summary, before, which):
            old = getattr(before, name)
            value = _measured(name, summary, old)
            if value is not None and value != old:
                generated.setdefault(key, {})[name] = value._asdict() if isinstance(value, CasesAbove) else value
                changes.append(f"{key}: {name} {_in_words(old)} -> {_in_words(value)}")
    tables = [{**key._asdict(), **values} for key, values in generated.items()]
    below = f"{MARKER}\n\n{tomli_w.dumps({'limit': tables})}" if tables else ""
    text = "\n".join(part for part in (written.rstrip() + "\n" if written.strip() else "", below) if part)
    return LimitUpdate(limits.path, text, tuple(changes))


def _names(summary: CellSummary, limits: CellLimits, which: Which) -> tuple[str, ...]:
    if not summary.n:
        return ()
    limited = tuple(name for name in _NAMES if getattr(limits, name) is not None)
    if which == "failed":
        return tuple(name for name in limited if violations(summary, CellLimits(**{name: getattr(limits, name)})))
    if which == "new":
        return () if limits else _SET_FOR_NEW
    return tuple(dict.fromkeys((*_SET_FOR_NEW, *limited)))


def _measured(name: str, summary: CellSummary, old: float | CasesAbove | None) -> float | CasesAbove | None:
    if isinstance(old, CasesAbove):
        share = sum(value > old.delta_dice for value in summary.delta) / summary.n
        limit = _rounded_up(share)
        return None if limit is None else old._replace(share=limit)
    figures = {
        "median_delta_dice": summary.median,
        "mean_delta_dice": summary.mean,
        "newly_missed_share": summary.newly_missed_share,
        "worst_delta_dice": summary.worst_delta,
    }
    return _rounded_up(figures[name])


def _in_words(limit: float | CasesAbove | None) -> str:
    if isinstance(limit, CasesAbove):
        return f"{_in_words(limit.share)} of the cases above {limit.delta_dice:g}"
    return "no limit" if limit is None or math.isinf(limit) else f"{limit:g}"


def _rounded_up(value: float) -> float | None:
    """The next hundredth above, at least one; infinite (no limit) where even a total loss was measured."""
    if math.isnan(value):
        return None
    # Strictly above, and not one step further for what floating point adds to a hundredth.
    limit = max(1, math.floor(value * _SCALE + 1e-6) + 1) / _SCALE
    return limit if limit <= 1 else math.inf


def _split(path: Path) -> tuple[str, dict[CellKey, dict[str, Any]]]:
    """What a person wrote, and the generated limits by cell."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    written, _, below = text.partition(MARKER)
    tables = tomllib.loads(below).get("limit", [])
    generated = {
        CellKey(*(table.pop(name) for name in CellKey._fields)): table
        for table in tables
        if table.keys() >= set(CellKey._fields)
    }
    return written, generated
