from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dataset_conversion.hecktor import CaseFiles, ConversionError, centre_of, find_cases, read_case


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def as_2022(name: str, label: str | None = None) -> list[str]:
    return [f"imagesTr/{name}__CT.nii.gz", f"imagesTr/{name}__PT.nii.gz", f"labelsTr/{label or name}.nii.gz"]


def as_2025(name: str) -> list[str]:
    return [f"{name}/{name}__CT.nii.gz", f"{name}/{name}__PT.nii.gz", f"{name}/{name}.nii.gz"]


@pytest.fixture
def files(tmp_path: Path) -> CaseFiles:
    """Three small sound files."""
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32))
    files = CaseFiles("A-1", *(tmp_path / f"{kind}.nii.gz" for kind in ("ct", "pet", "label")))
    sitk.WriteImage(image, str(files.ct))
    sitk.WriteImage(image, str(files.pet))
    sitk.WriteImage(sitk.Cast(image > 1, sitk.sitkUInt8), str(files.label))
    return files


@pytest.mark.parametrize(
    ("parent", "paths"),
    [
        ("", as_2022("CHUM-001")),
        ("hecktor2022_training", as_2022("CHUM-001")),
        ("", as_2022("CHUM-001", label="CHUM_001")),
        ("", as_2025("CHUM-001")),
        ("hecktor2025_training/Task 1", as_2025("CHUM-001")),
    ],
)
def test_every_layout_is_paired(tmp_path, parent, paths):
    touch(tmp_path / parent, *paths)
    cases, problems = find_cases(tmp_path)
    assert cases == [CaseFiles("CHUM-001", *(tmp_path / parent / path for path in paths))]
    assert problems == {}


def test_challenge_tables_and_other_files_are_not_taken_for_cases(tmp_path):
    touch(
        tmp_path,
        *as_2025("CHUM_001"),
        "CHUM_001/CHUM_001__CTPlanning.nii.gz",
        "CHUM_001/CHUM_001__RTDOSE.nii.gz",
    )
    touch(
        tmp_path,
        "hecktor2022_testing/imagesTs/USZ-001__CT.nii.gz",
        "CHUM_001/._CHUM_001__CT.nii.gz",
        "info.csv",
    )
    cases, problems = find_cases(tmp_path)
    assert [case.name for case in cases] == ["CHUM_001"]
    assert problems == {}


def test_only_the_first_task_of_2025_is_read(tmp_path):
    for task in (1, 2):
        touch(tmp_path / f"Task {task}", *as_2025("MDA-001"))
    cases, problems = find_cases(tmp_path)
    assert [case.ct.parent.parent.name for case in cases] == ["Task 1"]
    assert problems == {}


@pytest.mark.parametrize(
    "extra",
    [["imagesTr/CHUM_001__CT.nii.gz"], ["imagesTr/CHUM-001__PT.nii"], ["labelsTr/CHUM_001.nii.gz"]],
)
def test_duplicate_case_names_are_an_error_of_that_case(tmp_path, extra):
    touch(tmp_path, *as_2022("CHUM-001"), *as_2022("CHUM-002"), *extra)
    cases, problems = find_cases(tmp_path)
    assert [case.name for case in cases] == ["CHUM-002"]
    assert list(problems) == ["CHUM-001"]
    assert "duplicate" in problems["CHUM-001"]
    assert str(tmp_path / extra[0]) in problems["CHUM-001"]


@pytest.mark.parametrize(("left_out", "named"), [(0, "X__CT.nii.gz"), (1, "X__PT.nii.gz"), (2, "labelsTr/X.nii.gz")])
def test_missing_file_is_an_error_of_that_case(tmp_path, left_out, named):
    paths = as_2022("HGJ-001")
    del paths[left_out]
    touch(tmp_path, *as_2022("HGJ-002"), *paths)
    cases, problems = find_cases(tmp_path)
    assert [case.name for case in cases] == ["HGJ-002"]
    assert named in problems["HGJ-001"]


def test_no_case_at_all_names_the_layouts(tmp_path):
    touch(tmp_path, "imagesTs/A-1__CT.nii.gz", "scan.nii.gz")
    with pytest.raises(ConversionError, match=r"no case found; expected imagesTr/X__CT\.nii\.gz"):
        find_cases(tmp_path)
    with pytest.raises(ConversionError, match="no such folder"):
        find_cases(tmp_path / "nowhere")


