"""A model folder with random weights and one synthetic case, for what does not depend on a training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch

from bench.volumes import STRUCTURES, Shape, head, reference_map
from nnunet_plugin.training.network import build_dynunet
from nnunet_plugin.training.plans import architecture

CASE = "SYNTHETIC-001"
MODALITIES = ("CT", "PET")


@dataclass(frozen=True)
class Study:
    """Folders of a model and of the images and labels to measure it on."""

    model: Path
    images: Path
    labels: Path


def write_study(folder: Path, shape: Shape, patch: Sequence[int], features: Sequence[int], folds: int) -> Study:
    """Write what nnU-Net's training leaves behind, and one case of ``shape`` (x, y, z) at 1 mm."""
    study = Study(folder / "Trainer__DynUNetPlans__3d_fullres", folder / "imagesTs", folder / "labelsTs")
    for path in (study.model, study.images, study.labels):
        path.mkdir(parents=True)
    dataset = {
        "channel_names": {str(channel): name for channel, name in enumerate(MODALITIES)},
        "labels": {"background": 0, **STRUCTURES},
        "numTraining": 1,
        "file_ending": ".nii.gz",
        "synthetic": True,
    }
    (study.model / "dataset.json").write_text(json.dumps(dataset))
    network = architecture(features)
    (study.model / "plans.json").write_text(json.dumps(plans(network, patch, shape, spacing=1.0)))
    for fold in range(folds):
        torch.manual_seed(fold)
        _write_checkpoint(study.model / f"fold_{fold}", build_dynunet(2, 3, **network["arch_kwargs"]))
    _write_case(study, shape)
    return study


def plans(network: dict[str, Any], patch: Sequence[int], shape: Sequence[int], spacing: float) -> dict[str, Any]:
    """Plans as ``DynUNetPlans.json`` holds them.

    Parameters
    ----------
    network
        The block ``architecture``.
    patch, shape
        Voxels of the window and of a typical image, (z, y, x).
    spacing
        Edge of a voxel in mm.
    """
    resampling: dict[str, Any] = {}
    for what, order in (("data", 3), ("seg", 1), ("probabilities", 1)):
        resampling[f"resampling_fn_{what}"] = "resample_data_or_seg_to_shape"
        resampling[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": what == "seg",
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    configuration = {
        "data_identifier": "DynUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(patch),
        "median_image_size_in_voxels": list(shape),
        "spacing": [spacing] * 3,
        "normalization_schemes": ["RescaleTo01Normalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, False],
        "batch_dice": False,
        "architecture": network,
        **resampling,
    }
    # The schemes above do not use them, but nnU-Net looks them up.
    intensities = {"max": 1, "mean": 0, "median": 0, "min": 0, "percentile_00_5": 0, "percentile_99_5": 1, "std": 1}
    return {
        "dataset_name": "Dataset501_SYNTHETIC",
        "plans_name": "DynUNetPlans",
        "original_median_spacing_after_transp": [spacing] * 3,
        "original_median_shape_after_transp": list(shape),
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities, "1": intensities},
    }


def _write_checkpoint(folder: Path, network: torch.nn.Module) -> None:
    folder.mkdir()
    content = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainerDynUNet",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(content, folder / "checkpoint_final.pth")


def _write_case(study: Study, shape: Shape) -> None:
    volume, label_map = head(shape), reference_map(shape)
    channels: list[npt.NDArray[np.floating[Any]]] = [
        np.round(2000 * volume - 1000),
        np.round(4 * volume + 5 * (label_map > 0), 2),
    ]
    for channel, values in enumerate(channels):
        image = sitk.GetImageFromArray(values.astype(np.float32).transpose())
        sitk.WriteImage(image, str(study.images / f"{CASE}_{channel:04d}.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(label_map.transpose()), str(study.labels / f"{CASE}.nii.gz"))
