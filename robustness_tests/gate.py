"""What the gate's tests share: the benchmark behind them, its measurement, and the judgement of one cell."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import pytest

from robustness_tests.options import (
    benchmark_options,
    is_strict,
    limits_file,
    limits_to_update,
    reference_folder,
)

if TYPE_CHECKING:
    import pandas as pd

    from analysis.limit_update import LimitUpdate
    from analysis.model_update import ModelUpdate
    from analysis.verdict import CellSummary, Limits
    from nnunet_plugin.benchmark.results import RunFolder
    from nnunet_plugin.benchmark.run import Benchmark, Progress

# torch, TorchIO and nnU-Net are imported where they are used: this module is loaded by every pytest session of an
# environment in which the plugin is installed.


@dataclass(frozen=True)
class Cell:
    """One test: a modality perturbed in one way at one severity, seen in one structure."""

    modality: str
    perturbation: str
    severity: int
    structure: str

    def __str__(self) -> str:
        """Test id, e.g. ``CT-spike-2-GTVp``."""
        return f"{self.modality}-{self.perturbation}-{self.severity}-{self.structure}"

    @property
    def variant_key(self) -> tuple[str, str, int]:
        """The cell's variant as it stands in a row."""
        return self.modality, self.perturbation, self.severity


@dataclass(frozen=True)
class CellResult:
    """Figures of one cell and the limits that it breaks, in words."""

    summary: CellSummary
    violations: tuple[str, ...]
    has_limit: bool

    def properties(self) -> dict[str, object]:
        """What a test attaches to its report."""
        s = self.summary
        return {
            "n": s.n,
            "median_delta_dice": s.median,
            "interval": [s.low, s.high],
            "mean_delta_dice": s.mean,
            "newly_missed": f"{s.newly_missed}/{s.at_risk}",
            "worst_case": s.worst_case,
            "worst_delta_dice": s.worst_delta,
            "has_limit": self.has_limit,
        }


