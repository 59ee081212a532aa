"""Measure a model on a cohort: what every front end calls.

Works case by case. Whoever holds a case prepares it once, predicts it unperturbed and in every wanted variant, and
appends the rows as they are measured; any number of processes can work on one run folder.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_plugin.benchmark.catalogue import Catalogue
from nnunet_plugin.benchmark.cohort import Case, Cohort
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.measurement import CaseMeasurement, NetworkInput
from nnunet_plugin.benchmark.perturbations import BASELINE_KEY, Variant, grid
from nnunet_plugin.benchmark.pipeline import overlapped
from nnunet_plugin.benchmark.predictor import Ensemble, Scores
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import RunFolderError, VariantKey

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5
# The end of a case and the start of the next are steps too: the next case is read two variants before its turn.
_STEPS_AHEAD = 4

Progress = Callable[[str, int], None]
"""Called with a case's name and the number of its variants that have just become available."""


@dataclass(frozen=True)
class Benchmark:
    """One model, one cohort, one catalogue, one run folder.

    Attributes
    ----------
    ensemble, cohort, catalogue
        What is measured, on what, and how it is perturbed.
    run
        Where the rows go.
    seed
        Seed of the run; every draw's seed derives from it.
    save_predictions
        Whether label maps are kept in ``RUN/predictions/CASE/VARIANT``.
    """

    ensemble: Ensemble
    cohort: Cohort
    catalogue: Catalogue
    run: RunFolder
    seed: int = 0
    save_predictions: bool = False

    @property
    def variants(self) -> tuple[Variant, ...]:
        """The whole grid without the baseline."""
        return grid(self.catalogue, self.ensemble.modalities)

    def prediction(self, case: Case, key: VariantKey) -> Path:
        """Where the label map of one variant is kept."""
        name = "-".join(map(str, key)) if key != BASELINE_KEY else key[1]
        return self.run.path / "predictions" / case.name / f"{name}{self.ensemble.file_ending}"

    @property
    def size(self) -> int:
        """Number of volumes to predict: cases times (variants and baseline)."""
        return len(self.cohort.cases) * (len(self.variants) + 1)


def measure(benchmark: Benchmark, variants: Sequence[Variant], progress: Progress = lambda _case, _count: None) -> None:
    """Measure the wanted variants of every case that is not measured yet.

    Cases held by other processes are left to them and looked at again at the end, so that nothing is computed twice
    and what a killed process leaves behind is done all the same. A case that fails is recorded in the run folder and
    the others go on.

    Parameters
    ----------
    benchmark
        What to measure.
    variants
        Wanted variants; the baseline is always measured.
    progress
        Called as variants become available, with those found on disk counted too.

    Raises
    ------
    RunFolderError
        Where rows cannot be written.
    """
    started = time.time()
    pending: Sequence[Case] = benchmark.cohort.cases
    while pending:
        held = attempt(benchmark, pending, variants, progress, started)
        if len(held) == len(pending):
            time.sleep(_POLL_SECONDS)
        pending = held


def attempt(
    benchmark: Benchmark, cases: Sequence[Case], variants: Sequence[Variant], progress: Progress, started: float
) -> list[Case]:
    """Work on each of these cases once, but on none that has failed since ``started`` (seconds since the epoch).

    While the network predicts one variant, the next ones are prepared and the last one is measured, also from one
    case to the next.

    Returns
    -------
    list of Case
        Those that another process holds.
    """
    work = _Pass(benchmark, variants, started)
    try:
        with closing(overlapped(work.steps(cases), _computed, _finished, ahead=_STEPS_AHEAD)) as results:
            for case, count in results:
                if count:
                    progress(case, count)
    finally:
        work.release_all()
    return work.held


class _Step:
    """One thing to do for a case, on its way through the pipeline; most do nothing in most stages."""

    def compute(self) -> None:
        """What the network does."""

    def finish(self) -> tuple[str, int]:
        """What comes after; gives the case's name and the number of its variants that have become available."""
        raise NotImplementedError


def _computed(step: _Step) -> _Step:
    step.compute()
    return step


def _finished(step: _Step) -> tuple[str, int]:
    return step.finish()


