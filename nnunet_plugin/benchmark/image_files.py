"""Refuse files that nnU-Net's readers would take without a word, or with an error that names nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk

from nnunet_plugin.benchmark.errors import BenchmarkError

_TOLERANCE = 1e-3
_LONGEST_MM = 5000.0


def refuse_unfit_files(files: Mapping[str, Path]) -> None:
    """Check that images and label of a case can be read and lie on one grid.

    ITK reads NaN, and what is missing of a file that was cut short, as zeros. nnU-Net only prints a warning where
    two channels lie in different places.

    Parameters
    ----------
    files
        Files by role (modality or ``label``); all others are compared with the first.

    Raises
    ------
    BenchmarkError
        Where a file is no whole 3-D scalar image of finite values, or lies on another grid than the first.
    """
    (first_role, first), *others = files.items()
    reference = _header(first)
    for role, file in others:
        difference = _difference(reference, _header(file))
        if difference:
            raise BenchmarkError(
                f"{file}: {role} is not on the grid of {first_role}: {difference}; resample it onto {first}"
            )
    for file in files.values():
        _refuse_unfit_values(file)


def _header(file: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BenchmarkError(f"{file}: found nothing that can be read as an image; expected a 3-D image") from error
    if reader.GetDimension() != 3 or reader.GetNumberOfComponents() != 1:
        found = f"{reader.GetDimension()} dimensions and {reader.GetNumberOfComponents()} values per voxel"
        raise BenchmarkError(f"{file}: found {found}; expected 3 dimensions and 1 value; write each channel to a file")
    _refuse_unfit_geometry(file, reader)
    return reader


def _refuse_unfit_geometry(file: Path, reader: sitk.ImageFileReader) -> None:
    # A header in the wrong unit makes resampling fill the memory.
    extent = np.multiply(reader.GetSize(), reader.GetSpacing())
    if not np.isfinite([*extent, *reader.GetOrigin(), *reader.GetDirection()]).all():
        raise BenchmarkError(f"{file}: spacing, origin or direction is not finite; repair the header")
    if min(extent) <= 0 or max(extent) > _LONGEST_MM:
        found = " x ".join(f"{length:g}" for length in extent)
        raise BenchmarkError(f"{file}: found {found} mm; expected at most {_LONGEST_MM:g} mm; repair the header")


def _difference(reference: sitk.ImageFileReader, other: sitk.ImageFileReader) -> str:
    if reference.GetSize() != other.GetSize():
        return f"size {other.GetSize()}, expected {reference.GetSize()} (x, y, z)"
    for name in ("Spacing", "Origin", "Direction"):
        expected, found = (np.round(getattr(image, f"Get{name}")(), 3) for image in (reference, other))
        if not np.allclose(expected, found, atol=_TOLERANCE):
            return f"{name.lower()} {found.tolist()}, expected {expected.tolist()}"
    return ""


def _refuse_unfit_values(file: Path) -> None:
    if not file.name.endswith((".nii", ".nii.gz")):
        return
    try:
        values = np.asanyarray(nibabel.load(file).dataobj)
    except Exception as error:  # a broken header makes nibabel and NumPy raise whatever they stumble over
        raise BenchmarkError(f"{file}: broken or cut short ({error}); copy it anew") from error
    if not np.isfinite(values).all():
        raise BenchmarkError(f"{file}: holds NaN or infinite values; expected finite ones; repair the image")
