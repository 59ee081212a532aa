"""Synthetic volumes and label maps as large and as textured as a head-and-neck PET/CT; all chance is seeded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Shape = tuple[int, int, int]
Volume = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.uint8]

FULL: Shape = (200, 200, 310)
"""(x, y, z): the study's crop of a head and neck at 1 mm."""
QUICK: Shape = (96, 96, 150)
STRUCTURES = {"GTVp": 1, "GTVn": 2}

_BALLS = ((1, (0.5, 0.42, 0.45), 14.0), (2, (0.36, 0.5, 0.4), 10.0), (2, (0.66, 0.5, 0.36), 8.0))
_ISLANDS = ((1, (0.08, 0.9, 0.94), 3.0), (1, (0.9, 0.1, 0.06), 2.0), (2, (0.92, 0.9, 0.96), 3.0))
"""Label, centre as a share of the shape, radius in voxels of the full shape."""


def head(shape: Shape, seed: int = 0) -> Volume:
    """A textured head in air, in [0, 1], as a CT volume after nnU-Net's min-max normalisation."""
    rng = np.random.default_rng(seed)
    distance = _ellipsoid(shape, (0.5, 0.5, 0.55), [0.42 * n for n in shape])
    texture = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 2)
    tissue = 0.35 + 0.1 * texture / texture.std()
    skull = np.where((distance > 0.85) & (distance < 0.95), np.float32(0.5), np.float32(0))
    volume = np.where(distance < 1, tissue + skull, np.float32(0)).clip(0)
    return np.asarray(volume / volume.max(), dtype=np.float32)


def z_scored(volume: Volume) -> Volume:
    """Normalised as nnU-Net does with PET: mean 0, standard deviation 1."""
    return np.asarray((volume - volume.mean()) / volume.std(), dtype=np.float32)


def reference_map(shape: Shape) -> LabelMap:
    """A primary tumour and two nodes, (x, y, z)."""
    return _balls(shape, _BALLS)


def predictions(shape: Shape) -> dict[str, LabelMap]:
    """Label maps as a model gives them for :func:`reference_map`, from good to useless."""
    rng = np.random.default_rng(1)
    good = np.roll(reference_map(shape), (1, -1, 1), axis=(0, 1, 2))
    wobble = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 4)
    good[wobble > 1.5 * wobble.std()] = 0
    islands = np.maximum(good, _balls(shape, _ISLANDS))
    scattered = islands.copy()
    spots = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.5)
    scattered[spots > 3.2 * spots.std()] = 1
    return {
        "good": good,
        "islands": islands,
        "one structure empty": np.where(islands == 2, 0, islands).astype(np.uint8),
        "scattered": scattered,
    }


def _balls(shape: Shape, balls: Sequence[tuple[int, tuple[float, float, float], float]]) -> LabelMap:
    label_map = np.zeros(shape, np.uint8)
    for label, centre, radius in balls:
        scaled = max(1.0, radius * min(n / full for n, full in zip(shape, FULL, strict=True)))
        label_map[_ellipsoid(shape, centre, [scaled] * 3) < 1] = label
    return label_map


def _ellipsoid(shape: Shape, centre: Sequence[float], radii: Sequence[float]) -> npt.NDArray[np.float32]:
    """Distance from the centre in units of the radii."""
    axes = [((np.arange(n, dtype=np.float32) - c * n) / r) ** 2 for n, c, r in zip(shape, centre, radii, strict=True)]
    x, y, z = np.ix_(*axes)
    distance: npt.NDArray[np.float32] = np.sqrt(x + y + z)
    return distance
