"""Bring CT, PET and labels of one case onto one isotropic, axis-aligned, head-centred grid.

All positions are in mm in DICOM patient coordinates (LPS: x to the patient's left, y to the back, z to the
head), so that "top" means the same whatever the file's axis order, flips or obliqueness. Arrays of three
numbers are ordered x, y, z; NumPy volumes are indexed [z, y, x], as SimpleITK hands them out.

The study resamples PET onto the CT grid and then everything to isotropic voxels. Here each volume is
interpolated once, straight onto the final grid: less blur, and no PET as large as a whole-body CT in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

Vector: TypeAlias = npt.NDArray[np.float64]
Index: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

AIR_HU = -1024.0
CROP_MM = (200.0, 200.0, 310.0)

_FINDER_SPACING_MM = 4.0
# Cortex takes up SUV 5 to 10; 2.5 keeps the brain of a hyperglycaemic patient and still leaves out muscle.
_BRAIN_SUV = 2.5
_BRAIN_ML = (200.0, 2500.0)
_BONE_HU = 250.0
# Bladder, heart or a large tumour may be as big and as hot as a brain, but no bone encloses them.
_SKULL_FRACTION = 0.1
_BODY_HU = -500.0


@dataclass(frozen=True)
class Grid:
    """An axis-aligned grid of cubic voxels in patient space.

    Attributes
    ----------
    corner : tuple of float
        The outer corner of the first voxel (x, y, z) in mm: its right, anterior, inferior one.
    size : tuple of int
        Voxels along x, y, z.
    spacing : float
        Edge of a voxel in mm.
    """

    corner: tuple[float, float, float]
    size: tuple[int, int, int]
    spacing: float

    @property
    def bounds(self) -> Vector:
        """Outer bounds in mm, shape (2, 3)."""
        low = np.array(self.corner)
        return np.stack([low, low + np.array(self.size) * self.spacing])

    def cut(self, start: npt.ArrayLike, size: npt.ArrayLike) -> Grid:
        """Return the part of this grid from voxel ``start`` on; it may reach beyond the grid."""
        corner = np.array(self.corner) + np.asarray(start) * self.spacing
        x, y, z = (float(value) for value in corner)
        nx, ny, nz = (int(value) for value in np.asarray(size))
        return Grid((x, y, z), (nx, ny, nz), self.spacing)

    def voxels_within(self, box: Vector) -> tuple[Index, Index]:
        """Return the indices (3,) of the first and last voxel with a centre in a box (2, 3) in mm.

        They may lie beyond the grid. A box that falls between the centres gets the voxel after it.
        """
        # A centre on the border of the box must not change sides with the last bit of its position.
        low, high = (box - np.array(self.corner)) / self.spacing - 0.5 + [[-1e-6], [1e-6]]
        first, last = np.ceil(low).astype(np.int64), np.floor(high).astype(np.int64)
        return first, np.maximum(first, last)


@dataclass(frozen=True)
class Head:
    """Where the crop is centred: ``centre`` (x, y) in mm, and how that was found."""

    centre: tuple[float, float]
    finder: str


def bounds_mm(image: sitk.Image) -> Vector:
    """Return the outer bounds of an image in patient space, shape (2, 3), in mm."""
    corners = product(*((-0.5, size - 0.5) for size in image.GetSize()))
    points = np.array([image.TransformContinuousIndexToPhysicalPoint(corner) for corner in corners])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def isotropic_grid(image: sitk.Image, spacing: float) -> Grid:
    """Return the grid of cubic voxels that covers an image, flush with its top and its first column and row.

    The last slice, row or column is left out where it would lie outside by more than half of itself.
    """
    low, high = bounds_mm(image)
    size = np.maximum(np.rint((high - low) / spacing), 1)
    corner = (float(low[0]), float(low[1]), float(high[2] - size[2] * spacing))
    return Grid(corner, (int(size[0]), int(size[1]), int(size[2])), spacing)


def resample(image: sitk.Image, grid: Grid, *, outside: float, nearest: bool = False) -> sitk.Image:
    """Interpolate an image onto a grid, linearly or with the nearest neighbour.

    Parameters
    ----------
    image : SimpleITK.Image
        A volume in any orientation.
    grid : Grid
        The voxels wanted.
    outside : float
        The value beyond the image.
    nearest : bool
        Take the nearest voxel: for labels.

    Returns
    -------
    SimpleITK.Image
        On ``grid``, with identity direction and the pixel type of ``image``.
    """
    origin = [corner + grid.spacing / 2 for corner in grid.corner]
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    spacing, direction = [grid.spacing] * 3, np.eye(3).ravel().tolist()
    return sitk.Resample(
        image,
        grid.size,
        sitk.Transform(),
        interpolator,
        origin,
        spacing,
        direction,
        outside,
        image.GetPixelID(),
    )


def coverage(image: sitk.Image, grid: Grid) -> Mask:
    """Return which voxels of a grid lie inside an image's field of view, indexed [z, y, x]."""
    ones = sitk.Image(image.GetSize(), sitk.sitkUInt8) + 1
    ones.CopyInformation(image)
    inside: Mask = sitk.GetArrayFromImage(resample(ones, grid, outside=0, nearest=True)).astype(bool)
    return inside


def label_voxels(label: sitk.Image) -> tuple[Vector, npt.NDArray[np.uint8]]:
    """Return centre (n, 3) in mm and value (n,) of every labelled voxel."""
    array = sitk.GetArrayViewFromImage(label)
    voxels = np.argwhere(array)
    direction = np.array(label.GetDirection()).reshape(3, 3)
    centres: Vector = voxels[:, ::-1] * np.array(label.GetSpacing()) @ direction.T + np.array(label.GetOrigin())
    return centres, array[tuple(voxels.T)]


