"""One case under measurement: what is computed once for all its variants, and the steps of each variant."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_plugin.benchmark.cohort import Case
from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.image_files import refuse_unfit_files
from nnunet_plugin.benchmark.metrics import Reference, dice_per_structure
from nnunet_plugin.benchmark.perturbations import Perturber, Variant, draw, seed_of
from nnunet_plugin.benchmark.predictor import Array, LabelMap, PreparedCase, Scores
from nnunet_plugin.benchmark.row_file import CaseRows, VariantKey, writing

if TYPE_CHECKING:
    from nnunet_plugin.benchmark.run import Benchmark


@dataclass(frozen=True)
class NetworkInput:
    """What the network is given of one variant.

    Attributes
    ----------
    array
        As that of a :class:`~nnunet_plugin.benchmark.predictor.PreparedCase`.
    seed
        Of the draw; None for the baseline.
    parameters
        JSON, as it stands in a row.
    seconds
        What perturbing took.
    """

    array: Array
    seed: int | None
    parameters: str
    seconds: float


class CaseMeasurement:
    """Reads and prepares a case once, then perturbs, predicts and measures it variant by variant.

    :meth:`perturb`, :meth:`predict` and :meth:`store` may each run in a thread of its own.

    Parameters
    ----------
    benchmark
        What is measured.
    case
        The case, whose files are read here.
    rows
        Where its rows go.

    Raises
    ------
    BenchmarkError
        Where its files cannot be used.
    """

    def __init__(self, benchmark: Benchmark, case: Case, rows: CaseRows) -> None:
        self._benchmark = benchmark
        self._ensemble = benchmark.ensemble
        self._case = case
        self._rows = rows
        refuse_unfit_files(case.files(self._ensemble.modalities))
        self._prepared: PreparedCase = self._ensemble.prepare(case.images)
        self._reference = Reference(
            self._ensemble.read_label(case.label),
            self._ensemble.structures,
            self._prepared.properties["spacing"],
            ignore_label=self._ensemble.ignore_label,
        )
        self._perturber: tuple[str, Perturber] | None = None
        self._baseline: LabelMap | None = None

    def unperturbed(self) -> NetworkInput:
        """The case as it is."""
        return NetworkInput(self._prepared.array, None, json.dumps(None), 0.0)

    def perturb(self, variant: Variant) -> NetworkInput:
        """Draw and apply a perturbation."""
        start = time.perf_counter()
        entry = self._benchmark.catalogue.entry(variant.perturbation, variant.severity)
        seed = seed_of(self._benchmark.seed, entry, self._case.name, variant.modality)
        channel = self._ensemble.modalities.index(variant.modality)
        perturber = self._perturber_of(variant.modality, channel)
        realised = draw(entry, seed, perturber.shape)
        perturbed = perturber.apply(realised)
        parameters = realised.to_json(perturber.relative_change(perturbed))
        array = self._ensemble.with_channel_xyz(self._prepared.array, channel, perturbed)
        return NetworkInput(array, seed, parameters, time.perf_counter() - start)

    def _perturber_of(self, modality: str, channel: int) -> Perturber:
        # One at a time, since each keeps spectra; variants come modality by modality.
        if self._perturber is None or self._perturber[0] != modality:
            volume = self._ensemble.channel_xyz(self._prepared.array, channel)
            device = self._ensemble.device if self._ensemble.device.type == "cuda" else "cpu"
            self._perturber = modality, Perturber(volume, self._ensemble.spacing_xyz, device)
        return self._perturber[1]

    def predict(self, volume: NetworkInput) -> tuple[Scores, float]:
        """Run the network; gives its scores and the seconds that it took."""
        start = time.perf_counter()
        scores = self._ensemble.forward(volume.array)
        return scores, time.perf_counter() - start

    def store(self, key: VariantKey, volume: NetworkInput, scores: Scores, seconds_predict: float) -> None:
        """Measure a prediction and append its rows; the baseline's comes first.

        Raises
        ------
        RunFolderError
            Where the run folder cannot be written.
        """
        start = time.perf_counter()
        prediction = self._ensemble.finish(self._prepared, scores)
        if self._baseline is None:
            self._baseline = prediction.label_map
        measured = self._reference.measure(prediction.label_map)
        to_baseline = dice_per_structure(self._baseline, prediction.label_map, self._reference.structures)
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
                "seed": volume.seed,
                "parameters": volume.parameters,
                "seconds_perturb": volume.seconds,
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
        # One name for all processes: only the holder of the case writes, over what a killed one has left.
        temporary = file.with_name(f".{file.name}")
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
