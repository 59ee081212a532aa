"""A trained nnU-Net model in memory: preprocess a case once, predict many variants of it.

A model folder is code: its plans name importable functions and its checkpoints are pickles. Load only models you trust.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.metrics import dice_per_structure
from nnunet_plugin.benchmark.model_folder import CHECKPOINT, find_folds
from nnunet_plugin.benchmark.sliding_window import predict_logits
from nnunet_plugin.training.environment import register_external_trainers

LabelRule = Literal["0.5", "argmax"]

Array = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PreparedCase:
    """One case as the network sees it.

    Attributes
    ----------
    array
        (channels, *axes) in the axis order and at the spacing of the plans, normalised, float32.
    properties
        nnU-Net's record of the way back to the image's own geometry.
    """

    array: Array
    properties: dict[str, Any]


@dataclass(frozen=True)
class Prediction:
    """What the ensemble says of one volume.

    Attributes
    ----------
    label_map
        (z, y, x) in the image's own geometry.
    fold_agreement
        By structure: mean pairwise Dice of the folds' own label maps on the network's grid; NaN for a single fold.
    max_probability
        By structure: highest mean probability of any voxel of the network's grid.
    """

    label_map: LabelMap
    fold_agreement: dict[str, float]
    max_probability: dict[str, float]


class Ensemble:
    """The folds of one model.

    Parameters
    ----------
    model_folder
        nnU-Net's ``TRAINER__PLANS__CONFIGURATION`` folder.
    folds
        Folds to use, e.g. ``("0", "1")`` or ``("all",)``; None for every trained fold.
    device
        ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    step_size
        Distance between sliding windows as a share of the window.
    label_rule
        ``0.5``: a structure wherever its probability reaches one half (the study); ``argmax``: nnU-Net's own.
    average
        What is averaged over the folds: ``softmax`` in float32 (the study, ``nnUNetv2_ensemble``) or ``logits``
        (``nnUNetv2_predict``).

    Raises
    ------
    BenchmarkError
        Where the folder is no trained 3-D model with exclusive labels, or lacks a fold.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        folds: Sequence[str] | None = None,
        device: str = "cpu",
        step_size: float = 0.5,
        label_rule: LabelRule = "0.5",
        average: Literal["softmax", "logits"] = "softmax",
    ) -> None:
        self.folder = Path(model_folder)
        self.folds = find_folds(self.folder, folds)
        self.device = torch.device(device)
        self.step_size = step_size
        self.label_rule = label_rule
        self._average = average
        self._load()

    def _load(self) -> None:
        register_external_trainers()
        # nnU-Net reports on standard output where it looks for trainers, and pleads for a GPU.
        with contextlib.redirect_stdout(io.StringIO()):
            from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

            stock = nnUNetPredictor(device=self.device, perform_everything_on_device=self.device.type == "cuda")
            try:
                stock.initialize_from_trained_model_folder(str(self.folder), self.folds, CHECKPOINT)
            except Exception as error:
                raise BenchmarkError(f"{self.folder}: nnU-Net cannot load this model: {error}") from error
        # nnU-Net lets cuDNN choose its algorithms by timing them, anew in every process: rows would differ.
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        self._plans = stock.plans_manager
        self._configuration = stock.configuration_manager
        self._labels = stock.label_manager
        self._dataset_json: dict[str, Any] = stock.dataset_json
        self._parameters = stock.list_of_parameters
        self._refuse_unsupported()
        self._network = stock.network.to(self.device).eval()
        if self.device.type == "cpu":
            self._network = self._network.to(memory_format=torch.channels_last_3d)  # half as fast again there

    def _refuse_unsupported(self) -> None:
        if self._labels.has_regions:
            raise BenchmarkError(
                f"{self.folder} is a region-based model; only models with exclusive labels are supported"
            )
        if len(self._configuration.patch_size) != 3:
            raise BenchmarkError(f"{self.folder} is a 2d model; only 3d models are supported")
        if len(set(self.modalities)) < len(self.modalities):
            raise BenchmarkError(
                f"{self.folder}/dataset.json: the channels {', '.join(self.modalities)} do not have different names; "
                "a perturbed modality could not be told from another; rename them there"
            )
        if self._configuration.previous_stage_name is not None:
            raise BenchmarkError(
                f"{self.folder} is the second stage of a cascade; only single-stage models are supported"
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""
        names = self._dataset_json["channel_names"]
        return tuple(names[key] for key in sorted(names, key=int))

    @property
    def structures(self) -> dict[str, int]:
        """Label value of each foreground label by name, in the order of their values."""
        labels = {name: v for name, v in self._dataset_json["labels"].items() if v in self._labels.foreground_labels}
        return dict(sorted(labels.items(), key=lambda item: item[1]))

    @property
    def ignore_label(self) -> int | None:
        """Label value that marks voxels without annotation, if the data set has one."""
        value: int | None = self._labels.ignore_label
        return value

    @property
    def patch_voxels(self) -> int:
        """Voxels of the network's input window."""
        return int(np.prod(self._configuration.patch_size))

    @property
    def file_ending(self) -> str:
        """Ending of image and label files, e.g. ``.nii.gz``."""
        ending: str = self._dataset_json["file_ending"]
        return ending

    @property
    def spacing_xyz(self) -> tuple[float, float, float]:
        """Voxel size of the network's grid in mm, (x, y, z)."""
        spacing = [float(self._configuration.spacing[axis]) for axis in self._plans.transpose_backward]
        return spacing[2], spacing[1], spacing[0]

    def prepare(self, images: Sequence[Path]) -> PreparedCase:
        """Read, crop, normalise and resample a case with nnU-Net's own preprocessor.

        Parameters
        ----------
        images
            One file per channel, in the order of :attr:`modalities`.

        Raises
        ------
        BenchmarkError
            Where the files cannot be read together, or the normalised image is not finite.
        """
        preprocessor = self._configuration.preprocessor_class(verbose=False)
        files = [str(image) for image in images]
        try:
            array, _, properties = preprocessor.run_case(
                files, None, self._plans, self._configuration, self._dataset_json
            )
        except Exception as error:
            raise BenchmarkError(f"nnU-Net cannot read and preprocess {', '.join(files)}: {error}") from error
        if not np.isfinite(array).all():
            raise BenchmarkError(f"{', '.join(files)}: NaN or infinite values after normalisation; repair the images")
        return PreparedCase(np.ascontiguousarray(array, dtype=np.float32), properties)

    def channel_xyz(self, array: Array, channel: int) -> Array:
        """One channel of a prepared array as (x, y, z), the order in which TorchIO perturbs."""
        return np.ascontiguousarray(array[channel].transpose(self._plans.transpose_backward).transpose(2, 1, 0))

    def with_channel_xyz(self, array: Array, channel: int, volume: Array) -> Array:
        """Copy of a prepared array in which one channel is replaced by a volume in (x, y, z)."""
        changed = array.copy()
        changed[channel] = volume.transpose(2, 1, 0).transpose(self._plans.transpose_forward)
        return changed

    def in_original_geometry(self, volume: Array, case: PreparedCase) -> Array:
        """Bring a channel back to the grid of the case's images, to be looked at.

        Parameters
        ----------
        volume
            (x, y, z), as :meth:`channel_xyz` gives it.
        case
            The case that it belongs to.

        Returns
        -------
        ndarray
            (z, y, x), still normalised; NaN where nnU-Net cropped the images.
        """
        properties = case.properties
        resized = self._configuration.resampling_fn_probabilities(
            volume.transpose(2, 1, 0).transpose(self._plans.transpose_forward)[None],
            properties["shape_after_cropping_and_before_resampling"],
            self._configuration.spacing,
            [properties["spacing"][axis] for axis in self._plans.transpose_forward],
        )
        whole = np.full(properties["shape_before_cropping"], np.nan, np.float32)
        whole[tuple(slice(*bounds) for bounds in properties["bbox_used_for_cropping"])] = np.asarray(resized[0])
        return whole.transpose(self._plans.transpose_backward)

    @torch.inference_mode()
    def predict(self, case: PreparedCase, array: Array) -> Prediction:
        """Predict a volume, which is the case's own array or a perturbed copy of it.

        Raises
        ------
        BenchmarkError
            Where the network gives values that are not finite.
        """
        image = torch.from_numpy(array).to(self.device)
        total: torch.Tensor | None = None
        maps: list[LabelMap] = []
        for parameters in self._parameters:
            # With nnUNet_compile set, nnU-Net hands out a compiled network, whose weights sit one level deeper.
            getattr(self._network, "_orig_mod", self._network).load_state_dict(parameters)
            logits = predict_logits(
                self._network,
                image,
                patch_size=self._configuration.patch_size,
                step_size=self.step_size,
                num_classes=self._labels.num_segmentation_heads,
            )
            log_softmax = torch.log_softmax(logits, dim=0)
            maps.append(self._label_map(log_softmax.exp()))
            total = self._added(total, log_softmax if self._average == "softmax" else logits)
        assert total is not None
        if not bool(torch.isfinite(total).all()):
            raise BenchmarkError("the network's output holds NaN or infinite values; nothing was measured from it")
        folds = len(self._parameters)
        mean = total - math.log(folds) if self._average == "softmax" else torch.log_softmax(total / folds, dim=0)
        return Prediction(self._original_geometry(mean, case), self._agreement(maps), self._highest(mean.exp()))

    def _added(self, total: torch.Tensor | None, term: torch.Tensor) -> torch.Tensor:
        """Add a fold to the sum: as probabilities in the log domain, where none underflows to 0, or as logits."""
        if total is None:
            return term
        return torch.logaddexp(total, term) if self._average == "softmax" else total.add_(term)

    def _label_map(self, probabilities: torch.Tensor) -> LabelMap:
        highest, label = probabilities.max(dim=0)
        if self.label_rule == "0.5":
            label = torch.where(highest >= 0.5, label, 0)
        labels: LabelMap = label.to(torch.uint8).cpu().numpy()
        return labels

    def _original_geometry(self, log_probabilities: torch.Tensor, case: PreparedCase) -> LabelMap:
        from nnunetv2.inference.export_prediction import (
            convert_predicted_logits_to_segmentation_with_correct_shape,
        )

        _, probabilities = convert_predicted_logits_to_segmentation_with_correct_shape(
            log_probabilities.cpu(),
            self._plans,
            self._configuration,
            self._labels,
            case.properties,
            return_probabilities=True,
            num_threads_torch=torch.get_num_threads(),
        )
        return self._label_map(torch.from_numpy(probabilities))

    def _agreement(self, maps: Sequence[LabelMap]) -> dict[str, float]:
        pairs = [dice_per_structure(a, b, self.structures) for a, b in itertools.combinations(maps, 2)]
        return {
            name: float(np.mean([pair[name] for pair in pairs])) if pairs else float("nan") for name in self.structures
        }

    def _highest(self, probabilities: torch.Tensor) -> dict[str, float]:
        highest = probabilities.flatten(1).amax(dim=1).tolist()
        return {name: highest[label] for name, label in self.structures.items()}

    def read_label(self, file: Path) -> LabelMap:
        """Read a reference label map with nnU-Net's reader.

        Returns
        -------
        ndarray
            (z, y, x).

        Raises
        ------
        BenchmarkError
            Where it holds a value that the model's labels do not have.
        """
        labels, _ = self._reader().read_seg(str(file))
        known = {0, *self.structures.values(), *([] if self.ignore_label is None else [self.ignore_label])}
        unknown = sorted({float(value) for value in np.unique(labels)} - known)
        if unknown:
            raise BenchmarkError(f"{file}: holds the label values {unknown}; the model's labels are {sorted(known)}")
        label_map: LabelMap = labels[0].astype(np.uint8)
        return label_map

    def write_label(self, label_map: LabelMap, file: Path, case: PreparedCase) -> None:
        """Write a label map in the geometry of the case's images."""
        self._reader().write_seg(label_map, str(file), case.properties)

    def _reader(self) -> Any:
        return self._plans.image_reader_writer_class()