def box_around(centres: Vector, image: sitk.Image) -> Vector:
    """Return the outer bounds (2, 3) in mm of some voxels of an image, given their centres (n, 3)."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    half = np.abs(direction) @ np.array(image.GetSpacing()) / 2
    return np.stack([centres.min(axis=0) - half, centres.max(axis=0) + half])


def inside(points: Vector, image: sitk.Image) -> Mask:
    """Return which of the points (n, 3) in mm lie in an image's field of view."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    index = (points - np.array(image.GetOrigin())) @ direction / np.array(image.GetSpacing())
    # A point on the border must not be lost to rounding.
    low, high = -0.5 - 1e-3, np.array(image.GetSize()) - 0.5 + 1e-3
    return np.asarray(np.all((index >= low) & (index <= high), axis=1))


def find_head(ct: sitk.Image, pet: sitk.Image) -> Head:
    """Find the middle of the head seen from above.

    The brain is the largest volume of high uptake, in the part of the image that a crop from its top can
    reach, that bone encloses. Where there is none, the middle of the body is taken, and of the image where
    there is no body either.

    Parameters
    ----------
    ct, pet : SimpleITK.Image
        In HU and SUV, each on its own grid.

    Returns
    -------
    Head
        With finder ``"brain"``, ``"body centre"`` or ``"image centre"``.
    """
    whole = isotropic_grid(ct, _FINDER_SPACING_MM)
    depth = min(whole.size[2], round(CROP_MM[2] / _FINDER_SPACING_MM))
    upper = whole.cut((0, 0, whole.size[2] - depth), (*whole.size[:2], depth))
    hu = sitk.GetArrayFromImage(resample(ct, upper, outside=AIR_HU))
    suv = sitk.GetArrayFromImage(resample(pet, upper, outside=0))
    for finder, mask in (("brain", _brain(hu, suv)), ("body centre", _largest(_opened(hu > _BODY_HU)))):
        if mask.any():
            _, y, x = ndimage.center_of_mass(mask)
            return Head(_centre_mm(upper, x, y), finder)
    return Head(_centre_mm(upper, (upper.size[0] - 1) / 2, (upper.size[1] - 1) / 2), "image centre")


def head_crop(whole: Grid, centre: tuple[float, float], keep: Vector | None) -> tuple[Grid, bool]:
    """Cut 200 x 200 x at most 310 mm out of a grid: centred on the head, from the top downwards.

    Parameters
    ----------
    whole : Grid
        The grid that covers the CT.
    centre : tuple of float
        Middle of the head (x, y) in mm.
    keep : ndarray or None
        Outer bounds (2, 3) in mm of what must stay inside: the box around all structures.

    Returns
    -------
    crop : Grid
        Beyond ``whole`` in plane where that is narrower than the crop; never beyond it along z.
    moved : bool
        Whether it had to be moved, or enlarged where a structure is larger than the crop, to hold ``keep``.
    """
    size = np.floor(np.array(CROP_MM) / whole.spacing + 1e-6).astype(np.int64)
    size[2] = min(size[2], whole.size[2])
    middle = (np.array(centre) - np.array(whole.corner[:2])) / whole.spacing
    start = np.array([*np.rint(middle - size[:2] / 2), whole.size[2] - size[2]], dtype=np.int64)
    if keep is None:
        return whole.cut(start, size), False
    first, last = whole.voxels_within(keep)
    # A structure may reach into the sliver that the grid leaves out at the bottom.
    first[2], last[2] = np.clip([first[2], last[2]], 0, whole.size[2] - 1)
    held_size = np.maximum(size, last - first + 1)
    held_start = np.clip(start, last + 1 - held_size, first)
    moved = bool(np.any(held_start != start) or np.any(held_size != size))
    return whole.cut(held_start, held_size), moved


def _brain(hu: npt.NDArray[np.float32], suv: npt.NDArray[np.float32]) -> Mask:
    """Return the voxels of the brain, none where there is no brain."""
    labelled, count = ndimage.label(_opened(suv >= _BRAIN_SUV))
    volumes = np.bincount(labelled.ravel(), minlength=count + 1)[1:] * _FINDER_SPACING_MM**3 / 1000
    for index in np.argsort(volumes)[::-1]:
        if not _BRAIN_ML[0] <= volumes[index] <= _BRAIN_ML[1]:
            continue
        mask: Mask = labelled == index + 1
        shell = ndimage.binary_dilation(mask, iterations=3) & ~mask
        if np.count_nonzero(hu[shell] >= _BONE_HU) >= _SKULL_FRACTION * np.count_nonzero(shell) > 0:
            return mask
    return np.zeros(suv.shape, dtype=bool)


def _opened(mask: Mask) -> Mask:
    """Cut thin bridges: to a gland from the brain, to the table from the body."""
    return np.asarray(ndimage.binary_opening(mask, iterations=2), dtype=bool)


def _largest(mask: Mask) -> Mask:
    labelled, count = ndimage.label(mask)
    if count == 0:
        return mask
    return np.asarray(labelled == np.bincount(labelled.ravel())[1:].argmax() + 1, dtype=bool)


def _centre_mm(grid: Grid, x: float, y: float) -> tuple[float, float]:
    return (
        float(grid.corner[0] + (x + 0.5) * grid.spacing),
        float(grid.corner[1] + (y + 0.5) * grid.spacing),
    )
