"""Measure a model on a cohort: what every front end calls.

Works case by case. Whoever holds a case prepares it once, predicts it unperturbed and in every wanted variant, and
appends the rows as they are measured; any number of processes can work on one run folder.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_plugin.benchmark.catalogue import Catalogue
from nnunet_plugin.benchmark.cohort import Case, Cohort
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.image_files import refuse_unfit_files
from nnunet_plugin.benchmark.metrics import Reference, dice_per_structure
from nnunet_plugin.benchmark.perturbations import BASELINE_KEY, Variant, apply, draw, grid, relative_change, seed_of
from nnunet_plugin.benchmark.predictor import Array, Ensemble, LabelMap, Prediction, PreparedCase
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import CaseRows, RunFolderError, VariantKey, writing

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.5

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
    pending = list(benchmark.cohort.cases)
    while pending:
        held = [case for case in pending if not _attempt(benchmark, case, variants, progress, started)]
        if len(held) == len(pending):
            time.sleep(_POLL_SECONDS)
        pending = held


def _attempt(benchmark: Benchmark, case: Case, variants: Sequence[Variant], progress: Progress, started: float) -> bool:
    """Work on a case; False where another process holds it."""
    if benchmark.run.failed_since(case.name, started):
        progress(case.name, len(variants) + 1)
        return True
    try:
        done = run_case(benchmark, case, variants, progress)
    except RunFolderError:
        raise
    except Exception as error:
        # One bad case must not end a cohort: whatever went wrong is recorded under its name.
        logger.debug("case %s failed", case.name, exc_info=True)
        benchmark.run.record_failure(case.name, _in_words(error))
        return True
    if done:
        benchmark.run.clear_failure(case.name)
    return done


def run_case(benchmark: Benchmark, case: Case, variants: Sequence[Variant], progress: Progress) -> bool:
    """Measure the wanted variants of one case; False where another process holds it."""
    ensemble = benchmark.ensemble
    with benchmark.run.claim(case.name, lambda: case.hashes(ensemble.modalities)) as rows:
        if rows is None:
            return False
        if rows.repaired:
            logger.warning(rows.repaired)
            benchmark.run.record_repair(rows.repaired)
        done = {key for key in rows.done if not benchmark.save_predictions or benchmark.prediction(case, key).exists()}
        missing = [variant for variant in variants if variant.key not in done]
        progress(case.name, len(variants) - len(missing) + (BASELINE_KEY in done))
        if not missing and BASELINE_KEY in done:
            return True
        on_case = _OnCase(benchmark, case, rows)
        if BASELINE_KEY not in done:
            on_case.measure_baseline()
            progress(case.name, 1)
        failures = [message for variant in missing if (message := on_case.try_variant(variant, progress))]
    if failures:
        raise BenchmarkError("; ".join(failures))
    return True


def _in_words(error: Exception) -> str:
    message = str(error) if isinstance(error, BenchmarkError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())


class _OnCase:
    """What is computed once for all variants of a case."""

    def __init__(self, benchmark: Benchmark, case: Case, rows: CaseRows) -> None:
        self._benchmark = benchmark
        self._ensemble = benchmark.ensemble
        self._case = case
        self._rows = rows
        refuse_unfit_files(case.files(self._ensemble.modalities))
        self._prepared: PreparedCase = self._ensemble.prepare(case.images)
        label_map = self._ensemble.read_label(case.label)
        spacing_zyx = self._prepared.properties["spacing"]
        self._reference = Reference(
            label_map, self._ensemble.structures, spacing_zyx, ignore_label=self._ensemble.ignore_label
        )
        start = time.perf_counter()
        self._baseline = self._ensemble.predict(self._prepared, self._prepared.array)
        self._seconds_baseline = time.perf_counter() - start

    def measure_baseline(self) -> None:
        self._store(BASELINE_KEY, self._baseline, None, json.dumps(None), 0.0, self._seconds_baseline)

    def try_variant(self, variant: Variant, progress: Progress) -> str | None:
        """Measure a variant; what went wrong in words, so that the case's other variants are measured all the same."""
        try:
            self.measure_variant(variant)
        except RunFolderError:
            raise
        except Exception as error:
            logger.debug("%s of case %s failed", variant, self._case.name, exc_info=True)
            return f"{variant}: {_in_words(error)}"
        progress(self._case.name, 1)
        return None

    def measure_variant(self, variant: Variant) -> None:
        start = time.perf_counter()
        array, seed, parameters = self._perturb(variant)
        perturbed = time.perf_counter()
        prediction = self._ensemble.predict(self._prepared, array)
        predicted = time.perf_counter()
        self._store(variant.key, prediction, seed, parameters, perturbed - start, predicted - perturbed)

    def _perturb(self, variant: Variant) -> tuple[Array, int, str]:
        entry = self._benchmark.catalogue.entry(variant.perturbation, variant.severity)
        seed = seed_of(self._benchmark.seed, entry, self._case.name, variant.modality)
        channel = self._ensemble.modalities.index(variant.modality)
        volume = self._ensemble.channel_xyz(self._prepared.array, channel)
        realised = draw(entry, seed, volume.shape)
        perturbed = apply(realised, volume, self._ensemble.spacing_xyz)
        parameters = realised.to_json(relative_change(volume, perturbed))
        return self._ensemble.with_channel_xyz(self._prepared.array, channel, perturbed), seed, parameters

    def _store(
        self,
        key: VariantKey,
        prediction: Prediction,
        seed: int | None,
        parameters: str,
        seconds_perturb: float,
        seconds_predict: float,
    ) -> None:
        start = time.perf_counter()
        measured = self._reference.measure(prediction.label_map)
        to_baseline = dice_per_structure(self._baseline.label_map, prediction.label_map, self._reference.structures)
        seconds_measure = time.perf_counter() - start
        modality, perturbation, severity = key
        rows = [
            {
                "case": self._case.name,
                "modality": modality,
                "perturbation": perturbation,
                "severity": severity,
                "structure": structure,
                **figures,
                "dice_to_baseline_prediction": to_baseline[structure],
                "fold_agreement": prediction.fold_agreement[structure],
                "max_probability": prediction.max_probability[structure],
                "seed": seed,
                "parameters": parameters,
                "seconds_perturb": seconds_perturb,
                "seconds_predict": seconds_predict,
                "seconds_measure": seconds_measure,
            }
            for structure, figures in measured.items()
        ]
        if self._benchmark.save_predictions:
            self._keep(prediction.label_map, self._benchmark.prediction(self._case, key))
        if key not in self._rows.done:
            self._rows.append(rows)

    def _keep(self, label_map: LabelMap, file: Path) -> None:
        """Write a label map whole or not at all: a later session takes what is there for done."""
        temporary = file.with_name(f".{os.getpid()}.{file.name}")
        with writing(file, "the prediction"):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._ensemble.write_label(label_map, temporary, self._prepared)
                # On a full disk ITK leaves a part of a NIfTI file and says nothing.
                refuse_unfit_files({"prediction": temporary})
                temporary.replace(file)
            except (RuntimeError, BenchmarkError) as error:
                raise OSError(str(error)) from error
            finally:
                temporary.unlink(missing_ok=True)
