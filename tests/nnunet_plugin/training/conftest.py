"""Plans, and a data set small enough to train on within a test."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnunet_plugin.training.plans import PlanSettings, TrainingSettings, dynunet_plans

CASES = 5
SHAPE = (24, 20, 20)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def dataset_json() -> dict[str, Any]:
    return {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
        "numTraining": CASES,
        "file_ending": ".nii.gz",
    }


@pytest.fixture
def fingerprint() -> dict[str, Any]:
    return {"spacings": [[4.0, 4.0, 4.0]] * CASES, "shapes_after_crop": [list(SHAPE)] * CASES}


@pytest.fixture
def stock_plans() -> dict[str, Any]:
    """What nnU-Net's planner wrote for such a data set, shortened."""
    resampling = {
        f"resampling_fn_{what}{suffix}": value
        for what in ("data", "seg", "probabilities")
        for suffix, value in (
            ("", "resample_data_or_seg_to_shape"),
            ("_kwargs", {"is_seg": what == "seg", "order": 1, "order_z": 0, "force_separate_z": None}),
        )
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [24, 24, 24],
        "median_image_size_in_voxels": [20.0, 24.0, 20.0],
        "spacing": [4.0000001, 4.0, 4.0],
        "normalization_schemes": ["CTNormalization", "ZScoreNormalization"],
        "use_mask_for_norm": [False, False],
        "architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet"},
        "batch_dice": True,
        **resampling,
    }
    return {
        "dataset_name": "Dataset501_Toy",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [4.0000001, 4.0, 4.0],
        "original_median_shape_after_transp": [20, 24, 20],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [1, 0, 2],
        "transpose_backward": [1, 0, 2],
        "configurations": {"2d": {"batch_size": 12}, "3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
    }


@pytest.fixture
def make_plans(
    stock_plans: dict[str, Any], dataset_json: dict[str, Any], fingerprint: dict[str, Any]
) -> Callable[..., dict[str, Any]]:
    """Return a function that makes small plans; keywords are fields of ``TrainingSettings``."""

    def make(**training: Any) -> dict[str, Any]:
        settings = PlanSettings(
            patch_size=(16, 16, 16), batch_size=2, features=(4, 6, 8), training=TrainingSettings(**training)
        )
        return dynunet_plans(stock_plans, dataset_json, fingerprint, settings)

    return make


@pytest.fixture
def make_trainer(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_plans: Callable[..., dict[str, Any]],
    dataset_json: dict[str, Any],
) -> Callable[..., Any]:
    """Return a function that makes a trainer on preprocessed data of five cases of noise."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def make(resume: bool = False, **training: Any) -> Any:
        from nnunet_plugin.training.trainer import nnUNetTrainerDynUNet

        plans = make_plans(**training)
        _write_preprocessed(tmp_path / "nnUNet_preprocessed" / "Dataset501_Toy", plans)
        plans["continue_training"] = resume
        return nnUNetTrainerDynUNet(plans, "3d_fullres", 0, dataset_json, torch.device("cpu"))

    return make


def _write_preprocessed(folder: Path, plans: dict[str, Any]) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    data = folder / plans["configurations"]["3d_fullres"]["data_identifier"]
    if data.is_dir():
        return
    data.mkdir(parents=True)
    random = np.random.default_rng(0)
    names = [f"case_{index}" for index in range(CASES)]
    for name in names:
        labels = np.zeros((1, *SHAPE), dtype=np.int8)
        labels[:, 4:8, 4:8, 4:8], labels[:, 14:18, 10:14, 10:14] = 1, 2
        image = random.normal(size=(2, *SHAPE)).astype(np.float32) + labels
        locations = {label: np.argwhere(labels == label) for label in (1, 2)}
        nnUNetDatasetBlosc2.save_case(image, labels, {"class_locations": locations}, str(data / name))
    (folder / "splits_final.json").write_text(json.dumps([{"train": names[:3], "val": names[3:]}]))
    (folder / "dataset_fingerprint.json").write_text("{}")
