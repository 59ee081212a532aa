"""The controller's table and verdict at the end of a session."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.formatting import counted

if TYPE_CHECKING:
    import pytest

    from analysis.model_update import ModelUpdate
    from robustness_tests.gate import Gate


def cell_name(test_id: str) -> str:
    """The cell's part of a test id, as pytest wrote it; empty for tests that are not the gate's."""
    _, _, parameter = test_id.partition("::test_delta_dice[")
    return parameter.removesuffix("]")


class Summary:
    """Collects the cells' reports, wherever they ran, and prints them.

    Parameters
    ----------
    gate
        Gives the run folder and what could not be measured.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self.is_wanted = False
        self.limit_changes: tuple[str, Sequence[str]] | None = None
        self.update: ModelUpdate | None = None
        self._outcomes: dict[str, str] = {}
        self._properties: dict[str, dict[str, Any]] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Take in one report; those of other tests are left alone."""
        cell = cell_name(report.nodeid)
        if not cell or (report.when == "teardown" and report.passed):
            return
        if report.when == "call" or not report.passed:
            self._outcomes[cell] = report.outcome
            self._properties[cell] = dict(report.user_properties)

    def write(self, reporter: pytest.TerminalReporter) -> None:
        """Print medians by severity, worst first, then what failed and the verdict."""
        if not self._outcomes:
            return
        reporter.section("robustness: median ΔDice by severity, worst first (positive = harm)")
        for line in self._table():
            reporter.write_line(line)
        for repair in self._gate.repairs():
            reporter.write_line(f"REPAIRED {repair}", yellow=True)
        for case, message in self._gate.failures().items():
            reporter.write_line(f"NOT MEASURED {case}: {message}", red=True)
        reporter.write_line(self._verdict(), **self._colour())
        reporter.write_line(f"rows: {self._gate.benchmark.run.path}")
        self._write_update(reporter)
        self._write_limit_changes(reporter)

    def _write_update(self, reporter: pytest.TerminalReporter) -> None:
        if self.update is None:
            return
        reporter.section(f"robustness: update of {self.update.reference}")
        outcome = self.update.decision.outcome
        colour = {"pass": "green", "regression": "red", "inconclusive": "yellow"}[outcome]
        reporter.write_line(self.update.headline, **{colour: True})
        for reason in self.update.decision.reasons:
            reporter.write_line(f"  {reason}")
        for cell in self.update.decision.improved_cells:
            reporter.write_line(f"  better: {cell} (mean loss {cell.mean:.3f}, n = {cell.n})")
        reporter.write_line(f"comparison: {self._gate.benchmark.run.path / 'update' / 'update.html'}")

    def write_for_ci(self) -> None:
        """Append verdict, failed cells and exclusions to the file that ``GITHUB_STEP_SUMMARY`` names, if it does."""
        file = os.environ.get("GITHUB_STEP_SUMMARY")
        if not file or not self._outcomes:
            return
        from analysis.pages import markdown_text as plain

        lines = [f"# Robustness gate\n\n**{plain(self._verdict())}**\n"]
        failed = [name for name, outcome in self._outcomes.items() if outcome == "failed"]
        lines += [f"- {plain(name)}: {plain(self._figures(name))}" for name in failed]
        lines += [f"- not measured: {plain(case)}: {plain(message)}" for case, message in self._gate.failures().items()]
        if self.update is not None:
            lines.append(f"\n{self.update.markdown()}")
        with Path(file).open("a", encoding="utf-8") as summary:
            summary.write("\n".join(lines) + "\n")

    def _figures(self, name: str) -> str:
        figures = self._properties[name]
        median, n, missed = (figures.get(key) for key in ("median_delta_dice", "n", "newly_missed"))
        return f"median ΔDice {median}, n = {n}, newly missed {missed}" if n is not None else "could not be judged"

    def _write_limit_changes(self, reporter: pytest.TerminalReporter) -> None:
        if self.limit_changes is None:
            return
        path, changes = self.limit_changes
        reporter.section(f"robustness: {len(changes)} limits written to {path}")
        for change in changes:
            reporter.write_line(change)
        reporter.write_line("Judged above by the limits before; look at the changes, then run again.")

    def _failed(self) -> int:
        return sum(outcome == "failed" for outcome in self._outcomes.values())

    def _limited(self) -> int:
        return sum(properties.get("has_limit", False) for properties in self._properties.values())

    def _verdict(self) -> str:
        cells, limited = len(self._outcomes), self._limited()
        failed, bad_cases = self._failed(), len(self._gate.failures())
        basis = f"{limited} of {cells} cells have a limit"
        if failed or bad_cases:
            broken = f"{failed} {'cell breaks' if failed == 1 else 'cells break'} a limit or could not be judged"
            return f"FAIL: {broken}, {counted(bad_cases, 'case')} could not be measured ({basis})"
        return f"PASS: every limit is kept ({basis})" if limited else f"NOT JUDGED: no cell has a limit ({basis})"

    def _colour(self) -> dict[str, bool]:
        return {"red": True} if self._failed() or self._gate.failures() else {"green": bool(self._limited())}

    def _table(self) -> list[str]:
        rows: dict[tuple[str, str, str], dict[int, str]] = {}
        medians: dict[tuple[str, str, str], float] = {}
        known = self._gate.cells_by_name()
        for name, properties in self._properties.items():
            cell, median = known[name], properties.get("median_delta_dice", math.nan)
            row = cell.modality, cell.perturbation, cell.structure
            mark = "*" if self._outcomes[name] == "failed" else " "
            rows.setdefault(row, {})[cell.severity] = "  absent " if self._is_absent(name) else f"{median:8.3f}{mark}"
            medians[row] = max(medians.get(row, -math.inf), -math.inf if math.isnan(median) else median)
        severities = sorted({severity for row in rows.values() for severity in row})
        header = f"{'':34}" + "".join(f"{severity:>8} " for severity in severities)
        lines = [
            f"{' '.join(row):34}" + "".join(rows[row].get(severity, " " * 9) for severity in severities)
            for row in sorted(rows, key=lambda row: -medians[row])
        ]
        return [header, *lines, "* = breaks a limit"]

    def _is_absent(self, name: str) -> bool:
        return self._outcomes[name] == "skipped"
