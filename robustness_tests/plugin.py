"""pytest plugin: options, the shared measurement, and the summary on the controller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from robustness_tests.gate import Cell, Gate
from robustness_tests.options import HOW_TO_CONFIGURE, add_options, is_configured
from robustness_tests.progress import ProgressLines
from robustness_tests.summary import Summary, cell_name

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

_GATE = pytest.StashKey[Gate]()
_FOLDER = Path(__file__).parent

INCONCLUSIVE = 2
"""Exit status of ``--robustness-strict`` where the comparison cannot tell; pytest's own for an interrupted session."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Let the controller (or the only process) watch the session."""
    config.addinivalue_line("markers", "robustness: a test of the robustness gate")
    gate = config.stash.setdefault(_GATE, Gate(config))
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Watcher(gate))


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: one worker per GPU, or what cores, memory and the number of cases allow."""
    if not (_asks_for_gate(config) and is_configured(config)):
        return None
    return config.stash.setdefault(_GATE, Gate(config)).workers()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per modality, perturbation, severity and structure."""
    if "robustness_cell" not in metafunc.fixturenames:
        return
    if not is_configured(metafunc.config):
        unconfigured = pytest.param(None, id="unconfigured", marks=pytest.mark.skip(HOW_TO_CONFIGURE))
        metafunc.parametrize("robustness_cell", [unconfigured])
        return
    cells = metafunc.config.stash[_GATE].cells()
    metafunc.parametrize("robustness_cell", [pytest.param(cell, id=str(cell)) for cell in cells])


@pytest.fixture(scope="session")
def robustness_gate(request: pytest.FixtureRequest) -> Gate:
    """The gate, with every variant measured that the session's tests want; done before the first assertion."""
    gate = request.config.stash[_GATE]
    gate.measure(_cells(request.session.items))
    return gate


class _Watcher:
    """On the controller (or in the only process): checks before work starts, progress, table and verdict.

    It wakes up when a session turns out to hold tests of the gate, however they were named on the command line.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._summary = Summary(gate)
        self._progress = ProgressLines(gate)
        self._cells: list[Cell] = []
        self._problem = ""

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Where the gate is asked for by name, end the session before workers start if an option is wrong."""
        config = session.config
        if not _asks_for_gate(config):
            return
        if not is_configured(config):
            raise pytest.UsageError(HOW_TO_CONFIGURE)
        if not config.getoption("collectonly"):
            self._gate.check()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: list[str]) -> None:
        """Under xdist only the workers collect; every worker collects the same."""
        names = [name for name in map(cell_name, ids) if name]
        if names:
            known = self._gate.cells_by_name()
            self._expect(node.config, [known[name] for name in names if name in known])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist the session itself knows the items."""
        cells = _cells(session.items)
        if cells and not session.config.getoption("collectonly"):
            self._expect(session.config, cells)

    def _expect(self, config: pytest.Config, cells: list[Cell]) -> None:
        self._cells = cells
        self._summary.is_wanted = True
        self._progress.start(config, cells)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what workers and this process report."""
        self._summary.add(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table of all rows; a case that could not be measured fails the session."""
        self._progress.stop()
        if not self._summary.is_wanted:
            return
        self._problem = self._gate.write_table()
        if (self._problem or self._gate.failures()) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        self._write_findings(session)

    def _write_findings(self, session: pytest.Session) -> None:
        from analysis.errors import AnalysisError

        try:
            self._compare(session)
            self._update_limits(session)
            self._summary.write_for_ci()
        except (AnalysisError, OSError) as error:
            # A verdict that nobody gets to read must not pass.
            self._problem = self._problem or str(error)
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def _compare(self, session: pytest.Session) -> None:
        update = self._gate.compare(self._cells)
        if update is None:
            return
        update.write(self._gate.benchmark.run.path / "update")
        self._summary.update = update
        if session.exitstatus != pytest.ExitCode.OK:
            return
        if update.decision.outcome == "regression":
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        elif update.decision.outcome == "inconclusive" and self._gate.is_strict():
            session.exitstatus = INCONCLUSIVE

    def _update_limits(self, session: pytest.Session) -> None:
        update = self._gate.update_limits(self._cells)
        if update is None:
            return
        is_new = not update.path.exists()
        update.write()
        self._summary.limit_changes = (str(update.path), update.changes)
        if is_new and session.exitstatus == pytest.ExitCode.OK:
            # What was never there was never kept.
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the medians, worst first, and the verdict."""
        if self._summary.is_wanted:
            self._summary.write(terminalreporter)
        if self._problem:
            terminalreporter.write_line(f"NOT WRITTEN {self._problem}", red=True)


def _asks_for_gate(config: pytest.Config) -> bool:
    """Whether the command line names this package, by path or by import name."""
    paths = (arg.partition("::")[0] for arg in config.args)
    if config.getoption("pyargs") and any(arg.partition(".")[0] == __package__ for arg in config.args):
        return True
    return any((config.invocation_params.dir / path).resolve().is_relative_to(_FOLDER) for path in paths)


def _cells(items: Iterable[pytest.Item]) -> list[Cell]:
    return list(_iterate_cells(items))


def _iterate_cells(items: Iterable[pytest.Item]) -> Iterator[Cell]:
    for item in items:
        callspec = getattr(item, "callspec", None)
        cell = callspec.params.get("robustness_cell") if callspec else None
        if cell is not None:
            yield cell
