"""From volumes to what a reader of axial slices expects: orientation, the slice, its part, its grey values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk

SHOWN_MM = 80.0
MARGIN_MM = 20.0

_VOXELS_FOR_A_FIT = 50
_LEAST_R2 = 0.8

Slices = tuple[slice, slice]

Line = tuple[float, float]
"""Slope and offset."""


def is_ct(modality: str) -> bool:
    """Whether a channel of this name is taken to be in HU."""
    return modality.upper() == "CT"


def is_pet(modality: str) -> bool:
    """Whether a channel of this name is taken to be in SUV."""
    return modality.upper() in {"PET", "PT"}


@dataclass(frozen=True)
class Window:
    """Which values are drawn from black to white.

    Attributes
    ----------
    low, high
        Values at the ends.
    inverted
        Low values are white.
    words
        For a caption, e.g. ``CT level 40 HU, width 400 HU``.
    """

    low: float
    high: float
    inverted: bool
    words: str

    @classmethod
    def of(cls, modality: str, values: npt.NDArray[np.floating[Any]]) -> Self:
        """Choose the window of a modality: as clinicians read CT and PET, by percentiles otherwise.

        Parameters
        ----------
        modality
            Channel name; ``CT`` is taken to be in HU, ``PET`` or ``PT`` in SUV.
        values
            The image, of any shape; NaN is ignored.
        """
        if is_ct(modality):
            return cls(-160.0, 240.0, False, f"{modality} level 40 HU, width 400 HU")
        if is_pet(modality):
            return cls(0.0, 10.0, True, f"{modality} SUV 0 to 10, dark = high")
        low, high = np.nanpercentile(values, [1, 99])
        high = high if high > low else low + 1
        return cls(float(low), float(high), False, f"{modality} 1st to 99th percentile of the image")

    def grey(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
        """Bring values to 0 (black) to 1 (white); NaN, where there is no image, counts as low."""
        share = np.clip((np.nan_to_num(values, nan=self.low) - self.low) / (self.high - self.low), 0, 1)
        grey: npt.NDArray[np.float32] = np.asarray(1 - share if self.inverted else share, np.float32)
        return grey

    def line_to(self, normalised: npt.NDArray[np.floating[Any]], image: npt.NDArray[np.floating[Any]]) -> Line | None:
        """Find the line that normalises an image.

        nnU-Net's normalisations are lines (but for what they clip), so that the voxels inside the window give it,
        whichever of them it was.

        Parameters
        ----------
        normalised, image
            The same voxels on the same grid, normalised and not; NaN where there is none. Resampled, they no longer
            lie on a line unless both were.

        Returns
        -------
        tuple or None
            Slope and offset; None where no rising line fits.
        """
        inside = np.isfinite(normalised) & (image >= self.low) & (image <= self.high)
        x, y = image[inside].astype(float), normalised[inside].astype(float)
        if len(x) < _VOXELS_FOR_A_FIT or np.ptp(x) == 0 or np.ptp(y) == 0:
            return None
        if np.corrcoef(x, y)[0, 1] ** 2 < _LEAST_R2:
            return None
        slope, offset = np.polyfit(x, y, 1)
        return (float(slope), float(offset)) if slope > 0 else None

    def on_scale(self, line: Line) -> Self:
        """Bring the window to the scale of an image that was normalised by a line."""
        slope, offset = line
        return replace(self, low=slope * self.low + offset, high=slope * self.high + offset)


def axial(array: npt.NDArray[Any], geometry: sitk.Image) -> npt.NDArray[Any]:
    """Turn a volume so that each slice reads as in a viewer: anterior up, the patient's left at the right.

    Parameters
    ----------
    array
        (z, y, x) on the grid of ``geometry``.
    geometry
        An image whose direction says where the axes point.

    Returns
    -------
    ndarray
        (slices from feet to head, rows from anterior to posterior, columns from the patient's right to left).
    """
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(geometry)
    oriented: npt.NDArray[Any] = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    return oriented


def axial_spacing(geometry: sitk.Image) -> tuple[float, float]:
    """Height and width in mm of the voxels of an :func:`axial` slice."""
    width, height, _ = sitk.DICOMOrient(geometry, "LPS").GetSpacing()
    return height, width


def largest_slice(mask: npt.NDArray[np.bool_]) -> int:
    """Index of the slice (first axis) with the largest area of a mask; the first of several."""
    return int(mask.sum(axis=(1, 2)).argmax())


def crop_around(mask: npt.NDArray[np.bool_], spacing_mm: Sequence[float]) -> Slices:
    """Cut a square around a mask out of a slice: with a margin, and no smaller than ``SHOWN_MM``.

    Parameters
    ----------
    mask
        (rows, columns), not empty.
    spacing_mm
        Height and width of a voxel.

    Returns
    -------
    tuple of slice
        Rows and columns; all of them where the slice is smaller than the square.
    """
    extents = [np.flatnonzero(mask.any(axis=1 - axis)) for axis in (0, 1)]
    lengths = [(found[-1] - found[0] + 1) * mm for found, mm in zip(extents, spacing_mm, strict=True)]
    side = max(SHOWN_MM, max(lengths) + 2 * MARGIN_MM)
    rows, columns = (
        _part((found[0] + found[-1] + 1) / 2, math.ceil(side / mm - 1e-6), size)
        for found, mm, size in zip(extents, spacing_mm, mask.shape, strict=True)
    )
    return rows, columns


def _part(centre: float, length: int, size: int) -> slice:
    start = min(max(round(centre - length / 2), 0), max(size - length, 0))
    return slice(start, min(start + length, size))


class View:
    """The part of one axial slice that is shown: what was to be found in it, and all that was predicted instead.

    Parameters
    ----------
    geometry
        An image on whose grid all arrays are.
    stacks
        Masks, (z, y, x), by role; the one of ``reference`` chooses the slice and is not empty.

    Attributes
    ----------
    spacing_mm
        Height and width of a voxel in the view.
    """

    def __init__(self, geometry: sitk.Image, stacks: Mapping[str, npt.NDArray[np.bool_]]) -> None:
        self._geometry = geometry
        self._stacks = {role: self._axial(mask.astype(np.uint8)).astype(bool) for role, mask in stacks.items()}
        self._index = largest_slice(self._stacks["reference"])
        self.spacing_mm = axial_spacing(geometry)
        shown = np.any([stack[self._index] for stack in self._stacks.values()], axis=0)
        self._part: Slices = crop_around(shown, self.spacing_mm)

    def _axial(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return axial(array, self._geometry)

    def of(self, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Cut the view out of a volume, (z, y, x)."""
        part: npt.NDArray[np.float32] = self._axial(array)[self._index][self._part]
        return part

    def contours(self, *roles: str) -> dict[str, npt.NDArray[np.bool_]]:
        """Masks of some roles in the view."""
        return {role: self._stacks[role][self._index][self._part] for role in roles}

    def remark(self, role: str) -> str:
        """What the absence of a contour means; empty where there is one."""
        stack = self._stacks[role]
        if not stack.any():
            return "nothing predicted"
        return "" if stack[self._index].any() else "nothing predicted in this slice"
