"""Load a trained model through nnU-Net, and refuse what the benchmark cannot measure."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.model_folder import CHECKPOINT
from nnunet_plugin.training.environment import register_external_trainers

if TYPE_CHECKING:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def load_predictor(folder: Path, folds: Sequence[str], device: torch.device) -> nnUNetPredictor:
    """Load a model folder into nnU-Net's own predictor, which holds network, weights and plans.

    Raises
    ------
    BenchmarkError
        Where nnU-Net cannot load it, or it is no single-stage 3-D model with exclusive labels.
    """
    register_external_trainers()
    # nnU-Net reports on standard output where it looks for trainers, and pleads for a GPU. What it imports to do so is
    # deprecated in PyTorch, which no user of ours can mend.
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=r".*torch\.jit")
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(device=device, perform_everything_on_device=device.type == "cuda")
        try:
            predictor.initialize_from_trained_model_folder(str(folder), folds, CHECKPOINT)
        except Exception as error:
            raise BenchmarkError(f"{folder}: nnU-Net cannot load this model: {error}") from error
    # nnU-Net lets cuDNN choose its algorithms by timing them, anew in every process: rows would differ.
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    _refuse_unsupported(folder, predictor)
    return predictor


def modalities(dataset_json: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the input channels, in order."""
    names = dataset_json["channel_names"]
    return tuple(names[key] for key in sorted(names, key=int))


def _refuse_unsupported(folder: Path, predictor: nnUNetPredictor) -> None:
    names = modalities(predictor.dataset_json)
    if predictor.label_manager.has_regions:
        raise BenchmarkError(f"{folder} is a region-based model; only models with exclusive labels are supported")
    if len(predictor.configuration_manager.patch_size) != 3:
        raise BenchmarkError(f"{folder} is a 2d model; only 3d models are supported")
    if len(set(names)) < len(names):
        raise BenchmarkError(
            f"{folder}/dataset.json: the channels {', '.join(names)} do not have different names; "
            "a perturbed modality could not be told from another; rename them there"
        )
    if predictor.configuration_manager.previous_stage_name is not None:
        raise BenchmarkError(f"{folder} is the second stage of a cascade; only single-stage models are supported")
