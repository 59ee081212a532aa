"""Two label maps -> one set of figures per structure.

Distances follow MONAI: between border voxels (a mask without its 6-connected erosion), HD95 as the maximum of the two
directed 95th percentiles. Each is computed once per pair of masks, and every boundary figure derived from it. A
structure is a small part of the volume: each is cut out once, and all but the cutting works on what was cut out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

SURFACE_DICE_TOLERANCE_MM = 2.0

LabelMap = npt.NDArray[np.integer[Any]]
Mask = npt.NDArray[np.bool_]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _CutOut:
    """A mask's bounding box in the volume, and the mask within that box."""

    box: tuple[slice, ...]
    mask: Mask

    @classmethod
    def of(cls, mask: Mask) -> _CutOut:
        box: tuple[slice, ...] = ()
        for axis in range(mask.ndim):
            # Cut along the axes before, so that only the first of the passes reads the whole volume.
            found = np.flatnonzero(mask[box].any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
            if not len(found):
                return cls((slice(0, 0),) * mask.ndim, np.zeros((0,) * mask.ndim, bool))
            box += (slice(int(found[0]), int(found[-1]) + 1),)
        return cls(box, mask[box].copy())

    @cached_property
    def voxels(self) -> int:
        return int(np.count_nonzero(self.mask))

    def overlap(self, other: _CutOut) -> int:
        """Number of voxels that both have."""
        common = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(self.box, other.box, strict=True)]
        if any(start >= stop for start, stop in common):
            return 0
        return int(np.count_nonzero(self._within(common) & other._within(common)))

    def _within(self, bounds: Sequence[tuple[int, int]]) -> Mask:
        origins = [axis.start for axis in self.box]
        return self.mask[tuple(slice(a - origin, b - origin) for (a, b), origin in zip(bounds, origins, strict=True))]

    def border_points_mm(self, spacing_mm: Sequence[float]) -> Points:
        """Coordinates of the border voxels, shape (n, 3); voxels at the image's edge are border voxels."""
        # SciPy's binary_erosion and NumPy's argwhere take ten times as long on the box of islands far apart.
        inner = self.mask.copy()
        for axis in range(inner.ndim):
            eroded, mask = np.moveaxis(inner, axis, 0), np.moveaxis(self.mask, axis, 0)
            eroded[1:] &= mask[:-1]
            eroded[:-1] &= mask[1:]
            eroded[[0, -1]] = False
        found = np.unravel_index(np.flatnonzero(self.mask & ~inner), inner.shape)
        points = [(a + axis.start) * s for a, axis, s in zip(found, self.box, spacing_mm, strict=True)]
        return np.stack(points, axis=1)


@dataclass(frozen=True)
class _Border:
    points: Points
    tree: KDTree

    @classmethod
    def of(cls, structure: _CutOut, spacing_mm: Sequence[float]) -> _Border:
        points = structure.border_points_mm(spacing_mm)
        # Sorting for a balanced tree takes longer than it saves, and larger leaves suit a border's dense points.
        return cls(points, KDTree(points, leafsize=32, balanced_tree=False))


