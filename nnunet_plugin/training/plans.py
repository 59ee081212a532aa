"""Stock nnU-Net plans -> ``DynUNetPlans``: pure functions, no files."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PLANS_NAME = "DynUNetPlans"
CONFIGURATION = "3d_fullres"
NETWORK = "nnunet_plugin.training.network.build_dynunet"
TRAINING_KEY = "dynunet_training"


@dataclass(frozen=True)
class TrainingSettings:
    """What nnU-Net's trainer keeps as attributes, stored in the plans so that every checkpoint knows it.

    The field names are those of the attributes of ``nnUNetTrainer``. The defaults are the study's.

    Parameters
    ----------
    num_epochs
        Epochs; the learning rate decays to zero over them.
    num_iterations_per_epoch
        Batches per epoch. None: ceil(training cases of the fold / batch size), one pass over the cases.
    num_val_iterations_per_epoch
        Batches of nnU-Net's online validation, which only draws a curve and picks ``checkpoint_best``.
    initial_lr
        Learning rate of the first epoch.
    batch_norm_passes
        Training batches over which the batch-norm statistics are averaged anew after the last epoch. 0 keeps
        the running averages, as the study did.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    num_epochs: int = 100
    num_iterations_per_epoch: int | None = None
    num_val_iterations_per_epoch: int = 50
    initial_lr: float = 1e-4
    batch_norm_passes: int = 0

    def __post_init__(self) -> None:
        at_least_one = {
            "epochs": self.num_epochs,
            "iterations per epoch": self.num_iterations_per_epoch,
            "validation iterations": self.num_val_iterations_per_epoch,
        }
        for name, value in at_least_one.items():
            if value is not None and value < 1:
                raise ValueError(f"{name}: found {value}, expected at least 1")
        if not (math.isfinite(self.initial_lr) and self.initial_lr > 0):
            raise ValueError(f"learning rate: found {self.initial_lr}, expected a positive number")
        if self.batch_norm_passes < 0:
            raise ValueError(f"batch-norm passes: found {self.batch_norm_passes}, expected 0 or more")


@dataclass(frozen=True)
class PlanSettings:
    """Size of the network and of its input. The defaults are the study's.

    Parameters
    ----------
    patch_size
        Voxels along (z, y, x), the order of nnU-Net's arrays.
    batch_size
        Patches per training step.
    features
        Features of each stage, finest first. Their number is the number of stages; every stage but the first
        halves the resolution.
    training
        Length and learning rate of the training.

    Raises
    ------
    ValueError
        If the network cannot be built or cannot process such a patch.
    """

    patch_size: tuple[int, int, int] = (192, 192, 192)
    batch_size: int = 2
    features: tuple[int, ...] = (32, 64, 128, 256, 256, 256)
    training: TrainingSettings = TrainingSettings()

    def __post_init__(self) -> None:
        if len(self.features) < 3:
            raise ValueError(f"features: found {len(self.features)} stages, expected at least 3 (DynUNet's minimum)")
        if min(self.features) < 1:
            raise ValueError(f"features: found {_join(self.features)}, expected positive numbers")
        if any(later < earlier for earlier, later in zip(self.features, self.features[1:], strict=False)):
            raise ValueError(f"features: found {_join(self.features)}, expected no stage narrower than the one before")
        if self.batch_size < 1:
            raise ValueError(f"batch size: found {self.batch_size}, expected at least 1")
        divisor = 2 ** (len(self.features) - 1)
        if any(size < 1 or size % divisor for size in self.patch_size):
            raise ValueError(
                f"patch: found {_join(self.patch_size)}, expected multiples of {divisor}, since "
                f"{len(self.features)} stages halve it {len(self.features) - 1} times: choose another patch "
                "or fewer features"
            )
        if max(self.patch_size) == divisor:
            raise ValueError(
                f"patch: found {_join(self.patch_size)}, of which the last stage would see a single voxel: "
                f"choose at least {2 * divisor} along one axis, or fewer features"
            )