class _Pass:
    """Cases one after the other, as steps; holds those that are under way."""

    def __init__(self, benchmark: Benchmark, variants: Sequence[Variant], started: float) -> None:
        self._benchmark = benchmark
        self._variants = variants
        self._started = started
        self._claims: dict[str, ExitStack] = {}
        self.held: list[Case] = []

    def steps(self, cases: Sequence[Case]) -> Iterator[_Step]:
        for case in cases:
            if self._benchmark.run.failed_since(case.name, self._started):
                yield _Found(case.name, len(self._variants) + 1)
                continue
            work = _Case(self, case)
            try:
                yield from self._of_case(work)
            except RunFolderError:
                raise
            except Exception as error:
                # One bad case must not end a cohort: whatever went wrong is recorded under its name.
                work.fail(error)
                yield _End(work)

    def _of_case(self, work: _Case) -> Iterator[_Step]:
        benchmark, case = self._benchmark, work.case
        claim = self._claims.setdefault(case.name, ExitStack())
        rows = claim.enter_context(benchmark.run.claim(case.name, lambda: case.hashes(benchmark.ensemble.modalities)))
        if rows is None:
            self._claims.pop(case.name).close()
            self.held.append(case)
            return
        if rows.repaired:
            logger.warning(rows.repaired)
            benchmark.run.record_repair(rows.repaired)
        done = {key for key in rows.done if not benchmark.save_predictions or benchmark.prediction(case, key).exists()}
        missing = [variant for variant in self._variants if variant.key not in done]
        yield _Found(case.name, len(self._variants) - len(missing) + (BASELINE_KEY in done))
        if missing or BASELINE_KEY not in done:
            yield from _measurements(work, CaseMeasurement(benchmark, case, rows), missing, done)
        yield _End(work)

    def conclude(self, work: _Case) -> None:
        """Record how a case ended, and let go of it."""
        if work.failures:
            self._benchmark.run.record_failure(work.case.name, "; ".join(work.failures))
        else:
            self._benchmark.run.clear_failure(work.case.name)
        self._claims.pop(work.case.name).close()

    def release_all(self) -> None:
        for claim in self._claims.values():
            claim.close()


@dataclass
class _Case:
    """A case and what went wrong with it."""

    of: _Pass
    case: Case
    failures: list[str] = field(default_factory=list)
    is_lost: bool = False

    def fail(self, error: Exception, variant: Variant | None = None) -> None:
        """Note what went wrong with one variant, or with all that is left of the case."""
        if isinstance(error, RunFolderError):
            raise error
        logger.debug("%s of case %s failed", variant or "all", self.case.name, exc_info=error)
        self.failures.append(f"{variant}: {_in_words(error)}" if variant else _in_words(error))
        self.is_lost = self.is_lost or variant is None


def _measurements(
    work: _Case, measurement: CaseMeasurement, missing: Sequence[Variant], done: Collection[VariantKey]
) -> Iterator[_Step]:
    yield _Measured(work, measurement, None, measurement.unperturbed(), is_new=BASELINE_KEY not in done)
    for variant in missing:
        if work.is_lost:
            return
        try:
            volume = measurement.perturb(variant)
        except Exception as error:
            # It must not end the case's other variants.
            work.fail(error, variant)
        else:
            yield _Measured(work, measurement, variant, volume)


@dataclass
class _Found(_Step):
    """Variants that need no work."""

    case: str
    count: int

    def finish(self) -> tuple[str, int]:
        return self.case, self.count


@dataclass
class _End(_Step):
    """The end of a case."""

    work: _Case

    def finish(self) -> tuple[str, int]:
        self.work.of.conclude(self.work)
        return self.work.case.name, 0


@dataclass
class _Measured(_Step):
    """One volume to predict and measure: the baseline, where ``variant`` is None, without which a case is lost."""

    work: _Case
    measurement: CaseMeasurement
    variant: Variant | None
    volume: NetworkInput
    is_new: bool = True
    _predicted: tuple[Scores, float] | None = None

    def compute(self) -> None:
        if self.work.is_lost:
            return
        try:
            self._predicted = self.measurement.predict(self.volume)
        except Exception as error:
            self.work.fail(error, self.variant)

    def finish(self) -> tuple[str, int]:
        name = self.work.case.name
        if self._predicted is None or self.work.is_lost:
            return name, 0
        key = self.variant.key if self.variant else BASELINE_KEY
        try:
            self.measurement.store(key, self.volume, *self._predicted)
        except Exception as error:
            self.work.fail(error, self.variant)
            return name, 0
        return name, int(self.is_new)


def _in_words(error: Exception) -> str:
    message = str(error) if isinstance(error, BenchmarkError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())
