"""Patches centred on background or on a structure with the study's odds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

BACKGROUND = 0
BACKGROUND_PROBABILITY = 0.10


def centre_probabilities(present: Sequence[int]) -> dict[int, float]:
    """Share out the probability of being the centre of a patch.

    Parameters
    ----------
    present
        Foreground labels that the case contains.

    Returns
    -------
    dict
        Label -> probability: 0.10 for the background (label 0), the rest split evenly over ``present``.
        With two structures that is the study's 0.10 / 0.45 / 0.45, with one 0.10 / 0.90, with none 1.
    """
    if not present:
        return {BACKGROUND: 1.0}
    share = (1 - BACKGROUND_PROBABILITY) / len(present)
    return {BACKGROUND: BACKGROUND_PROBABILITY} | dict.fromkeys(present, share)


def patch_start(centre: int, patch: int, size: int) -> int:
    """Return the first voxel, along one axis, of a patch around a centre that stays inside the image.

    Parameters
    ----------
    centre
        Voxel to centre the patch on.
    patch, size
        Voxels of the patch and of the image along the axis.

    Returns
    -------
    int
        Between 0 and ``size - patch``. Where the image is smaller than the patch, the image lies in its
        middle and the start is negative: nnU-Net pads.
    """
    if size < patch:
        return -((patch - size) // 2)
    return min(max(centre - patch // 2, 0), size - patch)


class ClassRatioDataLoader(nnUNetDataLoader):
    """nnU-Net's loader, with the centre of every patch drawn by :func:`centre_probabilities`.

    It draws from NumPy's global generator, as its base class does, which nnU-Net seeds in every worker.
    """

    def get_bbox(
        self,
        data_shape: Sequence[int],
        force_fg: bool,  # noqa: ARG002 - nnU-Net's signature; its oversampling of foreground is replaced
        class_locations: Mapping[Any, npt.NDArray[np.integer]] | None,
        overwrite_class: int | tuple[int, ...] | None = None,
        verbose: bool = False,  # noqa: ARG002
    ) -> tuple[list[int], list[int]]:
        """Draw a patch.

        Parameters
        ----------
        data_shape
            Voxels of the case along (z, y, x).
        class_locations
            Label -> (n, 4) voxels of that label as (0, z, y, x), sampled by nnU-Net's preprocessing. Where a
            data set has an ignore label, a tuple of all other labels leads to the annotated voxels.
        overwrite_class
            Label to centre the patch on instead of drawing one.

        Returns
        -------
        tuple of list of int
            First voxel, and one past the last, along each axis.
        """
        locations = class_locations or {}
        present = [key for key in locations if isinstance(key, int) and len(locations[key])]
        label = overwrite_class if overwrite_class in present else self._draw_label(present)
        candidates = locations.get(self.annotated_classes_key if label == BACKGROUND else label, ())
        if len(candidates):
            centre = candidates[np.random.randint(len(candidates))][1:]  # noqa: NPY002 - see the class
        else:
            # Structures fill so little of an image that any voxel stands for the background.
            centre = [np.random.randint(size) for size in data_shape]  # noqa: NPY002
        starts = [
            patch_start(int(voxel), int(patch), int(size))
            for voxel, patch, size in zip(centre, self.patch_size, data_shape, strict=True)
        ]
        return starts, [start + int(patch) for start, patch in zip(starts, self.patch_size, strict=True)]

    @staticmethod
    def _draw_label(present: Sequence[int]) -> int:
        probabilities = centre_probabilities(present)
        drawn = np.random.choice(list(probabilities), p=list(probabilities.values()))  # noqa: NPY002
        return int(drawn)
