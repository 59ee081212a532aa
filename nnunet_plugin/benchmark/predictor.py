"""A trained nnU-Net model in memory: preprocess a case once, predict many variants of it.

A model folder is code: its plans name importable functions and its checkpoints are pickles. Load only models you trust.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.loading import load_predictor, modalities
from nnunet_plugin.benchmark.metrics import dice_per_structure
from nnunet_plugin.benchmark.model_folder import find_folds
from nnunet_plugin.benchmark.sliding_window import predict_logits

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

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis before nnU-Net resampled the case, in the axis order of the plans."""
        return tuple(self.properties["shape_after_cropping_and_before_resampling"])


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


@dataclass(frozen=True)
class Scores:
    """What the folds say of one volume, on the network's grid and device.

    Attributes
    ----------
    log_probabilities
        (labels, *axes), logarithm of the mean softmax.
    fold_maps
        Each fold's own label map, (*axes), uint8.
    """

    log_probabilities: torch.Tensor
    fold_maps: tuple[torch.Tensor, ...]


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
        stock = load_predictor(self.folder, self.folds, self.device)
        self._plans = stock.plans_manager
        self._configuration = stock.configuration_manager
        self._labels = stock.label_manager
        self._dataset_json: dict[str, Any] = stock.dataset_json
        self._parameters = stock.list_of_parameters
        self._network = stock.network.to(self.device).eval()
        if self.device.type == "cpu":
            self._network = self._network.to(memory_format=torch.channels_last_3d)  # half as fast again there

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the input channels, in order."""
        return modalities(self._dataset_json)

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

    def prepare(self, images: Sequence[Path], *, normalised: bool = True) -> PreparedCase:
        """Read, crop, normalise and resample a case with nnU-Net's own preprocessor.

        Parameters
        ----------
        images
            One file per channel, in the order of :attr:`modalities`.
        normalised
            False leaves that step out: the values of the images on the grid of the network.

        Raises
        ------
        BenchmarkError
            Where the files cannot be read together, or the normalised image is not finite.
        """
        configuration = self._configuration if normalised else self._without_normalisation()
        preprocessor = configuration.preprocessor_class(verbose=False)
        files = [str(image) for image in images]
        try:
            array, _, properties = preprocessor.run_case(files, None, self._plans, configuration, self._dataset_json)
        except Exception as error:
            raise BenchmarkError(f"nnU-Net cannot read and preprocess {', '.join(files)}: {error}") from error
        if not np.isfinite(array).all():
            raise BenchmarkError(f"{', '.join(files)}: NaN or infinite values after normalisation; repair the images")
        return PreparedCase(np.ascontiguousarray(array, dtype=np.float32), properties)

    def _without_normalisation(self) -> ConfigurationManager:
        schemes = ["NoNormalization"] * len(self.modalities)
        return ConfigurationManager({**self._configuration.configuration, "normalization_schemes": schemes})

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
        channel = volume.transpose(2, 1, 0).transpose(self._plans.transpose_forward)[None]
        return self._uncropped(np.asarray(self._resampled(channel, case)[0]), case, fill=np.nan)

    def predict(self, case: PreparedCase, array: Array) -> Prediction:
        """Predict a volume, which is the case's own array or a perturbed copy of it.

        The same as :meth:`forward` and then :meth:`finish`, which can overlap with the next volume's.
        """
        prediction: Prediction = self.finish(case, self.forward(array))
        return prediction

    @torch.inference_mode()
    def forward(self, array: Array) -> Scores:
        """Run all folds over a volume.

        Parameters
        ----------
        array
            As that of a :class:`PreparedCase`.

        Raises
        ------
        BenchmarkError
            Where the network gives values that are not finite.
        """
        image = torch.from_numpy(array).to(self.device)
        total: torch.Tensor | None = None
        maps: list[torch.Tensor] = []
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
            maps.append(self._labelled(log_softmax, math.log(0.5)))
            total = self._added(total, log_softmax if self._average == "softmax" else logits)
        assert total is not None
        if not bool(torch.isfinite(total).all()):
            raise BenchmarkError("the network's output holds NaN or infinite values; nothing was measured from it")
        folds = len(self._parameters)
        mean = total.sub_(math.log(folds)) if self._average == "softmax" else torch.log_softmax(total / folds, dim=0)
        return Scores(mean, tuple(maps))

    @torch.inference_mode()
    def finish(self, case: PreparedCase, scores: Scores) -> Prediction:
        """Turn scores into a label map on the grid of the case's images; may run beside :meth:`forward`."""
        return Prediction(
            self._original_geometry(scores.log_probabilities, case),
            self._agreement(scores.fold_maps),
            self._highest(scores.log_probabilities),
        )

    def _added(self, total: torch.Tensor | None, term: torch.Tensor) -> torch.Tensor:
        """Add a fold to the sum: as probabilities in the log domain, where none underflows to 0, or as logits."""
        if total is None:
            return term
        return torch.logaddexp(total, term) if self._average == "softmax" else total.add_(term)

    def _labelled(self, scores: torch.Tensor, half: float) -> torch.Tensor:
        """Label map by the model's rule; ``half`` is a probability of one half on the scale of the scores."""
        highest, label = scores.max(dim=0)
        if self.label_rule == "0.5":
            label = torch.where(highest >= half, label, 0)
        return label.to(torch.uint8)

    def _original_geometry(self, log_probabilities: torch.Tensor, case: PreparedCase) -> LabelMap:
        """What nnU-Net's ``convert_predicted_logits_to_segmentation_with_correct_shape`` does, by this model's rule."""
        resampled = log_probabilities
        if tuple(log_probabilities.shape[1:]) != tuple(case.shape):
            resampled = torch.log_softmax(torch.as_tensor(self._resampled(log_probabilities.cpu(), case)), dim=0)
        return self._uncropped(self._labelled(resampled, math.log(0.5)).cpu().numpy(), case, fill=0)

    def _resampled(self, channels: torch.Tensor | Array, case: PreparedCase) -> torch.Tensor | Array:
        """Bring (channels, *axes) from the network's grid to the cropped images'."""
        spacing = [case.properties["spacing"][axis] for axis in self._plans.transpose_forward]
        resampled: torch.Tensor | Array = self._configuration.resampling_fn_probabilities(
            channels, case.shape, self._configuration.spacing, spacing
        )
        return resampled

    def _uncropped(self, volume: npt.NDArray[Any], case: PreparedCase, *, fill: float) -> npt.NDArray[Any]:
        """Put (*axes) on the grid of the cropped images back into the whole, (z, y, x)."""
        whole = np.full(case.properties["shape_before_cropping"], fill, volume.dtype)
        whole[tuple(slice(*bounds) for bounds in case.properties["bbox_used_for_cropping"])] = volume
        return whole.transpose(self._plans.transpose_backward)

    def _agreement(self, maps: Sequence[torch.Tensor]) -> dict[str, float]:
        # What every fold calls background counts in no Dice of a structure, and is nearly everything.
        stacked = torch.stack(list(maps)).flatten(1)
        anywhere = torch.nonzero(stacked.amax(dim=0)).flatten()
        labels = stacked[:, anywhere].cpu().numpy()
        pairs = [dice_per_structure(a, b, self.structures) for a, b in itertools.combinations(labels, 2)]
        return {
            name: float(np.mean([pair[name] for pair in pairs])) if pairs else float("nan") for name in self.structures
        }

    def _highest(self, log_probabilities: torch.Tensor) -> dict[str, float]:
        highest = log_probabilities.flatten(1).amax(dim=1).exp().tolist()
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
