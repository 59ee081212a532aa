"""Progress lines while variants are measured, by this process or by others: read off the run folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from nnunet_plugin.benchmark.row_file import VariantKey
    from robustness_tests.gate import Cell, Gate

_SECONDS_BETWEEN_LINES = 15.0


class ProgressLines:
    """Writes a line now and then until everything expected is there.

    Parameters
    ----------
    gate
        Gives the run folder and the cases.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._wanted: set[VariantKey] = set()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, config: pytest.Config, cells: Sequence[Cell]) -> None:
        """Start to watch for the variants of these cells, and for the baseline, which comes with them."""
        if self._thread is None:
            self._wanted = {(None, "baseline", 0), *(cell.variant_key for cell in cells)}
            self._thread = threading.Thread(target=self._watch, args=(config,), daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._done.set()
        if self._thread:
            self._thread.join()

    def _watch(self, config: pytest.Config) -> None:
        from nnunet_plugin.benchmark.progress import time_left
        from nnunet_plugin.benchmark.table import MeasuredVariants

        run, cases = self._gate.benchmark.run, self._gate.benchmark.cohort.cases
        on_disk = MeasuredVariants(run.path, run.structures)
        start, at_start, shown = time.monotonic(), None, None
        while not self._done.wait(_SECONDS_BETWEEN_LINES):
            by_case = on_disk.by_case()
            measured = sum(len(by_case.get(case.name, set()) & self._wanted) for case in cases)
            if at_start is None:
                at_start, start = measured, time.monotonic()
            total = len(self._wanted) * len(cases)
            if measured == shown or measured >= total:
                continue
            shown = measured
            left = time_left(measured - at_start, total - measured, time.monotonic() - start)
            _write(config, f"robustness: {measured} of {total} variants measured{left}")


def _write(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(line)
        reporter.flush()
