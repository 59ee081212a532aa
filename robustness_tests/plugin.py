"""pytest plugin: options, the shared measurement, and the summary on the controller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from robustness_tests.gate import Cell, Gate
from robustness_tests.options import HOW_TO_CONFIGURE, add_options, is_configured
from robustness_tests.progress import ProgressLines
from robustness_tests.summary import Summary

_GATE = pytest.StashKey[Gate]()
_WATCHER = pytest.StashKey["_Watcher"]()
_FOLDER = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Check everything that can be checked before work starts, and watch the session from the controller."""
    config.addinivalue_line("markers", "robustness: a test of the robustness gate")
    config.stash[_GATE] = Gate(config)
    if _is_worker(config) or not _asks_for_gate(config):
        return
    if not is_configured(config):
        raise pytest.UsageError(HOW_TO_CONFIGURE)
    if not config.getoption("collectonly"):
        config.stash[_GATE].check()
        config.stash[_WATCHER] = _Watcher(config.stash[_GATE])
        config.pluginmanager.register(config.stash[_WATCHER])


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """``-n auto``: one worker per GPU, or what cores, memory and the number of cases allow."""
    if not (_asks_for_gate(config) and is_configured(config)):
        return None
    return Gate(config).workers()


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
    """On the controller (or in the only process): progress while measuring, table and verdict at the end."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._summary = Summary(gate)
        self._progress = ProgressLines(gate)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: list[str]) -> None:  # noqa: ARG002
        """Under xdist only the workers collect; every worker collects the same."""
        known = {str(cell): cell for cell in self._gate.cells()}
        names = (test_id.rpartition("[")[2].rstrip("]") for test_id in ids)
        self._progress.expect([known[name] for name in names if name in known])

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist the session itself knows the items."""
        self._progress.expect(_cells(session.items))

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Start to report progress."""
        self._progress.start(session.config)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect what workers and this process report."""
        self._summary.add(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table of all rows; a case that could not be measured fails the session."""
        self._progress.stop()
        self._gate.benchmark.run.write_table()
        if self._gate.failures() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the medians, worst first, and the verdict."""
        self._summary.write(terminalreporter)


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


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
