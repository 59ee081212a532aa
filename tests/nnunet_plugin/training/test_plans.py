"""Stock plans -> the study's plans."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from nnunet_plugin.training.plans import (
    PlanSettings,
    TrainingSettings,
    common_spacing,
    dynunet_plans,
    normalization_scheme,
)

Json = dict[str, Any]


@pytest.fixture
def plans(stock_plans: Json, dataset_json: Json, fingerprint: Json) -> Json:
    return dynunet_plans(stock_plans, dataset_json, fingerprint, PlanSettings())


def test_defaults_are_the_studys(plans: Json) -> None:
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["patch_size"] == [192, 192, 192]
    assert configuration["batch_size"] == 2
    assert configuration["batch_dice"] is False
    assert configuration["normalization_schemes"] == ["RescaleTo01Normalization", "ZScoreNormalization"]
    assert configuration["use_mask_for_norm"] == [False, False]
    network = configuration["architecture"]["arch_kwargs"]
    assert network["filters"] == [32, 64, 128, 256, 256, 256]
    assert network["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 5]
    assert network["kernel_size"] == [[3, 3, 3]] * 6
    assert network["upsample_kernel_size"] == [[2, 2, 2]] * 5
    assert configuration["dynunet_training"] == {
        "num_epochs": 100,
        "num_iterations_per_epoch": None,
        "num_val_iterations_per_epoch": 50,
        "initial_lr": 1e-4,
        "batch_norm_passes": 0,
    }


def test_stock_plans_are_left_alone(stock_plans: Json, dataset_json: Json, fingerprint: Json) -> None:
    before = deepcopy(stock_plans)
    dynunet_plans(stock_plans, dataset_json, fingerprint, PlanSettings())
    assert stock_plans == before


def test_only_the_full_resolution_remains_under_its_own_name(plans: Json) -> None:
    assert plans["plans_name"] == "DynUNetPlans"
    assert list(plans["configurations"]) == ["3d_fullres"]
    assert plans["configurations"]["3d_fullres"]["data_identifier"].startswith("DynUNetPlans_3d_fullres_")


def test_spacing_is_the_data_sets_own_and_axes_keep_their_order(plans: Json) -> None:
    assert plans["configurations"]["3d_fullres"]["spacing"] == [4.0, 4.0, 4.0]
    assert plans["transpose_forward"] == plans["transpose_backward"] == [0, 1, 2]
    assert plans["original_median_shape_after_transp"] == [24, 20, 20]
    assert plans["configurations"]["3d_fullres"]["median_image_size_in_voxels"] == [24.0, 20.0, 20.0]


@pytest.mark.parametrize(
    ("channel", "scheme"),
    [
        ("CT", "RescaleTo01Normalization"),
        ("ct", "RescaleTo01Normalization"),
        ("PET", "ZScoreNormalization"),
        ("CTA", "ZScoreNormalization"),
        ("T1", "ZScoreNormalization"),
    ],
)
def test_normalisation_follows_the_channels_name(channel: str, scheme: str) -> None:
    assert normalization_scheme(channel) == scheme


def identifier(stock_plans: Json, dataset_json: Json, fingerprint: Json, settings: PlanSettings) -> str:
    plans = dynunet_plans(stock_plans, dataset_json, fingerprint, settings)
    return str(plans["configurations"]["3d_fullres"]["data_identifier"])


def test_preprocessed_data_are_shared_where_they_are_the_same_and_only_there(
    stock_plans: Json, dataset_json: Json, fingerprint: Json
) -> None:
    settings = PlanSettings()
    first = identifier(stock_plans, dataset_json, fingerprint, settings)
    smaller = replace(settings, patch_size=(64, 64, 64), batch_size=4, training=TrainingSettings(num_epochs=3))
    assert identifier(stock_plans, dataset_json, fingerprint, smaller) == first

    renamed = dataset_json | {"channel_names": {"0": "MR", "1": "PET"}}
    other_spacing = fingerprint | {"spacings": [[2.0, 2.0, 2.0]]}
    other_cases = fingerprint | {"shapes_after_crop": [[20, 20, 20]]}
    others = [
        identifier(stock_plans, renamed, fingerprint, settings),
        identifier(stock_plans, dataset_json, other_spacing, settings),
        identifier(stock_plans, dataset_json, other_cases, settings),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": (190, 192, 192)}, "multiples of 32"),
        ({"patch_size": (0, 192, 192)}, "multiples of 32"),
        ({"patch_size": (32, 32, 32)}, "single voxel"),
        ({"features": (8, 16)}, "at least 3"),
        ({"features": (32, 16, 16)}, "no stage narrower"),
        ({"features": (0, 16, 16)}, "positive numbers"),
        ({"batch_size": 0}, "batch size: found 0"),
    ],
)
def test_sizes_out_of_range_are_refused(changes: Json, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlanSettings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_epochs": 0}, "epochs: found 0"),
        ({"num_iterations_per_epoch": 0}, "iterations per epoch: found 0"),
        ({"num_val_iterations_per_epoch": 0}, "validation iterations: found 0"),
        ({"initial_lr": 0.0}, "learning rate: found 0.0"),
        ({"initial_lr": float("nan")}, "learning rate: found nan"),
        ({"batch_norm_passes": -1}, "batch-norm passes: found -1"),
    ],
)
def test_training_out_of_range_is_refused(changes: Json, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**changes)


def test_spacing_tolerates_rounding_and_nothing_more() -> None:
    assert common_spacing([[1.0000001, 1.0, 0.9999999], [1.0, 1.0, 1.0]]) == 1.0
    with pytest.raises(ValueError, match="from 1 to 3 mm, expected cubes of one size"):
        common_spacing([[3.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="from 1 to 2 mm"):
        common_spacing([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])


def test_unsuitable_data_sets_are_refused(stock_plans: Json, dataset_json: Json, fingerprint: Json) -> None:
    with pytest.raises(ValueError, match="regions_class_order"):
        dynunet_plans(stock_plans, dataset_json | {"regions_class_order": [1, 2]}, fingerprint, PlanSettings())
    del stock_plans["configurations"]["3d_fullres"]
    with pytest.raises(ValueError, match="not three-dimensional"):
        dynunet_plans(stock_plans, dataset_json, fingerprint, PlanSettings())