class Gate:
    """One per process; opens the model when something needs it.

    Parameters
    ----------
    config
        Where the options come from.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @cached_property
    def benchmark(self) -> Benchmark:
        """Model, cohort, catalogue and run folder; a usage error where they do not fit together."""
        from nnunet_plugin.benchmark.errors import BenchmarkError
        from nnunet_plugin.benchmark.settings import open_benchmark

        options = benchmark_options(self._config)
        try:
            return open_benchmark(replace(options, device=self._device(options.device)))
        except BenchmarkError as error:
            raise pytest.UsageError(str(error)) from error

    @cached_property
    def limits(self) -> Limits:
        """The limits in force; a usage error where the file cannot be used."""
        from analysis.errors import AnalysisError
        from analysis.verdict import Limits

        file = limits_file(self._config)
        if file and not file.exists() and limits_to_update(self._config):
            return Limits(file, ())
        try:
            limits = Limits.load(file)
            limits.check_names(
                self.benchmark.ensemble.modalities,
                self.benchmark.catalogue.perturbations,
                tuple(self.benchmark.ensemble.structures),
                sorted({entry.severity for entry in self.benchmark.catalogue.entries}),
            )
        except AnalysisError as error:
            raise pytest.UsageError(str(error)) from error
        return limits

    def check(self) -> None:
        """Open everything once, so that a wrong option ends the session before it starts."""
        limits_to_update(self._config), is_strict(self._config)
        _ = self.benchmark, self.limits
        self._check_reference()

    def cells(self) -> list[Cell]:
        """All cells, in the order of channels, catalogue and labels."""
        return [
            Cell(variant.modality, variant.perturbation, variant.severity, structure)
            for variant in self.benchmark.variants
            for structure in self.benchmark.ensemble.structures
        ]

    def cells_by_name(self) -> dict[str, Cell]:
        """All cells by what stands between the brackets of their test ids, where pytest escapes what is not ASCII."""
        return {str(cell).encode("unicode_escape").decode(): cell for cell in self.cells()}

    def measure(self, cells: Sequence[Cell], progress: Progress = lambda _case, _count: None) -> None:
        """Measure the variants of these cells, sharing the cases with the other workers."""
        from nnunet_plugin.benchmark.errors import BenchmarkError
        from nnunet_plugin.benchmark.run import measure

        wanted = {cell.variant_key for cell in cells}
        variants = [variant for variant in self.benchmark.variants if variant.key in wanted]
        try:
            measure(self.benchmark, variants, progress)
        except BenchmarkError as error:
            raise pytest.UsageError(str(error)) from error

    @cached_property
    def _paired(self) -> pd.DataFrame:
        from analysis.pairing import paired

        return paired(self.benchmark.run.rows())

    def judge(self, cell: Cell) -> CellResult | None:
        """Figures and broken limits of a measured cell; None where no reference contour has the structure."""
        from analysis.verdict import CellLimits, summarise_cell, violations

        of_cell = self._paired
        for column in ("modality", "perturbation", "severity", "structure"):
            of_cell = of_cell[of_cell[column] == getattr(cell, column)]
        if len(of_cell) and not of_cell["reference_present"].any():
            return None
        summary = summarise_cell(of_cell)
        limits = self.limits.of(cell.modality, cell.perturbation, cell.severity, cell.structure)
        return CellResult(summary, tuple(violations(summary, limits)), has_limit=limits != CellLimits())

    def update_limits(self, cells: Sequence[Cell]) -> LimitUpdate | None:
        """Work out new limits of these cells, if they are asked for; nothing is written."""
        which = limits_to_update(self._config)
        if which is None:
            return None
        from analysis.limit_update import update_limits
        from analysis.pairing import CellKey

        results = {CellKey(c.modality, c.perturbation, c.severity, c.structure): self.judge(c) for c in cells}
        summaries = {key: result.summary for key, result in results.items() if result}
        return update_limits(self.limits, summaries, which)

    @cached_property
    def _reference(self) -> RunFolder | None:
        from nnunet_plugin.benchmark.errors import BenchmarkError
        from nnunet_plugin.benchmark.results import RunFolder

        folder = reference_folder(self._config)
        try:
            return RunFolder(folder) if folder else None
        except BenchmarkError as error:
            raise pytest.UsageError(f"--robustness-reference: {error}") from error

    def _check_reference(self) -> None:
        """Refuse a reference of other cases, catalogue or seed before anything is measured."""
        from analysis.comparability import check_comparable
        from analysis.errors import AnalysisError
        from analysis.model_update import load_margins

        if self._reference is None:
            return
        try:
            load_margins(limits_file(self._config))
            check_comparable(self.benchmark.run, self._reference)
        except AnalysisError as error:
            raise pytest.UsageError(f"--robustness-reference: {error}") from error

    def compare(self, cells: Sequence[Cell]) -> ModelUpdate | None:
        """Compare these cells' variants with the reference run, if there is one."""
        if self._reference is None:
            return None
        from analysis.errors import AnalysisError
        from analysis.model_update import compare_runs, load_margins

        # A part of the grid is compared with the same part; the whole with all that either run has.
        variants = {cell.variant_key for cell in cells}
        whole = variants == {variant.key for variant in self.benchmark.variants}
        try:
            margins = load_margins(limits_file(self._config))
            return compare_runs(self.benchmark.run, self._reference, margins, None if whole else variants)
        except AnalysisError as error:
            raise pytest.UsageError(f"--robustness-reference: {error}") from error

    def is_strict(self) -> bool:
        """Whether an inconclusive comparison fails the session."""
        return is_strict(self._config)

    def repairs(self) -> list[str]:
        """What this run folder's files were found broken in, and was measured again."""
        return self.benchmark.run.repairs()

    def failures(self) -> dict[str, str]:
        """Why cases of this cohort could not be measured, by case name."""
        return self.benchmark.run.failures()

    def write_table(self) -> str:
        """Write the table of all rows; gives why it cannot be written, in words, or nothing."""
        from nnunet_plugin.benchmark.errors import BenchmarkError

        try:
            self.benchmark.run.write_table()
        except BenchmarkError as error:
            return str(error)
        return ""

    def workers(self) -> int:
        """Worker processes for ``-n auto``."""
        from nnunet_plugin.benchmark.workers import worker_count

        return worker_count(self.benchmark, benchmark_options(self._config).device)

    def _device(self, asked: str | None) -> str | None:
        """Spread xdist's workers over the GPUs."""
        import torch

        worker = re.fullmatch(r"gw(\d+)", os.environ.get("PYTEST_XDIST_WORKER", ""))
        gpus = torch.cuda.device_count()
        if worker and gpus and asked in {None, "cuda"}:
            return f"cuda:{int(worker[1]) % gpus}"
        return asked
