"""What a rater sees of an item, as NIfTI files: each modality in its own units, and the contours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

from analysis.grading.kit import Voxel

Floats = npt.NDArray[np.float32]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def perturbed_image(
    image: npt.NDArray[np.floating[Any]],
    unperturbed: npt.NDArray[np.floating[Any]],
    perturbed: npt.NDArray[np.floating[Any]],
    slope: float,
) -> Floats:
    """Do to an image, in its own units, what was done to its normalised copy.

    Parameters
    ----------
    image
        As stored, e.g. in HU or SUV.
    unperturbed, perturbed
        Normalised, on the grid of the image; NaN where nnU-Net cropped, which stays as it is.
    slope
        Of the line that normalised it.
    """
    change = (perturbed - unperturbed) / slope
    return np.where(np.isfinite(change), image + change, image).astype(np.float32)


def label_map(masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.uint8]:
    """Number masks of one shape from 1, in order; they do not overlap."""
    labels = np.zeros(masks[0].shape, np.uint8)
    for value, mask in enumerate(masks, start=1):
        labels[mask] = value
    return labels


def in_display_order(array: npt.NDArray[Any], geometry: sitk.Image) -> nib.Nifti1Image:
    """Turn a volume so that its axes run towards the patient's right, front and head, as near as they can.

    Parameters
    ----------
    array
        (z, y, x).
    geometry
        An image on whose grid the array is.

    Returns
    -------
    Nifti1Image
        (i, j, k) towards right, anterior, superior.
    """
    volume: nib.Nifti1Image = nib.as_closest_canonical(nib.Nifti1Image(array.transpose(2, 1, 0), _affine(geometry)))
    return volume


def first_looks(labels: nib.Nifti1Image, structures: Sequence[str]) -> dict[str, Voxel]:
    """Find where to look first: the middle of each structure's largest axial slice, as voxel (i, j, k).

    Parameters
    ----------
    labels
        In display order, as :func:`label_map` numbers them.
    structures
        Names, in order; one that is nowhere is left out.
    """
    found: dict[str, Voxel] = {}
    for value, structure in enumerate(structures, start=1):
        mask = np.asarray(labels.dataobj) == value
        if mask.any():
            k = int(mask.sum(axis=(0, 1)).argmax())
            i, j = np.nonzero(mask[:, :, k])
            # Of a ring or of two parts, the middle lies outside: the voxel next to it does not.
            nearest = int(np.argmin((i - i.mean()) ** 2 + (j - j.mean()) ** 2))
            found[structure] = int(i[nearest]), int(j[nearest]), k
    return found


def write_volume(path: Path, volume: nib.Nifti1Image, description: str) -> None:
    """Write a volume with nothing in its header but the grid and a description.

    Parameters
    ----------
    path
        ``*.nii.gz``.
    volume
        From :func:`in_display_order`. Values that are not whole numbers are stored in 16 bits: within 1 / 65,000 of
        their range.
    description
        At most 80 characters of ASCII.
    """
    stored = nib.Nifti1Image(np.asarray(volume.dataobj), volume.affine)
    if not np.issubdtype(volume.get_data_dtype(), np.integer):
        stored.set_data_dtype(np.int16)
    stored.header.set_xyzt_units("mm")
    stored.header["descrip"] = description.encode("ascii")
    stored.set_qform(volume.affine, code="scanner")
    stored.set_sform(volume.affine, code="scanner")
    nib.save(stored, path)


def _affine(geometry: sitk.Image) -> npt.NDArray[np.float64]:
    directions = np.array(geometry.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ directions * np.array(geometry.GetSpacing())
    affine[:3, 3] = _LPS_TO_RAS @ np.array(geometry.GetOrigin())
    return affine