def test_centres_of_the_published_cohort(oracles):
    """The seven centres, as the challenge's own table numbers them."""
    centres = json.loads((oracles / "hecktor_layout.json").read_text())["hecktor2022"]["encodings"]["CenterID"].values()
    assert [centre_of(f"{centre}-001") for centre in centres] == list(centres)
    assert [centre_of(f"{centre}_001") for centre in centres] == list(centres)


@pytest.mark.parametrize("kept", [0.002, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["ct", "pet", "label"])
def test_truncated_gzip_is_refused(files, kind, kept):
    path = getattr(files, kind)
    whole = path.read_bytes()
    # Far enough for the header: SimpleITK alone reads such a file as zeros from there on.
    path.write_bytes(whole[: max(int(len(whole) * kept), len(whole) // 500 + 60)])
    with pytest.raises(ConversionError, match=r"cut off|cannot be read") as caught:
        read_case(files, 1)
    assert str(path) in str(caught.value)


def test_truncated_plain_nifti_is_refused(files):
    content = gzip.decompress(files.ct.read_bytes())
    files.ct.write_bytes(content[:-100])
    with pytest.raises(ConversionError, match="cut off"):
        read_case(files, 1)


def test_damaged_gzip_is_refused(files):
    content = bytearray(files.pet.read_bytes())
    content[-6] ^= 0xFF  # the checksum
    files.pet.write_bytes(content)
    with pytest.raises(ConversionError, match="damaged"):
        read_case(files, 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["ct", "pet", "label"])
def test_nan_voxels_are_refused_and_counted(files, kind, value):
    array = np.zeros((6, 7, 8), dtype=np.float32)
    array[2, 3, :3] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(getattr(files, kind)))
    with pytest.raises(ConversionError, match=r"found 3 NaN or infinite") as caught:
        read_case(files, 1)
    assert str(getattr(files, kind)) in str(caught.value)


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (-1, "-1"), (1.5, "1.5"), (255, "255")])
def test_label_value_outside_the_map_is_refused(files, value, shown):
    array = np.zeros((6, 7, 8), dtype=np.float32)
    array[0, 0, 0] = value
    sitk.WriteImage(sitk.GetImageFromArray(array), str(files.label))
    with pytest.raises(ConversionError, match=f"label value.* {shown}; expected 0 to 2.*--labels"):
        read_case(files, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
def test_label_stored_as_another_type_gives_the_same_integers(files, dtype):
    expected = np.random.default_rng(1).integers(0, 3, size=(6, 7, 8))
    stored = expected.astype(dtype) + (0 if dtype is np.int16 else np.array(1e-5, dtype=dtype))
    sitk.WriteImage(sitk.GetImageFromArray(stored.astype(dtype)), str(files.label))
    label = read_case(files, 2).label
    assert label.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(label), expected)


def test_something_that_is_no_volume_is_refused(files):
    files.ct.write_bytes(b"no image")
    with pytest.raises(ConversionError, match="cannot be read"):
        read_case(files, 1)
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 6, 7, 8), np.float32), isVector=False), str(files.ct))
    with pytest.raises(ConversionError, match="expected one 3-D volume"):
        read_case(files, 1)


@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_are_found_in_either_byte_order(files, order):
    nibabel = pytest.importorskip("nibabel")
    array = np.random.default_rng(0).normal(size=(8, 7, 6))
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.float64)
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), files.ct)
    np.testing.assert_allclose(sitk.GetArrayFromImage(read_case(files, 1).ct).T, array, atol=1e-6)
    array[0, 0, :2] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4), header), files.ct)
    with pytest.raises(ConversionError, match="found 2 NaN"):
        read_case(files, 1)


def test_a_file_name_that_is_no_text_costs_its_case_only(tmp_path):
    """ITK ends the whole process over such a name."""
    touch(tmp_path, *as_2022("CHUM-001"))
    for name in as_2022(os.fsdecode(b"CHUM-\xff")):
        touch(tmp_path, name)
    cases, problems = find_cases(tmp_path)
    assert [case.name for case in cases] == ["CHUM-001"]
    ((name, problem),) = problems.items()
    assert name == "CHUM-\\udcff"
    assert "expected valid UTF-8; rename the files" in problem
    problem.encode()
