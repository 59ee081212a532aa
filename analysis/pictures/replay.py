"""Measured predictions made again: what the network saw and said of one case, checked against its rows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch
import torchio

from analysis.case_images import CaseFiles, read_images
from analysis.errors import AnalysisError
from analysis.pictures.slices import Line, Window
from nnunet_plugin.benchmark.metrics import dice_per_structure
from nnunet_plugin.benchmark.model_folder import find_folds, model_hashes
from nnunet_plugin.benchmark.perturbations import BASELINE_KEY, Perturber, Realised, Variant
from nnunet_plugin.benchmark.predictor import Array, Ensemble, LabelMap
from nnunet_plugin.benchmark.results import RunFolder
from nnunet_plugin.benchmark.row_file import VariantKey, parse_rows, variant_key

TOLERANCE = 1e-6

Row = dict[str, Any]


@dataclass(frozen=True)
class Replay:
    """One variant of one case, (z, y, x) on the grid of the case's images.

    Attributes
    ----------
    seen
        The perturbed modality as the network saw it, normalised; NaN where nnU-Net cropped.
    prediction
        Label map.
    rows
        Its rows by structure.
    """

    seen: Array
    prediction: LabelMap
    rows: dict[str, Row]


def load_measured_model(run: RunFolder, model: Path) -> Ensemble:
    """Load the model of a run, on the device that it was measured on or else on the CPU.

    Parameters
    ----------
    run
        The run.
    model
        Model folder. Never the one that ``run.toml`` records by itself: a model folder is code, a run is data.

    Raises
    ------
    AnalysisError
        Where the folder holds another model than the one that was measured.
    BenchmarkError
        Where the folder is no model that can be loaded.
    """
    measured = run.settings["model"]
    folds = find_folds(model, measured["folds"])
    if model_hashes(model, folds)["sha256"] != measured["sha256"]:
        raise AnalysisError(f"{model}: holds another model than the one that was measured; name the folder of that one")
    return Ensemble(
        model,
        folds=folds,
        device=_usable(run.settings["device"]),
        step_size=run.settings["step_size"],
        label_rule=run.settings["label_rule"],
    )


@contextmanager
def measured_threads(run: RunFolder) -> Iterator[None]:
    """Compute with as many torch threads as the run did: results depend on them to the last bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(run.settings["torch_threads"])
    try:
        yield
    finally:
        torch.set_num_threads(before)


