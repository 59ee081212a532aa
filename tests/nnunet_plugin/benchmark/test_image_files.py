"""What a hospital's export can look like: every file that must not be measured is named, with what is wrong."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_plugin.benchmark.errors import BenchmarkError
from nnunet_plugin.benchmark.image_files import refuse_unfit_files


@pytest.fixture
def files(toy, tmp_path):
    case = {"CT": "CHUM-001_0000", "PET": "CHUM-001_0001"}
    found = {role: toy.images / f"{name}.nii.gz" for role, name in case.items()}
    return found | {"label": toy.labels / "CHUM-001.nii.gz"}


def changed(image: sitk.Image, **properties: tuple[float, ...]) -> sitk.Image:
    copy = sitk.Image(image)
    for name, value in properties.items():
        getattr(copy, f"Set{name}")(value)
    return copy


def with_value(image: sitk.Image, value: float) -> sitk.Image:
    copy = sitk.Cast(image, sitk.sitkFloat32)
    copy[3, 4, 5] = value
    return copy


def test_a_sound_case_passes(files):
    refuse_unfit_files(files)


@pytest.mark.parametrize("role", ["PET", "label"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image[:-1], r"is not on the grid of CT: size \(29, 26, 28\), expected \(30, 26, 28\)"),
        (lambda image: changed(image, Origin=(0.0, 12.0, 7.0)), "origin .*expected"),
        (lambda image: changed(image, Spacing=(2.0, 2.0, 2.0)), "spacing .*expected"),
        (lambda image: changed(image, Direction=(-1.0, 0, 0, 0, -1, 0, 0, 0, 1)), "direction .*expected"),
        (lambda image: image[:, :, 3], "found 2 dimensions"),
        (lambda image: sitk.JoinSeries([image, image]), "found 4 dimensions"),
        (lambda image: sitk.Compose([image, image, image]), "3 values per voxel"),
        (lambda image: with_value(image, np.nan), "NaN or infinite"),
        (lambda image: with_value(image, np.inf), "NaN or infinite"),
    ],
)
def test_unfit_image_is_named(files, tmp_path, role, change, message):
    bad = tmp_path / "bad.nii.gz"
    sitk.WriteImage(change(sitk.ReadImage(str(files[role]))), str(bad))
    with pytest.raises(BenchmarkError, match=message) as error:
        refuse_unfit_files(files | {role: bad})
    assert str(error.value).startswith(f"{bad}: ")


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-40],
        lambda _: b"",
        lambda _: b"no image" * 100,
        lambda content: gzip.compress(gzip.decompress(content)[:-1000]),
    ],
    ids=["half", "without its end", "empty", "garbage", "whole gzip of half an image"],
)
@pytest.mark.parametrize("role", ["CT", "label"])
def test_damaged_file_is_named(files, tmp_path, role, damage):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(damage(files[role].read_bytes()))
    with pytest.raises(BenchmarkError, match=r"bad\.nii\.gz: (broken or cut short|found nothing)"):
        refuse_unfit_files(files | {role: bad})
