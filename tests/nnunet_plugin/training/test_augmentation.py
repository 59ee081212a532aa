"""The study's augmentation, checked against NumPy and SciPy."""

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms.transform import RandomizableTransform
from scipy import ndimage

from nnunet_plugin.training.augmentation import Augmentation, ct_transforms, spatial_transforms

DRAWS = 2000
SPACING_MM = (1.0, 1.0, 1.0)


def patch(size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, size, size, size, generator=generator)
    labels = torch.randint(-1, 3, (1, size, size, size), generator=generator, dtype=torch.int16)
    return image, labels


def transform(name: str) -> Any:
    """Return one of our transforms, made to act always."""
    found = [item for item in (*spatial_transforms(SPACING_MM), *ct_transforms()) if type(item).__name__ == name]
    assert len(found) == 1
    found[0].prob = 1.0
    return found[0].set_random_state(seed=3)


def acts(item: RandomizableTransform) -> bool:
    small = {"image": torch.rand(1, 2, 2, 2), "label": torch.ones(1, 2, 2, 2), "ct": torch.rand(1, 2, 2, 2)}
    item(small)
    return bool(item._do_transform)


def test_there_are_exactly_the_studys_transforms() -> None:
    names = [type(item).__name__ for item in (*spatial_transforms(SPACING_MM), *ct_transforms())]
    assert names == [
        "RandFlipd",
        "RandAffined",
        "RandAdjustContrastd",
        "RandShiftIntensityd",
        "RandGaussianNoised",
        "RandGaussianSmoothd",
    ]


@pytest.mark.parametrize("index", range(6))
def test_each_transform_acts_with_probability_one_fifth(index: int) -> None:
    augmentation = Augmentation(spacing_mm=SPACING_MM, ct_channels=[0])
    augmentation._random.seed(index)
    item = (*augmentation.spatial, *augmentation.intensity)[index]
    assert item.prob == 0.2
    assert np.mean([acts(item) for _ in range(DRAWS)]) == pytest.approx(0.2, abs=0.03)


def test_patches_are_left_alone_as_often_as_independent_transforms_leave_them() -> None:
    image, labels = patch(4)
    np.random.seed(0)  # noqa: NPY002
    augmentation = Augmentation(spacing_mm=SPACING_MM, ct_channels=[0])
    untouched = [torch.equal(augmentation(image=image, segmentation=labels)["image"], image) for _ in range(DRAWS)]
    assert np.mean(untouched) == pytest.approx(0.8**6, abs=0.03)


def test_flip_is_numpys_along_left_right() -> None:
    image, labels = patch()
    flipped = transform("RandFlipd")({"image": image, "label": labels})
    assert np.array_equal(flipped["image"], np.flip(image.numpy(), axis=3))
    assert np.array_equal(flipped["label"], np.flip(labels.numpy(), axis=3))


def test_affine_is_scipys_and_takes_the_label_along() -> None:
    affine = transform("RandAffined")
    size = 20
    zyx = np.indices((size,) * 3) - (size - 1) / 2
    smooth = np.exp(-np.sum(((zyx - [[[[2]]], [[[1]]], [[[-2]]]]) / 3) ** 2, axis=0)).astype(np.float32)
    data = {"image": torch.from_numpy(smooth[None]), "label": torch.from_numpy((smooth > 0.3)[None]).float()}
    moved = affine(data)
    matrix = np.asarray(affine.rand_affine.rand_affine_grid.get_transformation_matrix(), dtype=float)
    assert np.abs(matrix - np.eye(4)).max() > 0.1
    offset = matrix[:3, 3] + (size - 1) / 2 - matrix[:3, :3] @ np.full(3, (size - 1) / 2)
    expected = ndimage.affine_transform(smooth, matrix[:3, :3], offset, order=1, mode="reflect")
    assert np.allclose(moved["image"][0], expected, atol=1e-3)
    expected_label = ndimage.affine_transform((smooth > 0.3).astype(float), matrix[:3, :3], offset, order=0)
    assert np.mean(np.asarray(moved["label"][0]) != expected_label) < 1e-3
    assert set(np.unique(moved["label"])) == {0.0, 1.0}


def test_affine_fills_the_studys_ranges() -> None:
    grid = transform("RandAffined").rand_affine.rand_affine_grid
    draws = []
    for _ in range(500):
        grid.randomize()
        draws.append([*grid.rotate_params, *grid.scale_params, *grid.translate_params])
    lowest, highest = np.min(draws, axis=0), np.max(draws, axis=0)
    limits = np.repeat([math.pi / 8, 0.1, 10.0], 3)
    centre = np.repeat([0.0, 1.0, 0.0], 3)
    assert np.all(highest <= centre + limits)
    assert np.all(lowest >= centre - limits)
    assert np.all(highest - lowest > 1.9 * limits)


def test_translation_is_kept_in_millimetres() -> None:
    assert spatial_transforms((4.0, 2.0, 1.0))[1].rand_affine.rand_affine_grid.translate_range == (2.5, 5.0, 10.0)