def dynunet_plans(
    stock_plans: Mapping[str, Any],
    dataset_json: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    settings: PlanSettings,
) -> dict[str, Any]:
    """Turn the plans of nnU-Net's planner into the study's.

    Parameters
    ----------
    stock_plans
        Contents of ``nnUNetPlans.json``; left as it is.
    dataset_json
        Contents of ``dataset.json``: the channel named CT is rescaled to [0, 1], all others are z-scored.
    fingerprint
        Contents of ``dataset_fingerprint.json``.
    settings
        Sizes, learning rate and length of the training.

    Returns
    -------
    dict
        Plans named ``DynUNetPlans`` with the one configuration ``3d_fullres``. Its ``data_identifier`` ends
        in a hash of all that preprocessing depends on, so that data preprocessed under other settings, or
        before the data set changed, can never be taken for it.

    Raises
    ------
    ValueError
        If the data set is not 3-D, has regions as labels, or has no common isotropic spacing.
    """
    if CONFIGURATION not in stock_plans["configurations"]:
        raise ValueError(f"nnU-Net planned no {CONFIGURATION} configuration: the images are not three-dimensional")
    if "regions_class_order" in dataset_json:
        raise ValueError(
            "dataset.json: found regions_class_order, expected plain labels: the study's softmax loss cannot "
            "learn overlapping regions"
        )
    plans = deepcopy(dict(stock_plans))
    configuration = deepcopy(stock_plans["configurations"][CONFIGURATION])
    channels = list(dataset_json["channel_names"].values())
    configuration |= {
        "batch_size": settings.batch_size,
        "batch_dice": False,
        "patch_size": list(settings.patch_size),
        "spacing": [common_spacing(fingerprint["spacings"])] * 3,
        "normalization_schemes": [normalization_scheme(channel) for channel in channels],
        "use_mask_for_norm": [False] * len(channels),
        "architecture": architecture(settings.features),
        TRAINING_KEY: asdict(settings.training),
    }
    _undo_transpose(plans, configuration)
    plans |= {"plans_name": PLANS_NAME, "configurations": {CONFIGURATION: configuration}}
    configuration["data_identifier"] = f"{PLANS_NAME}_{CONFIGURATION}_{_preprocessing_hash(plans, fingerprint)}"
    return plans


def normalization_scheme(channel: str) -> str:
    """Name nnU-Net's normalisation class for a channel: min-max to [0, 1] for CT, z-score for all others."""
    return "RescaleTo01Normalization" if is_ct(channel) else "ZScoreNormalization"


def is_ct(channel: str) -> bool:
    """Tell whether a channel name of ``dataset.json`` means CT (nnU-Net, too, ignores case)."""
    return channel.casefold() == "ct"


def architecture(features: Sequence[int]) -> dict[str, Any]:
    """Describe the DynUNet as the ``architecture`` block of a configuration.

    Parameters
    ----------
    features
        Features of each stage, finest first.

    Returns
    -------
    dict
        Kernels of 3x3x3, strides 1, 2, 2, ..., upsampling kernels of 2, batch norm, residual blocks.
    """
    stages = len(features)
    return {
        "network_class_name": NETWORK,
        "arch_kwargs": {
            "filters": list(features),
            "kernel_size": [[3, 3, 3] for _ in range(stages)],
            "strides": [[1, 1, 1]] + [[2, 2, 2] for _ in range(stages - 1)],
            "upsample_kernel_size": [[2, 2, 2] for _ in range(stages - 1)],
            "norm_name": "batch",
            "res_block": True,
        },
        "_kw_requires_import": [],
    }


def common_spacing(spacings: Sequence[Sequence[float]]) -> float:
    """Return the one voxel size, in mm, that all cases share along all axes.

    Parameters
    ----------
    spacings
        One (z, y, x) triple per case, in mm.

    Raises
    ------
    ValueError
        If voxels are not cubes or differ between cases by more than a thousandth.
    """
    values = np.asarray(spacings, dtype=float)
    spacing = float(np.median(values))
    if not np.allclose(values, spacing, rtol=1e-3, atol=0):
        raise ValueError(
            f"spacing: found voxels from {values.min():.4g} to {values.max():.4g} mm, expected cubes of one "
            "size in all cases: convert the data set with nnUNetv2_robustness_convert first"
        )
    return round(spacing, 6)


def _undo_transpose(plans: dict[str, Any], configuration: dict[str, Any]) -> None:
    """Put the axes back into the image's order, in place.

    With (nearly) equal spacings the planner's choice of a first axis would hang on rounding errors.
    """
    backward = plans["transpose_backward"]
    for holder, key in (
        (plans, "original_median_spacing_after_transp"),
        (plans, "original_median_shape_after_transp"),
        (configuration, "median_image_size_in_voxels"),
    ):
        holder[key] = [holder[key][axis] for axis in backward]
    plans |= {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}


def _preprocessing_hash(plans: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> str:
    """Return eight hexadecimal digits that change whenever preprocessed data would."""
    configuration = plans["configurations"][CONFIGURATION]
    relevant = {key: configuration[key] for key in configuration if key.startswith("resampling_fn")}
    for key in ("spacing", "normalization_schemes", "use_mask_for_norm", "preprocessor_name"):
        relevant[key] = configuration[key]
    text = json.dumps([relevant, plans["image_reader_writer"], fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _join(numbers: Sequence[int]) -> str:
    return " ".join(str(number) for number in numbers)
