from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dataset_conversion.geometry import (
    Grid,
    bounds_mm,
    box_around,
    coverage,
    find_head,
    head_crop,
    inside,
    isotropic_grid,
    label_voxels,
    resample,
)

AXES = [
    np.array(signs)[:, None] * np.eye(3)[list(order)]
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]


def turned(degrees: float, axis: str = "x") -> np.ndarray:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    first, second = {"x": (1, 2), "z": (0, 1)}[axis]
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def ramp(points):
    return 3 * points[..., 0] - 2 * points[..., 1] + 0.5 * points[..., 2] + 7


@given(
    direction=st.sampled_from(AXES),
    size=st.tuples(*[st.integers(1, 12)] * 3),
    spacing=st.tuples(*[st.floats(0.5, 6)] * 3),
    target=st.floats(0.5, 6),
)
@settings(deadline=None, max_examples=60)
def test_isotropic_grid_covers_the_image_whatever_its_axes(direction, size, spacing, target):
    image = sitk.Image(list(size), sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((11.0, -5.0, 3.0))
    # Independent of the code: signed permutations only swap and flip the edges of the box.
    edges = direction * np.array(spacing)
    corners = np.array([edges @ (np.array(corner) * size - 0.5) for corner in product((0, 1), repeat=3)])
    corners += (11, -5, 3)
    grid = isotropic_grid(image, target)
    np.testing.assert_allclose(bounds_mm(image), [corners.min(axis=0), corners.max(axis=0)], atol=1e-6)
    np.testing.assert_allclose(grid.bounds[0, :2], corners.min(axis=0)[:2], atol=1e-6)
    assert grid.bounds[1, 2] == pytest.approx(corners.max(axis=0)[2], abs=1e-6)
    extents = corners.max(axis=0) - corners.min(axis=0)
    for voxels, extent in zip(grid.size, extents, strict=True):
        assert voxels == 1 or abs(voxels * target - extent) <= target / 2 + 1e-6


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1, 1, -1]), turned(20), turned(33, "z") @ turned(-15)])
def test_linear_interpolation_is_exact_for_a_linear_image(sampled, direction):
    image = sampled(
        ramp,
        size=(30, 28, 26),
        spacing=(2, 2.5, 3),
        origin=(5, -9, 4),
        direction=direction.ravel(),
        dtype=np.float64,
    )
    middle = np.array(image.TransformContinuousIndexToPhysicalPoint((14.5, 13.5, 12.5)))
    grid = Grid(tuple(middle - 12), (16, 16, 16), 1.5)
    where = sitk.GetArrayFromImage(
        sitk.PhysicalPointSource(sitk.sitkVectorFloat64, grid.size, tuple(middle - 12 + 0.75), (1.5,) * 3)
    )
    result = resample(image, grid, outside=-99)
    np.testing.assert_allclose(sitk.GetArrayFromImage(result), ramp(where), atol=1e-9)


def test_resampling_an_oblique_image_agrees_with_scipy(sampled):
    rng = np.random.default_rng(3)
    direction = turned(25, "z") @ turned(10)
    image = sampled(
        lambda points: rng.normal(size=points.shape[:-1]),
        size=(20, 18, 16),
        spacing=(2, 3, 4),
        origin=(0, 0, 0),
        direction=direction.ravel(),
        dtype=np.float64,
    )
    grid = Grid((5.0, 20.0, 12.0), (12, 11, 10), 2.0)
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.size[::-1]), indexing="ij")
    points = np.stack([x, y, z], axis=-1) * 2.0 + np.array(grid.corner) + 1
    index = points @ direction / (2, 3, 4)
    for nearest, order in ((False, 1), (True, 0)):
        expected = ndimage.map_coordinates(
            sitk.GetArrayFromImage(image), np.moveaxis(index[..., ::-1], -1, 0), order=order, mode="nearest"
        )
        result = sitk.GetArrayFromImage(resample(image, grid, outside=-99, nearest=nearest))
        inner = np.all((index >= 0) & (index <= np.array(image.GetSize()) - 1), axis=-1)
        assert inner.mean() > 0.5
        np.testing.assert_allclose(result[inner], expected[inner], atol=1e-9)


def test_outside_of_the_image_gets_the_value_asked_for(sampled):
    image = sampled(ramp, size=(4, 4, 4), spacing=(2, 2, 2), origin=(1, 1, 1))
    grid = Grid((-4.0, 0.0, 0.0), (8, 4, 4), 2.0)
    values = sitk.GetArrayFromImage(resample(image, grid, outside=-1024))
    covered = coverage(image, grid)
    np.testing.assert_array_equal(covered, np.broadcast_to((np.arange(8) >= 2) & (np.arange(8) < 6), (4, 4, 8)))
    assert (values[~covered] == -1024).all()
    assert (values[covered] != -1024).all()