class Reference:
    """The reference contours of one case, prepared once for all its variants.

    Parameters
    ----------
    label_map
        (z, y, x), the reference.
    structures
        Label value of each structure by name.
    spacing_mm
        Voxel size, (z, y, x).
    ignore_label
        Label value of voxels that nobody annotated; nothing there counts, as in nnU-Net's evaluation.
    """

    def __init__(
        self,
        label_map: LabelMap,
        structures: Mapping[str, int],
        spacing_mm: Sequence[float],
        *,
        ignore_label: int | None = None,
    ) -> None:
        self._spacing = tuple(float(s) for s in spacing_mm)
        self.structures = dict(structures)
        self._not_scored = None if ignore_label is None else label_map == ignore_label
        self._scored = label_map.size - (0 if self._not_scored is None else int(np.count_nonzero(self._not_scored)))
        self._shape = label_map.shape
        self._cut_out = {name: _CutOut.of(label_map == label) for name, label in structures.items()}
        self._borders = {name: _Border.of(cut, self._spacing) for name, cut in self._cut_out.items() if cut.voxels}

    def measure(self, prediction: LabelMap) -> dict[str, dict[str, Any]]:
        """Compare a prediction with the reference.

        Parameters
        ----------
        prediction
            (z, y, x), on the reference's grid.

        Returns
        -------
        dict
            For each structure the columns ``dice`` to ``outcome`` of a row (Dice of two empty masks
            is 1; Hausdorff distances with one empty mask are infinite, with two undefined).

        Raises
        ------
        ValueError
            Where the shapes differ.
        """
        if prediction.shape != self._shape:
            raise ValueError(f"prediction {prediction.shape} and reference {self._shape} differ in shape")
        if self._not_scored is not None:
            prediction = np.where(self._not_scored, 0, prediction)
        return {name: self._structure(name, prediction == label) for name, label in self.structures.items()}

    def _structure(self, name: str, mask: Mask) -> dict[str, Any]:
        reference, predicted = self._cut_out[name], _CutOut.of(mask)
        tp = reference.overlap(predicted)
        fn = reference.voxels - tp
        fp = predicted.voxels - tp
        tn = self._scored - tp - fn - fp
        voxel_mm3 = math.prod(self._spacing)
        return {
            "dice": dice_of_counts(tp, fp, fn),
            **self._distances(name, predicted),
            "sensitivity": _ratio(tp, tp + fn),
            "specificity": _ratio(tn, tn + fp),
            "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
            "tp": tp,
            "fp": fp,
            "fn": fn,
            "tn": tn,
            "reference_mm3": (tp + fn) * voxel_mm3,
            "predicted_mm3": (tp + fp) * voxel_mm3,
            "outcome": _outcome(tp, fp, fn),
        }

    def _distances(self, name: str, predicted: _CutOut) -> dict[str, float]:
        reference = self._borders.get(name)
        if reference is None or not predicted.voxels:
            both_empty = reference is None and not predicted.voxels
            distance = math.nan if both_empty else math.inf
            return {
                "hd95_mm": distance,
                "hd_mm": distance,
                "surface_dice_2mm": math.nan if both_empty else 0.0,
            }
        border = _Border.of(predicted, self._spacing)
        to_reference, _ = reference.tree.query(border.points)
        to_prediction, _ = border.tree.query(reference.points)
        # In float32, as MONAI: in float64, rounding puts voxels that are 2 mm apart on either side of 2 mm.
        near = sum(
            np.count_nonzero(distances.astype(np.float32) <= SURFACE_DICE_TOLERANCE_MM)
            for distances in (to_reference, to_prediction)
        )
        return {
            "hd95_mm": float(max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95))),
            "hd_mm": float(max(to_reference.max(), to_prediction.max())),
            "surface_dice_2mm": float(near / (len(to_reference) + len(to_prediction))),
        }


def dice_per_structure(a: LabelMap, b: LabelMap, structures: Mapping[str, int]) -> dict[str, float]:
    """Dice between two label maps of the same shape, by structure; two empty masks give 1.

    Raises
    ------
    ValueError
        Where the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"label maps {a.shape} and {b.shape} differ in shape")
    dice = {}
    for name, label in structures.items():
        of_a, of_b = _CutOut.of(a == label), _CutOut.of(b == label)
        tp = of_a.overlap(of_b)
        dice[name] = dice_of_counts(tp, of_b.voxels - tp, of_a.voxels - tp)
    return dice


def dice_of_counts(tp: int, fp: int, fn: int) -> float:
    """Dice = 2 TP / (2 TP + FP + FN); 1 where both masks are empty."""
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _outcome(tp: int, fp: int, fn: int) -> str:
    if tp + fn == 0:
        return "false_positive" if fp else "true_negative"
    return "detected" if tp else "missed"
