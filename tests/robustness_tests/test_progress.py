"""Progress lines, read off a run folder that others write."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_plugin.benchmark import table
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import ROW_COLUMNS, parse_rows
from robustness_tests import progress
from robustness_tests.gate import Cell

COHORT = {"modalities": ["CT"], "structures": ["GTVp"], "labels": {"GTVp": 1}, "cases": ["A", "B"]}


def append(run: RunFolder, case: str, *severities: int) -> None:
    with run.claim(case, lambda: {"CT": "1"}) as rows:
        assert rows is not None
        for severity in severities:
            row = dict.fromkeys(ROW_COLUMNS, 0.5) | {"case": case, "structure": "GTVp", "severity": severity}
            row |= {"modality": "CT" if severity else None, "perturbation": "spike" if severity else "baseline"}
            rows.append([row | {"outcome": "detected", "parameters": json.dumps(None), "seed": None}])


class Reporter:
    """Stands for pytest's terminal reporter."""

    def __init__(self) -> None:
        self.lines: queue.Queue[str] = queue.Queue()
        self.write_line = self.lines.put

    def ensure_newline(self) -> None: ...

    def flush(self) -> None: ...


@pytest.fixture
def lines(monkeypatch, tmp_path):
    """Progress lines of two cases, a hundred a second, and their run folder."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.01)
    run, reporter = RunFolder.create(tmp_path / "run", {"cohort": COHORT}), Reporter()
    cohort = SimpleNamespace(cases=[SimpleNamespace(name=name) for name in COHORT["cases"]])
    lines = progress.ProgressLines(SimpleNamespace(benchmark=SimpleNamespace(run=run, cohort=cohort)))
    config = SimpleNamespace(pluginmanager=SimpleNamespace(get_plugin=lambda _name: reporter))
    yield run, reporter.lines, lambda cells: lines.start(config, cells)
    lines.stop()


def test_lines_count_what_is_wanted_and_read_a_file_only_when_it_has_changed(lines, monkeypatch):
    run, written, start = lines
    parsed = []

    def parse(path: Path, structures: tuple[str, ...]) -> object:
        parsed.append(path.stem)
        return parse_rows(path, structures)

    monkeypatch.setattr(table, "parse_rows", parse)
    append(run, "A", 0, 1, 3)
    start([Cell("CT", "spike", severity, "GTVp") for severity in (1, 2)])
    assert written.get(timeout=30).startswith("robustness: 2 of 6 variants measured")
    append(run, "B", 0)
    assert written.get(timeout=30).startswith("robustness: 3 of 6 variants measured")
    append(run, "B", 1)
    assert written.get(timeout=30).startswith("robustness: 4 of 6 variants measured")
    assert parsed.count("A") == 1  # B can be seen empty, between its opening and its first rows
    assert written.empty()