def test_gamma() -> None:
    gamma, image = transform("RandAdjustContrastd"), patch()[0]
    lowest, span = image.min(), image.max() - image.min()
    for _ in range(20):
        result = gamma({"ct": image})["ct"]
        exponent = gamma.adjuster.gamma_value
        assert 0.7 <= exponent <= 1.3
        assert torch.allclose(result, ((image - lowest) / span) ** exponent * span + lowest, atol=1e-5)


def test_shift() -> None:
    shift, image = transform("RandShiftIntensityd"), patch()[0]
    offsets = []
    for _ in range(200):
        difference = shift({"ct": image})["ct"] - image
        assert difference.std() < 1e-6
        offsets.append(float(difference.mean()))
    assert -0.1 <= min(offsets) < -0.09
    assert 0.09 < max(offsets) <= 0.1


def test_noise_has_a_standard_deviation_of_one_tenth() -> None:
    noise, image = transform("RandGaussianNoised"), torch.zeros(1, 30, 30, 30)
    for _ in range(5):
        drawn = noise({"ct": image})["ct"]
        assert float(drawn.std()) == pytest.approx(0.1, rel=0.03)
        assert float(drawn.mean()) == pytest.approx(0, abs=0.003)


def test_smoothing_is_scipys() -> None:
    smoothing = transform("RandGaussianSmoothd")
    image = torch.zeros(1, 21, 21, 21)
    image[0, 10, 10, 10] = 1
    for _ in range(5):
        result = smoothing({"ct": image})["ct"][0].numpy()
        sigma = [smoothing.rand_smooth.x, smoothing.rand_smooth.y, smoothing.rand_smooth.z]
        assert all(0.5 <= value <= 1.0 for value in sigma)
        # MONAI integrates the Gaussian over voxels, SciPy samples it at their centres.
        assert np.allclose(result, ndimage.gaussian_filter(image[0].numpy(), sigma), atol=0.06)
        marginal = result.sum((1, 2))
        assert float((marginal * (np.arange(21) - 10) ** 2).sum()) == pytest.approx(sigma[0] ** 2 + 1 / 12, rel=0.05)


def test_types_and_shapes_are_kept_and_padding_becomes_background() -> None:
    augmentation = Augmentation(spacing_mm=SPACING_MM, ct_channels=[0])
    for seed in range(20):
        np.random.seed(seed)  # noqa: NPY002
        image, labels = patch()
        result = augmentation(image=image, segmentation=labels)
        assert type(result["image"]) is type(result["segmentation"]) is torch.Tensor
        assert result["image"].shape == image.shape
        assert result["image"].dtype == torch.float32
        assert result["segmentation"].shape == labels.shape
        assert result["segmentation"].dtype == torch.int16
        assert set(result["segmentation"].unique().tolist()) <= {0, 1, 2}
        assert torch.equal(image, patch()[0])  # the cached patch is not written to


@pytest.mark.parametrize(("ct", "others"), [([0], [1]), ([1], [0]), ([], [0, 1])])
def test_intensity_transforms_touch_ct_alone(ct: list[int], others: list[int]) -> None:
    augmentation = Augmentation(spacing_mm=SPACING_MM, ct_channels=ct)
    augmentation.spatial = []
    changed = dict.fromkeys((0, 1), False)
    np.random.seed(0)  # noqa: NPY002
    for _ in range(30):
        image, labels = patch(4)
        result = augmentation(image=image, segmentation=labels)["image"]
        for channel in changed:
            changed[channel] |= not torch.equal(result[channel], image[channel])
    assert all(changed[channel] for channel in ct)
    assert not any(changed[channel] for channel in others)


def test_workers_draw_differently_and_a_seed_draws_the_same() -> None:
    image, labels = patch()
    parent = Augmentation(spacing_mm=SPACING_MM, ct_channels=[0])
    copies = [pickle.loads(pickle.dumps(parent)) for _ in range(3)]
    results = []
    for copy, seed in zip(copies, (1, 1, 2), strict=True):
        np.random.seed(seed)  # noqa: NPY002
        results.append(torch.stack([copy(image=image, segmentation=labels)["image"] for _ in range(10)]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_whether_to_rotate_says_nothing_about_the_angle() -> None:
    augmentation = Augmentation(spacing_mm=SPACING_MM, ct_channels=[])
    affine = augmentation.spatial[1]
    image, labels = patch(2)
    np.random.seed(0)  # noqa: NPY002
    angles = []
    for _ in range(1500):
        augmentation(image=image, segmentation=labels)
        if affine._do_transform:
            angles.append(affine.rand_affine.rand_affine_grid.rotate_params[0])
    assert len(angles) > 200
    assert min(angles) < -0.9 * math.pi / 8
    assert max(angles) > 0.9 * math.pi / 8
    assert np.mean(angles) == pytest.approx(0, abs=0.05)
