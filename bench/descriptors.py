"""The study's lesion descriptors of two structures: ours against its formulas on the whole volume."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats

from analysis.descriptors import Describer
from bench.results import Agreement, Row, Settings
from bench.timing import interleaved, limited_threads
from bench.volumes import FULL, QUICK, STRUCTURES, head, reference_map

_SPACING = (1.0, 1.0, 1.0)
_LIMIT = 1e-9


def measure(settings: Settings) -> list[Row]:
    """One row; ours computes the meshes and entropies of its other columns as well."""
    shape = QUICK if settings.quick else FULL
    volumes = {"CT": 2000 * head(shape) - 1000, "PET": 10 * head(shape, seed=1)}
    label_map = reference_map(shape)
    masks = [label_map == label for label in STRUCTURES.values()]

    def ours() -> list[dict[str, float] | None]:
        describer = Describer(volumes, _SPACING)
        return [describer.describe(mask) for mask in masks]

    def theirs() -> list[dict[str, float]]:
        return [by_the_formulas(mask, volumes, _SPACING) for mask in masks]

    settings.show("both structures")
    with limited_threads(1):
        times, of_ours, of_theirs = interleaved(ours, theirs, settings.repeats)
        largest = max(
            abs(row[name] - value) / abs(value)
            for row, expected in zip(of_ours, of_theirs, strict=True)
            for name, value in expected.items()
        )
        agreement = Agreement.within(largest, _LIMIT, "of the value")
        return [times.row("descriptors", "the study's formulas on the whole volume", agreement, shape=list(shape))]


def by_the_formulas(
    mask: npt.NDArray[np.bool_], volumes: Mapping[str, npt.NDArray[Any]], spacing: Sequence[float]
) -> dict[str, float]:
    """The study's formulas as its authors wrote them, on the whole volume.

    Parameters
    ----------
    mask
        (x, y, z), the structure; not empty.
    volumes
        (x, y, z) intensities by channel name.
    spacing
        Voxel size in mm, (x, y, z).
    """
    labels, regions = ndimage.label(mask)
    surfaces, ratios = [], []
    for region in range(1, regions + 1):
        of_region = labels == region
        surfaces.append(np.sum(of_region ^ ndimage.binary_erosion(of_region)))
        ratios.append((surfaces[-1] / 20) ** 3 / (36 * np.pi * (np.sum(of_region) / 20) ** 2))
    from_centre = (np.array(ndimage.center_of_mass(mask)) - np.array(mask.shape) / 2) * spacing
    response = ndimage.sobel(mask.astype(float), axis=2)
    voxel = math.prod(spacing)
    row = {
        "volume_mm3": np.sum(mask) * voxel,
        "surface_mm2": np.mean(surfaces) * voxel ** (2 / 3),
        "compactness": np.mean(ratios),
        "centroid_distance_mm": np.sqrt(np.sum(from_centre**2)),
        "boundary_length_mm": np.sum(response != 0) * voxel ** (1 / 3),
        "regions": regions,
        "mask_entropy": stats.entropy(np.histogram(mask.astype(float), bins=2, range=(0, 1))[0]),
    }
    for name, volume in volumes.items():
        values = volume.astype(float)
        outside = values[~mask].mean() if not mask.all() else math.nan
        row[f"{name}_sd"] = np.std(values[mask])
        row[f"{name}_contrast"] = values[mask].mean() - outside
        row[f"{name}_max"] = values[mask].max()
        row[f"{name}_mean"] = values[mask].mean()
    return row
