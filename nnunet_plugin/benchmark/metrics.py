"""Two label maps -> one set of figures per structure.

Distances follow MONAI: between border voxels (a mask without its 6-connected erosion), HD95 as the maximum of the two
directed 95th percentiles. Each is computed once per pair of masks, and every boundary figure derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial import KDTree

SURFACE_DICE_TOLERANCE_MM = 2.0

LabelMap = npt.NDArray[np.integer[Any]]
Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Border:
    points: Points
    tree: KDTree | None

    @classmethod
    def of(cls, mask: npt.NDArray[np.bool_], spacing_mm: Sequence[float]) -> _Border:
        points = border_points_mm(mask, spacing_mm)
        return cls(points, KDTree(points) if len(points) else None)


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
        self._label_map = label_map
        self._spacing = tuple(float(s) for s in spacing_mm)
        self.structures = dict(structures)
        self._size = max(structures.values()) + 1
        self._scored = np.ones(label_map.shape, bool) if ignore_label is None else label_map != ignore_label
        self._borders = {name: _Border.of(label_map == label, self._spacing) for name, label in structures.items()}

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
        if prediction.shape != self._label_map.shape:
            raise ValueError(f"prediction {prediction.shape} and reference {self._label_map.shape} differ in shape")
        prediction = np.where(self._scored, prediction, 0)
        counts = joint_counts(self._label_map[self._scored], prediction[self._scored], self._size)
        return {name: self._structure(name, label, counts, prediction) for name, label in self.structures.items()}

    def _structure(self, name: str, label: int, counts: npt.NDArray[np.int64], prediction: LabelMap) -> dict[str, Any]:
        tp = int(counts[label, label])
        fn = int(counts[label].sum()) - tp
        fp = int(counts[:, label].sum()) - tp
        tn = int(counts.sum()) - tp - fn - fp
        voxel_mm3 = math.prod(self._spacing)
        return {
            "dice": dice_of_counts(tp, fp, fn),
            **self._distances(name, prediction == label if tp + fp else None),
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

    def _distances(self, name: str, mask: npt.NDArray[np.bool_] | None) -> dict[str, float]:
        reference = self._borders[name]
        if mask is None or reference.tree is None:
            both_empty = mask is None and reference.tree is None
            distance = math.nan if both_empty else math.inf
            return {
                "hd95_mm": distance,
                "hd_mm": distance,
                "surface_dice_2mm": math.nan if both_empty else 0.0,
            }
        predicted = _Border.of(mask, self._spacing)
        assert predicted.tree is not None
        to_reference, _ = reference.tree.query(predicted.points)
        to_prediction, _ = predicted.tree.query(reference.points)
        near = np.count_nonzero(to_reference <= SURFACE_DICE_TOLERANCE_MM) + np.count_nonzero(
            to_prediction <= SURFACE_DICE_TOLERANCE_MM
        )
        return {
            "hd95_mm": float(max(np.percentile(to_reference, 95), np.percentile(to_prediction, 95))),
            "hd_mm": float(max(to_reference.max(), to_prediction.max())),
            "surface_dice_2mm": float(near / (len(to_reference) + len(to_prediction))),
        }


def joint_counts(reference: LabelMap, prediction: LabelMap, size: int) -> npt.NDArray[np.int64]:
    """Voxels by (reference label, predicted label), shape (size, size): every overlap from one pass."""
    joint = reference.ravel().astype(np.intp) * size + prediction.ravel()
    return np.bincount(joint, minlength=size * size).reshape(size, size)


def dice_per_structure(a: LabelMap, b: LabelMap, structures: Mapping[str, int]) -> dict[str, float]:
    """Dice between two label maps of the same shape, by structure; two empty masks give 1."""
    counts = joint_counts(a, b, max(structures.values()) + 1)
    dice = {}
    for name, label in structures.items():
        tp = int(counts[label, label])
        dice[name] = dice_of_counts(tp, int(counts[:, label].sum()) - tp, int(counts[label].sum()) - tp)
    return dice


def dice_of_counts(tp: int, fp: int, fn: int) -> float:
    """Dice = 2 TP / (2 TP + FP + FN); 1 where both masks are empty."""
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 1.0


def border_points_mm(mask: npt.NDArray[np.bool_], spacing_mm: Sequence[float]) -> Points:
    """Coordinates of a mask's border voxels in mm, shape (n, 3); voxels at the image's edge are border voxels."""
    box = ndimage.find_objects(mask.view(np.uint8), max_label=1)[0]
    if box is None:
        return np.empty((0, mask.ndim))
    cropped = mask[box]
    border = cropped & ~ndimage.binary_erosion(cropped)
    points: Points = (np.argwhere(border) + [axis.start for axis in box]) * np.asarray(spacing_mm)
    return points


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else math.nan


def _outcome(tp: int, fp: int, fn: int) -> str:
    if tp + fn == 0:
        return "false_positive" if fp else "true_negative"
    return "detected" if tp else "missed"