class CaseReplay:
    """What is computed once for all variants of a case that are looked at.

    Parameters
    ----------
    run
        The run.
    ensemble
        From :func:`load_measured_model`.
    case
        Case name.
    files
        Its files, see :func:`analysis.case_images.find_case_files`.

    Attributes
    ----------
    geometry
        SimpleITK image of the reference label, whose grid all arrays are on.
    images
        By modality, as stored, (z, y, x).
    reference
        Label map, (z, y, x).
    prediction
        Label map of the unperturbed images, (z, y, x).
    rows
        Rows of the unperturbed images by structure.

    Raises
    ------
    AnalysisError
        Where the images cannot be read, or the prediction is not the one that was measured.
    BenchmarkError
        Where the model cannot work on the case.
    """

    def __init__(self, run: RunFolder, ensemble: Ensemble, case: str, files: CaseFiles) -> None:
        self._run = run
        self._ensemble = ensemble
        self._case = case
        self._files = files
        images, self.geometry = read_images(files)
        self.images: dict[str, Array] = {name: _array(image) for name, image in images.items()}
        self.reference = ensemble.read_label(files.label)
        if not np.array_equal(self.reference, _array(self.geometry)):
            raise AnalysisError(f"{files.label}: the model's reader turns images; its predictions cannot be placed")
        self._measured = parse_rows(run.path / "rows" / f"{case}.jsonl", run.structures)[1]
        self._prepared = ensemble.prepare(files.images)
        self.rows = self._rows_of(BASELINE_KEY)
        self.prediction = self._predict("baseline", self._prepared.array, self.rows)

    def seen(self, modality: str) -> Array:
        """The unperturbed modality as the network sees it, normalised; NaN where nnU-Net cropped."""
        return self._ensemble.in_original_geometry(self._channel(modality), self._prepared)

    def normalisation(self, modality: str) -> Line | None:
        """Slope and offset of the line that normalised a modality; None where it was no line."""
        window = Window.of(modality, self.images[modality])
        channel = self._ensemble.modalities.index(modality)
        return window.line_to(self._prepared.array[channel], self._not_normalised[channel])

    @cached_property
    def _not_normalised(self) -> Array:
        # On the grid of the network, as the image itself is not: resampled, images no longer lie on a line.
        return self._ensemble.prepare(self._files.images, normalised=False).array

    def variant(self, variant: Variant) -> Replay:
        """Perturb a modality with the stored parameters, and predict.

        Raises
        ------
        AnalysisError
            Where the variant was not measured, or the prediction is not the one that was.
        """
        rows = self._rows_of(variant.key)
        perturber = Perturber(self._channel(variant.modality), self._ensemble.spacing_xyz)
        perturbed = perturber.apply(_realised(next(iter(rows.values()))))
        channel = self._ensemble.modalities.index(variant.modality)
        array = self._ensemble.with_channel_xyz(self._prepared.array, channel, perturbed)
        seen = self._ensemble.in_original_geometry(perturbed, self._prepared)
        return Replay(seen, self._predict(str(variant), array, rows), rows)

    def mask(self, label_map: LabelMap, structure: str) -> npt.NDArray[np.bool_]:
        """Where a label map has a structure."""
        mask: npt.NDArray[np.bool_] = label_map == self._ensemble.structures[structure]
        return mask

    def _channel(self, modality: str) -> Array:
        return self._ensemble.channel_xyz(self._prepared.array, self._ensemble.modalities.index(modality))

    def _rows_of(self, key: VariantKey) -> dict[str, Row]:
        rows = {row["structure"]: row for row in self._measured if variant_key(row) == key}
        if not rows:
            raise AnalysisError(f"{'-'.join(str(part) for part in key if part)} was not measured in case {self._case}")
        return rows

    def _predict(self, name: str, array: Array, rows: dict[str, Row]) -> LabelMap:
        """Take the prediction that the run kept, or predict; either must have the Dice of the rows."""
        kept = self._run.path / "predictions" / self._case / f"{name}{self._ensemble.file_ending}"
        label_map = (
            self._ensemble.read_label(kept)
            if kept.is_file()
            else self._ensemble.predict(self._prepared, array).label_map
        )
        self._refuse_other_dice(name, label_map, rows, "kept" if kept.is_file() else "recomputed")
        return label_map

    def _refuse_other_dice(self, name: str, label_map: LabelMap, rows: dict[str, Row], origin: str) -> None:
        scored = self.reference != self._ensemble.ignore_label
        found = dice_per_structure(self.reference * scored, label_map * scored, self._ensemble.structures)
        for structure, row in rows.items():
            # Written so that NaN differs, too.
            if not abs(found[structure] - row["dice"]) <= TOLERANCE:
                devices = f"measured on {self._run.settings['device']}, now on {self._ensemble.device.type}"
                raise AnalysisError(
                    f"case {self._case}, {name}: the {origin} prediction of {structure} has Dice "
                    f"{found[structure]:.6f}, its row {row['dice']:.6f} ({devices}); a picture would not show "
                    "what was measured; draw it with the run's device and versions"
                )


def _realised(row: Row) -> Realised:
    realised = Realised.from_json(row["parameters"])
    transform = getattr(torchio, realised.transform, None)
    # Rows are data: they must not choose what is called here beyond the transforms that a run can store.
    if not (isinstance(transform, type) and issubclass(transform, torchio.transforms.IntensityTransform)):
        raise AnalysisError(f"case {row['case']}: {realised.transform!r} is no intensity transform of TorchIO")
    return realised


def _usable(device: str) -> str:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):
        return "cpu"
    return device


def _array(image: sitk.Image) -> Array:
    array: Array = sitk.GetArrayFromImage(image)
    return array