def test_label_voxels_are_where_simpleitk_says(sampled):
    direction = turned(30, "z")
    image = sampled(
        lambda points: np.arange(np.prod(points.shape[:-1])).reshape(points.shape[:-1]) % 7 == 3,
        size=(5, 6, 7),
        spacing=(1, 2, 3),
        origin=(4, 5, 6),
        direction=direction.ravel(),
        dtype=np.uint8,
    )
    centres, values = label_voxels(image)
    indices = [index for index in np.ndindex(5, 6, 7) if image[index]]
    expected = {tuple(np.round(image.TransformIndexToPhysicalPoint(index), 6)) for index in indices}
    assert {tuple(np.round(centre, 6)) for centre in centres} == expected
    assert len(values) == len(indices)
    assert inside(centres, image).all()
    assert not inside(centres + 100, image).any()
    corners = [
        image.TransformContinuousIndexToPhysicalPoint(np.add(index, offset).tolist())
        for index in indices
        for offset in product((-0.5, 0.5), repeat=3)
    ]
    np.testing.assert_allclose(
        box_around(centres, image), [np.min(corners, axis=0), np.max(corners, axis=0)], atol=1e-9
    )


@pytest.mark.parametrize("spacing", [1.0, 2.5, 4.0])
def test_crop_is_200_by_200_by_310_mm_from_the_top(spacing):
    whole = Grid(
        (-250.0, -250.0, -1000.0),
        (round(500 / spacing), round(500 / spacing), round(1000 / spacing)),
        spacing,
    )
    crop, moved = head_crop(whole, (30.0, -20.0), None)
    assert crop.size == (round(200 / spacing), round(200 / spacing), int(310 / spacing))
    assert not moved
    assert crop.bounds[1, 2] == pytest.approx(whole.bounds[1, 2])
    np.testing.assert_allclose(crop.bounds[:, :2].mean(axis=0), (30, -20), atol=spacing / 2 + 1e-9)


boxes = st.tuples(*[st.tuples(st.floats(-240, 240), st.floats(-240, 240))] * 3)


@given(
    spacing=st.sampled_from([1.0, 2.0, 4.0]),
    centre=st.tuples(st.floats(-150, 150), st.floats(-150, 150)),
    box=boxes,
)
@settings(deadline=None)
def test_crop_holds_all_structures_and_moves_no_more_than_needed(spacing, centre, box):
    voxels = round(500 / spacing)
    whole = Grid((-250.0,) * 3, (voxels,) * 3, spacing)
    keep = np.sort(np.array(box), axis=1).T
    plain, _ = head_crop(whole, centre, None)
    crop, moved = head_crop(whole, centre, keep)
    centres = [np.array(whole.corner)[axis] + (np.arange(voxels) + 0.5) * spacing for axis in range(3)]
    for axis in range(3):
        wanted = centres[axis][(centres[axis] > keep[0, axis]) & (centres[axis] < keep[1, axis])]
        if wanted.size:
            assert crop.bounds[0, axis] < wanted[0] <= wanted[-1] < crop.bounds[1, axis]
        assert crop.size[axis] >= plain.size[axis]
    fits = np.all(keep[0] > plain.bounds[0] + spacing) and np.all(keep[1] < plain.bounds[1] - spacing)
    if fits:
        assert (crop, moved) == (plain, False)
    assert moved == (crop != plain)
    assert crop.bounds[0, 2] >= whole.bounds[0, 2] - 1e-9
    assert crop.bounds[1, 2] <= whole.bounds[1, 2] + 1e-9


@pytest.mark.parametrize("direction", [np.eye(3), np.diag([-1, -1, 1]), np.diag([1, -1, -1]), turned(12)])
def test_head_is_centred_on_the_brain_not_on_the_neck(head, direction):
    images = head().images(direction.ravel())
    found = find_head(images["ct"], images["pet"])
    assert found.finder == "brain"
    np.testing.assert_allclose(found.centre, (18, -12), atol=3)


def test_whole_body_scan_is_centred_on_the_brain(head):
    body = head(length=1000.0, hot=((-10.0, 30.0, -500.0), (10.0, -20.0, -900.0)))
    images = body.images()
    found = find_head(images["ct"], images["pet"])
    assert found.finder == "brain"
    np.testing.assert_allclose(found.centre, (18, -12), atol=3)


@pytest.mark.parametrize("hot", [(), ((30.0, 30.0, -120.0),)])
def test_without_a_brain_the_body_is_the_centre(head, hot):
    """Also where something as large and as hot as a brain lies in soft tissue."""
    images = head(brain=None, neck=(25.0, -15.0), hot=hot).images()
    found = find_head(images["ct"], images["pet"])
    assert found.finder == "body centre"
    np.testing.assert_allclose(found.centre, (25, -15), atol=3)


def test_without_a_body_the_image_is_the_centre(sampled):
    air = sampled(
        lambda points: np.full(points.shape[:-1], -1000),
        size=(40, 30, 20),
        spacing=(4, 4, 4),
        origin=(2, 2, 2),
    )
    found = find_head(air, air)
    assert found.finder == "image centre"
    np.testing.assert_allclose(found.centre, (80, 60), atol=0.1)
