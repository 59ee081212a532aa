"""Models that this project did not make: nnU-Net's own network and trainer, one CT channel, four labels, argmax."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

ORGANS = {"background": 0, "liver": 1, "spleen": 2, "left kidney": 3, "tumour": 4}


@pytest.fixture
def stock_model(toy, tmp_path):
    """A one-channel CT model with four labels, as a stock ``nnUNetTrainer`` leaves it, and its cohort."""
    root = tmp_path / "stock"
    images, labels = root / "imagesTs", root / "labelsTs"
    images.mkdir(parents=True)
    labels.mkdir()
    for case in toy.cases:
        shutil.copy(toy.images / f"{case}_0000.nii.gz", images)
        label = sitk.ReadImage(str(toy.labels / f"{case}.nii.gz"))
        array = sitk.GetArrayFromImage(label)
        array[2:6, 3:8, 3:8] = 3
        array[20:24, 3:8, 3:8] = 4
        changed = sitk.GetImageFromArray(array)
        changed.CopyInformation(label)
        sitk.WriteImage(changed, str(labels / f"{case}.nii.gz"))
    model = root / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    dataset = {"channel_names": {"0": "CT"}, "labels": ORGANS, "numTraining": 3, "file_ending": ".nii.gz"}
    _write_stock_model(model, toy.folder, dataset)
    return model, images, labels


def _write_stock_model(model: Path, template: Path, dataset: dict[str, object]) -> None:
    plans = json.loads((template / "plans.json").read_text()) | {"plans_name": "nnUNetPlans"}
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"normalization_schemes": ["CTNormalization"], "use_mask_for_norm": [False]}
    properties = {"max": 300, "mean": 40, "median": 40, "min": -1000, "std": 30}
    properties |= {"percentile_00_5": -200, "percentile_99_5": 200}
    plans["foreground_intensity_properties_per_channel"] = {"0": properties}
    arguments = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    imports = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    configuration["architecture"] = {
        "network_class_name": name,
        "arch_kwargs": arguments,
        "_kw_requires_import": imports,
    }
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(plans))
    (model / "dataset.json").write_text(json.dumps(dataset))
    torch.manual_seed(3)
    network = get_network_from_plans(name, arguments, imports, 1, len(ORGANS), deep_supervision=False)
    checkpoint = {
        "network_weights": network.state_dict(),
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")


def test_a_stock_one_channel_model_with_four_labels(stock_model, configured, pytester):
    """One test per variant and organ; the unperturbed Dice is that of nnU-Net's own prediction."""
    model, images, labels = stock_model
    options = [argument for argument in configured if "limits" not in argument]
    options += [f"--robustness-model={model}", f"--robustness-images={images}", f"--robustness-labels={labels}"]
    result = pytester.runpytest_inprocess(*options, "--robustness-threshold=argmax", "-k", "CT-noise", "-q")
    result.assert_outcomes(passed=3 * 4, deselected=15 * 4)
    rows = pd.read_parquet(pytester.path / "run" / "metrics.parquet")
    assert set(rows["structure"]) == set(ORGANS) - {"background"}
    assert set(rows["modality"].dropna()) == {"CT"}
    expected = _dice_of_nnunets_own_prediction(model, images, labels)
    baseline = rows[rows["perturbation"] == "baseline"].set_index(["case", "structure"])["dice"]
    for key, dice in expected.items():
        assert baseline[key] == pytest.approx(dice, abs=2e-3), key
    assert any(0 < dice < 1 for dice in expected.values())


def _dice_of_nnunets_own_prediction(model: Path, images: Path, labels: Path) -> dict[tuple[str, str], float]:
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), perform_everything_on_device=False)
    predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
    expected = {}
    for label in sorted(labels.iterdir()):
        case = label.name.removesuffix(".nii.gz")
        reader = predictor.plans_manager.image_reader_writer_class()
        data, properties = reader.read_images([str(images / f"{case}_0000.nii.gz")])
        predicted = predictor.predict_single_npy_array(data, properties)
        reference = sitk.GetArrayFromImage(sitk.ReadImage(str(label)))
        for name, value in ORGANS.items():
            masks = predicted == value, reference == value
            if value and any(mask.any() for mask in masks):
                expected[case, name] = 2 * np.sum(masks[0] & masks[1]) / sum(mask.sum() for mask in masks)
    return expected


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda dataset, _plans: dataset.update(
                labels={"background": 0, "whole": [1, 2], "core": 2, "rim": 1}, regions_class_order=[1, 2, 1]
            ),
            "*is a region-based model; only models with exclusive labels are supported*",
        ),
        (
            lambda _dataset, plans: plans["configurations"]["3d_fullres"].update(patch_size=[16, 16]),
            "*is a 2d model; only 3d models are supported*",
        ),
    ],
)
def test_other_kinds_are_refused_in_one_sentence(toy, configured, pytester, spoil, words):
    model = Path(shutil.copytree(toy.folder, pytester.path / "model"))
    dataset, plans = (json.loads((model / name).read_text()) for name in ("dataset.json", "plans.json"))
    spoil(dataset, plans)
    (model / "dataset.json").write_text(json.dumps(dataset))
    (model / "plans.json").write_text(json.dumps(plans))
    result = pytester.runpytest_inprocess(*configured, f"--robustness-model={model}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([words])
