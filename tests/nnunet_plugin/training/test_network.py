"""The network of the plans is MONAI's DynUNet, to the bit."""

import pytest
import torch
from monai.networks.nets.dynunet import DynUNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_plugin.training.network import build_dynunet
from nnunet_plugin.training.plans import PlanSettings, architecture


def from_plans(features: tuple[int, ...], deep_supervision: bool = False) -> torch.nn.Module:
    block = architecture(features)
    return get_network_from_plans(
        block["network_class_name"],
        block["arch_kwargs"],
        block["_kw_requires_import"],
        2,
        3,
        allow_init=True,
        deep_supervision=deep_supervision,
    )


def study_network() -> DynUNet:
    """Write the study's network down literally."""
    return DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=3,
        kernel_size=[3, 3, 3, 3, 3, 3],
        strides=[1, 2, 2, 2, 2, 2],
        upsample_kernel_size=[2, 2, 2, 2, 2],
        filters=[32, 64, 128, 256, 256, 256],
        norm_name="batch",
        res_block=True,
        dropout=None,
        deep_supervision=False,
    )


def test_study_network_has_exactly_the_parameters_and_the_output_of_monais() -> None:
    ours, reference = from_plans(PlanSettings().features).eval(), study_network().eval()
    shapes = {name: tensor.shape for name, tensor in reference.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == shapes
    assert str(ours) == str(reference)

    ours.load_state_dict(reference.state_dict())
    image = torch.randn(1, 2, 64, 32, 32)
    with torch.inference_mode():
        assert torch.equal(ours(image), reference(image))


def test_study_network_has_the_studys_size() -> None:
    assert sum(parameter.numel() for parameter in from_plans(PlanSettings().features).parameters()) == 24_525_347


def test_fewer_features_give_fewer_stages() -> None:
    assert len(from_plans((4, 8, 8)).downsamples) == 1
    assert len(from_plans((4, 8, 8, 16)).downsamples) == 2


def test_deep_supervision_is_refused() -> None:
    with pytest.raises(ValueError, match="no deep supervision: train it with -tr nnUNetTrainerDynUNet"):
        from_plans((4, 8, 8), deep_supervision=True)


def test_lengths_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match="found 3, 3, 3 and 3"):
        build_dynunet(2, 3, filters=[4, 8, 8], kernel_size=[3] * 3, strides=[1, 2, 2], upsample_kernel_size=[2] * 3)
