"""The quirks of real cohorts, on a head whose every voxel is known."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.case import AIR_HU, CaseSettings, case_outputs, convert_case, reusable_row
from dataset_conversion.hecktor import CaseFiles

SETTINGS = CaseSettings(4.0, ("GTVp", "GTVn"))
# Volumes of the two spheres of the head, radius 14 and 11 mm.
GTVP_MM3, GTVN_MM3 = (4 / 3 * np.pi * radius**3 for radius in (14, 11))


@pytest.fixture
def convert(tmp_path, written):
    """Write images, convert them, return the row and what was written."""

    def run(images, settings=SETTINGS):
        folder = tmp_path / "out"
        folder.mkdir(exist_ok=True)
        files = CaseFiles("CHUM-001", **written(tmp_path / "in", "CHUM-001", images))
        row = convert_case(files, settings, folder)
        places = case_outputs(folder, "CHUM-001", "development")
        return row, {kind: sitk.ReadImage(str(path)) for kind, path in places.items() if path.is_file()}

    return run


def arrays(images):
    return {kind: sitk.GetArrayFromImage(image) for kind, image in images.items()}


def positions(image):
    source = sitk.PhysicalPointSource(
        sitk.sitkVectorFloat64, image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()
    )
    return sitk.GetArrayFromImage(source)


def test_converted_case_shows_the_head_where_it_is(convert, head):
    row, images = convert(head().images())
    assert row["outcome"] == "converted"
    assert row["head_finder"] == "brain"
    assert {image.GetSize() for image in images.values()} == {(50, 50, 70)}
    assert {image.GetDirection() for image in images.values()} == {(1, 0, 0, 0, 1, 0, 0, 0, 1)}
    assert [image.GetPixelID() for image in images.values()] == [
        sitk.sitkFloat32,
        sitk.sitkFloat32,
        sitk.sitkUInt8,
    ]
    for first, second in pairwise(images.values()):
        assert first.GetOrigin() == second.GetOrigin()
    where, content = positions(images["ct"]), arrays(images)
    np.testing.assert_allclose(where[-1, 0, 0, 2] + 2, 0, atol=1e-4)  # flush with the top
    label = head().label(where)
    assert np.mean(content["label"] != label) < 2e-3  # borders only
    # Away from borders linear interpolation changes nothing.
    np.testing.assert_allclose(content["pet"][np.linalg.norm(where - (18, -12, -80), axis=-1) < 50], 7, atol=1e-4)
    np.testing.assert_allclose(content["ct"][np.linalg.norm(where - (10, 0, -180), axis=-1) < 30], 40, atol=1e-3)


def test_row_counts_voxels_and_mm3_before_and_after(convert, head):
    row, images = convert(head().images())
    label = sitk.GetArrayFromImage(head().images()["label"])
    for value, name, volume in ((1, "GTVp", GTVP_MM3), (2, "GTVn", GTVN_MM3)):
        assert row[f"{name}_voxels_before"] == (label == value).sum()
        assert row[f"{name}_voxels_after"] == (sitk.GetArrayFromImage(images["label"]) == value).sum()
        assert row[f"{name}_mm3_before"] == pytest.approx(row[f"{name}_voxels_before"] * 100)
        assert row[f"{name}_mm3_after"] == pytest.approx(row[f"{name}_voxels_after"] * 64)
        assert row[f"{name}_mm3_after"] == pytest.approx(volume, rel=0.15)


@pytest.mark.parametrize("code", ["RAS", "LAI", "PSR", "IPL"])
def test_flipped_and_permuted_axes_change_nothing(convert, head, code):
    settings = CaseSettings(3.0, SETTINGS.labels)  # at 4 mm some voxels lie half-way between two of 5 mm
    _, expected = convert(head().images(), settings)
    turned = {kind: sitk.DICOMOrient(image, code) for kind, image in head().images().items()}
    row, images = convert(turned, settings)
    assert row["ct_orientation"] == code
    for kind, array in arrays(expected).items():
        np.testing.assert_allclose(arrays(images)[kind], array, atol=1e-3)


def test_oblique_image_keeps_places_and_volumes(convert, head):
    cos, sin = np.cos(0.2), np.sin(0.2)
    row, images = convert(head().images((1, 0, 0, 0, cos, -sin, 0, sin, cos)))
    assert row["ct_orientation"] == "LPS oblique"
    where, label = positions(images["label"]), sitk.GetArrayFromImage(images["label"])
    for value, centre, volume in ((1, (10, 0, -180), GTVP_MM3), (2, (45, 20, -210), GTVN_MM3)):
        np.testing.assert_allclose(where[label == value].mean(axis=0), centre, atol=2)
        assert (label == value).sum() * 64 == pytest.approx(volume, rel=0.15)


def test_label_one_voxel_larger_than_the_ct(convert, head):
    images = head().images()
    _, expected = convert(images)
    row, result = convert(images | {"label": sitk.ConstantPad(images["label"], (0, 0, 0), (0, 1, 0))})
    assert row["outcome"] == "converted"
    assert row["label_size"] == "52x53x70"
    np.testing.assert_array_equal(arrays(result)["label"], arrays(expected)["label"])


def test_labelled_voxels_beyond_the_ct_are_reported(convert, head):
    images = head().images()
    larger = sitk.ConstantPad(images["label"], (0, 0, 0), (0, 1, 0))
    larger[3, 52, 4] = 1
    row, _ = convert(images | {"label": larger})
    assert "1 labelled voxel(s) outside the CT left out" in row["message"]


def test_pet_smaller_than_the_ct_is_padded_with_zero_and_reported(convert, head):
    images = head().images()
    pet = images["pet"][:, :, 20:]  # its lower end is 100 mm above the CT's
    row, result = convert(images | {"pet": pet})
    where, values = positions(result["pet"]), arrays(result)["pet"]
    beyond = where[..., 2] < pet.GetOrigin()[2] - 2.5
    assert beyond.any()
    assert (values[beyond] == 0).all()
    assert row["pet_coverage"] == pytest.approx(1 - beyond.mean(), abs=0.02)
    assert f"PET covers {row['pet_coverage']:.0%}" in row["message"]


def test_pet_apart_from_the_ct_is_an_error(convert, head):
    images = head().images()
    images["pet"].SetOrigin((900, 0, 0))
    row, result = convert(images)
    assert row["outcome"] == "failed"
    assert "CHUM-001__PT.nii.gz: PET and CT do not overlap: PET spans x 897.." in row["message"]
    assert result == {}


def test_pet_that_touches_only_a_corner_away_from_the_crop_is_an_error(convert, head):
    images = head().images()
    images["pet"].SetOrigin((122, 122, -260))
    row, _ = convert(images)
    assert row["outcome"] == "failed"
    assert "do not overlap" in row["message"]


@pytest.mark.parametrize(("missing", "name", "other"), [("primary", "GTVp", "GTVn"), ("node", "GTVn", "GTVp")])
def test_missing_structure_is_reported_and_no_error(convert, head, missing, name, other):
    row, _ = convert(head(**{missing: None}).images())
    assert row["outcome"] == "converted"
    assert row[f"{name}_voxels_before"] == row[f"{name}_voxels_after"] == 0
    assert row[f"{other}_voxels_after"] > 0
    assert row["message"] == f"{name} absent"


def test_whole_body_scan_is_cropped_to_the_head(convert, head):
    row, images = convert(head(length=1000.0, hot=((0.0, 0.0, -850.0),)).images())
    assert row["head_finder"] == "brain"
    assert images["ct"].GetSize() == (50, 50, 77)
    assert not row["crop_moved"]
    top = images["ct"].TransformContinuousIndexToPhysicalPoint((0, 0, 76.5))[2]
    assert top == pytest.approx(0, abs=1e-4)


def test_crop_is_moved_rather_than_cutting_a_structure(convert, head):
    distant = head(length=600.0, node=(20.0, 0.0, -500.0))
    row, images = convert(distant.images())
    assert row["crop_moved"]
    assert "crop moved to keep a structure" in row["message"]
    assert images["ct"].GetSize()[2] == 86  # from -166 to -511 mm
    # As many labelled voxels as there are on a grid that is larger on all sides.
    larger = sitk.ConstantPad(images["label"], (20, 20, 20), (20, 20, 20))
    everywhere = sitk.Resample(distant.images()["label"], larger, sitk.Transform(), sitk.sitkNearestNeighbor)
    counts = np.bincount(sitk.GetArrayFromImage(everywhere).ravel())
    assert [row["GTVp_voxels_after"], row["GTVn_voxels_after"]] == counts[1:].tolist()


def test_image_smaller_than_the_crop_is_padded_with_air(convert, head):
    small = {kind: image[14:38, 14:38] for kind, image in head().images().items()}
    row, images = convert(small)
    ct, label = arrays(images)["ct"], arrays(images)["label"]
    assert images["ct"].GetSize() == (50, 50, 70)
    where = positions(images["ct"])
    low, high = (np.array(small["ct"].TransformContinuousIndexToPhysicalPoint((i, i, 0))) for i in (-0.5, 23.5))
    padding = np.any((where[..., :2] < low[:2]) | (where[..., :2] > high[:2]), axis=-1)
    assert padding.mean() > 0.5
    assert (ct[padding] == np.float32(max(AIR_HU, ct.min()))).all()
    assert (label[padding] == 0).all()
    assert (ct != 0).all()  # so that nnU-Net's crop to nonzero keeps the volume
    # The padding must not decide how the tissue is clipped.
    inside = np.clip(ct[~padding].astype(float), row["ct_clip_low_hu"], row["ct_clip_high_hu"])
    np.testing.assert_allclose(ct[~padding], inside, atol=0.01)


def test_ct_is_clipped_to_three_sd_of_the_cropped_volume(convert, head):
    images = head().images()
    images["ct"][26, 26, 20] = 30000  # a metal artefact
    images["ct"][2, 2, 2] = -5000  # a scanner's padding
    row, result = convert(images)
    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(result["ct"])
    resampler.SetDefaultPixelValue(-1024)
    plain = np.maximum(sitk.GetArrayFromImage(resampler.Execute(images["ct"])), -1024).astype(float)
    low, high = plain.mean() - 3 * plain.std(), plain.mean() + 3 * plain.std()
    assert plain.max() > high
    np.testing.assert_allclose(arrays(result)["ct"], np.clip(plain, low, high), atol=0.05)
    assert row["ct_clip_high_hu"] == pytest.approx(high, abs=0.01)


def test_pet_in_becquerel_is_asked_about(convert, head):
    images = head().images()
    row, _ = convert(images | {"pet": images["pet"] * 5000})
    assert "is this SUV?" in row["message"]


def test_structure_lost_between_the_new_voxels_is_reported(convert, head):
    images = head(node=None).images()
    images["label"][26, 26, 65] = 2
    row, _ = convert(images, CaseSettings(10.0, ("GTVp", "GTVn")))
    assert row["GTVn_voxels_after"] == 0
    assert "GTVn vanished" in row["message"]


def test_case_is_reused_only_as_long_as_source_settings_and_files_are_the_same(tmp_path, head, written):
    files = CaseFiles("A-1", **written(tmp_path / "in", "A-1", head().images()))
    folder = tmp_path / "out"
    folder.mkdir()
    assert reusable_row(files, SETTINGS, folder) is None
    row = convert_case(files, SETTINGS, folder)
    assert reusable_row(files, SETTINGS, folder) == row
    assert reusable_row(files, CaseSettings(5.0, SETTINGS.labels), folder) is None
    label = case_outputs(folder, "A-1", "development")["label"]
    label.rename(tmp_path / "elsewhere.nii.gz")
    assert reusable_row(files, SETTINGS, folder) is None
    (tmp_path / "elsewhere.nii.gz").rename(label)
    sitk.WriteImage(head(node=None).images()["label"], str(files.label))
    assert reusable_row(files, SETTINGS, folder) is None
    assert sorted(path.name for path in Path(folder).iterdir()) == ["conversion", "imagesTr", "labelsTr"]
