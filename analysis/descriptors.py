"""Size, shape and appearance of a reference structure: the study's 13 descriptors and their IBSI counterparts.

Everything is computed on the structure's bounding box. The whole volume enters only through its number of voxels and
the sum of its intensities, which the structures of a case share.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage, special
from skimage.measure import marching_cubes, mesh_surface_area

from analysis.errors import AnalysisError, suggestion

STUDY_13 = (
    *("volume_mm3", "surface_mm2", "compactness", "centroid_distance_mm", "boundary_length_mm"),
    *("CT_sd", "PET_sd", "CT_contrast", "PET_contrast", "PET_max", "CT_mean", "regions", "mask_entropy"),
)
"""The study's descriptors for channels named CT and PET, in its order."""

Mask = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float64]
Volumes = Mapping[str, npt.NDArray[Any]]
Widths = Mapping[str, float]
Row = dict[str, float]

_UNITS = {"CT": "HU", "PET": "SUV", "PT": "SUV"}
_BIN_WIDTHS = {"HU": 25.0, "SUV": 0.25}
_BINS = 32

# name | label | unit | source | definition
_OF_STRUCTURE = """
volume_mm3 | volume | mm³ | study; IBSI volume (voxel counting), YEKZ | number of voxels times the voxel volume
surface_mm2 | surface | mm² | study | voxels that a 6-connected erosion removes, those at the volume's edge included; \
mean over regions, times the voxel volume to the power of 2/3
compactness | compactness | 1 | study | (S/20)³ / (36π (V/20)²) of a region's S border voxels and V voxels; mean over \
regions; larger is less compact
centroid_distance_mm | distance from centre | mm | study | distance of the mean voxel index from half the volume's shape
boundary_length_mm | boundary length | mm | study | number of voxels where the mask's 3x3x3 Sobel response along z is \
not zero, times the cube root of the voxel volume: no length, it counts voxels at the lower and upper boundary
regions | regions | 1 | study | number of 6-connected regions
mask_entropy | mask entropy | nat | study | -Σ p ln p over the shares p of the volume's voxels inside and outside: a \
function of that share alone
mesh_volume_mm3 | mesh volume | mm³ | IBSI volume (mesh), RNU0 | volume V inside the mask's marching-cubes mesh at 0.5
mesh_surface_mm2 | mesh surface | mm² | IBSI surface area (mesh), C0JK | area A of the same mesh
compactness_2 | compactness 2 | 1 | IBSI compactness 2, BQWJ | 36π V² / A³; larger is more compact, a sphere has 1
sphericity | sphericity | 1 | IBSI sphericity, QCFX | (36π V²)^(1/3) / A; a sphere has 1
"""
_OF_MODALITY = """
{m}_sd | {m} SD | {unit} | study; square root of IBSI intensity variance, ECT3 | standard deviation inside, divided by n
{m}_contrast | {m} contrast | {unit} | study | mean inside minus mean over every other voxel of the volume
{m}_max | {m} maximum | {unit} | study; IBSI maximum intensity, 84IY | maximum inside
{m}_mean | {m} mean | {unit} | study; IBSI mean intensity, Q4LE | mean inside
{m}_entropy | {m} entropy | bit | IBSI intensity histogram entropy, TLU2 | -Σ p log2 p over shares p of {bins} inside
"""


@dataclass(frozen=True)
class Definition:
    """What one column of :func:`describe` means.

    Parameters
    ----------
    name, label
        The column, and a few words for the axis of a figure.
    unit
        Of the values; ``1`` where they have none.
    definition, source
        The formula in words, and whose it is: ``study``, or the name and permanent code of a feature of the Image
        Biomarker Standardisation Initiative (https://ibsi.readthedocs.io), or both where they are the same number.
    """

    name: str
    label: str
    unit: str
    definition: str
    source: str


def definitions(modalities: Sequence[str], *, bin_width: Widths | None = None) -> tuple[Definition, ...]:
    """What the columns of :func:`describe` are, in order.

    Parameters
    ----------
    modalities
        Channel names. ``CT`` is in HU, ``PET`` and ``PT`` are in SUV (in any case), others in image units.
    bin_width
        As in :func:`describe`.

    Raises
    ------
    AnalysisError
        Where two columns would have the same name, or ``bin_width`` does not fit.
    """
    table = list(_parsed(_OF_STRUCTURE))
    widths = _bin_widths(modalities, bin_width)
    for name in modalities:
        unit, width = _unit(name), widths[name]
        bins = f"bins of {width:g} {unit} that start at 0" if width else f"{_BINS} equal bins over the range"
        table += _parsed(_OF_MODALITY, m=name, unit=unit, bins=bins)
    if len({entry.name for entry in table}) < len(table):
        raise AnalysisError(
            f"modalities: found {', '.join(modalities)}; expected names that differ from each other and give no column "
            "that is there already (as mask_entropy is); rename the channel in dataset.json"
        )
    return tuple(table)


def _parsed(table: str, **words: str) -> Iterator[Definition]:
    for line in table.strip().splitlines():
        name, label, unit, source, definition = (field.strip().format(**words) for field in line.split(" | "))
        yield Definition(name, label, unit, definition, source)


def describe(mask: Mask, volumes: Volumes, spacing: Sequence[float], *, bin_width: Widths | None = None) -> Row | None:
    """Describe one structure; for several of a case, :class:`Describer` sums each volume only once.

    Parameters
    ----------
    mask
        (x, y, z), bool, the structure.
    volumes
        (x, y, z) intensities on the mask's grid by channel name, CT in HU and PET in SUV. May be empty.
    spacing
        Voxel size in mm, (x, y, z).
    bin_width
        By channel name, instead of 25 HU, 0.25 SUV and, for other units, 32 bins over the structure's range (IBSI's
        fixed bin number). A width means IBSI's fixed bin size with bins from 0 (at 25 HU the same as from -1000).

    Returns
    -------
    dict or None
        The columns of :func:`definitions` in their order; None where the structure is empty. The contrast of a
        structure that fills the volume is NaN, everything else is finite.

    Raises
    ------
    AnalysisError
        Where mask, volumes, spacing or bin width do not fit these descriptions, or an intensity is not finite.
    """
    return Describer(volumes, spacing, bin_width=bin_width).describe(mask)


class Describer:
    """Describes the structures of one case; parameters and errors as in :func:`describe`."""

    def __init__(self, volumes: Volumes, spacing: Sequence[float], *, bin_width: Widths | None = None) -> None:
        definitions(list(volumes), bin_width=bin_width)  # refuses names that would overwrite a column
        self._volumes = dict(volumes)
        self._spacing = _checked_spacing(spacing)
        self._widths = _bin_widths(volumes, bin_width)
        self._sums = {name: _checked_sum(name, volume) for name, volume in volumes.items()}

    def describe(self, mask: Mask) -> Row | None:
        """Describe one structure; parameters, result and errors as in :func:`describe`."""
        _check_grid(mask, self._volumes)
        box = _bounding_box(mask)
        if box is None:
            return None
        cropped = mask[box]
        offset = np.array([axis.start for axis in box]) - np.array(mask.shape) / 2
        row = _shape(cropped, offset, mask.size, self._spacing) | _mesh(cropped, self._spacing)
        for name, volume in self._volumes.items():
            values = volume[box][cropped].astype(np.float64)
            row |= _intensities(name, values, self._sums[name], mask.size, self._widths[name])
        return row


def compactness(surface: npt.ArrayLike, volume: npt.ArrayLike) -> Values:
    """The study's compactness, elementwise: (S/20)³ / (36π (V/20)²).

    Parameters
    ----------
    surface, volume
        Border voxels and voxels, or mm² and mm³: the voxel size cancels.
    """
    s, v = (np.asarray(value, dtype=np.float64) / 20 for value in (surface, volume))
    return np.asarray(s**3 / (36 * np.pi * v**2))


def mask_entropy(inside: int, voxels: int) -> float:
    """Entropy in nats of a mask with ``inside`` of a volume's ``voxels``."""
    return _entropy([voxels - inside, inside])


def _shape(cropped: Mask, offset: Values, voxels: int, spacing: tuple[float, ...]) -> Row:
    labels, regions = ndimage.label(cropped)
    # A voxel's six neighbours are background or of its own region: one erosion serves all regions.
    border = cropped & ~ndimage.binary_erosion(cropped)
    volumes = np.bincount(labels[cropped], minlength=regions + 1)[1:]
    surfaces = np.bincount(labels[border], minlength=regions + 1)[1:]
    # The study filters a bool mask, whose negative responses scipy casts to unsigned bytes: undefined in C, and on x86
    # not zero where the signed response is not.
    response = ndimage.sobel(cropped.view(np.int8), axis=-1)
    centroid = np.argwhere(cropped).mean(axis=0) + offset
    inside = int(volumes.sum())
    voxel_mm3 = math.prod(spacing)
    return {
        "volume_mm3": inside * voxel_mm3,
        "surface_mm2": float(surfaces.mean()) * voxel_mm3 ** (2 / 3),
        "compactness": float(compactness(surfaces, volumes).mean()),
        "centroid_distance_mm": float(np.linalg.norm(centroid * spacing)),
        "boundary_length_mm": int(np.count_nonzero(response)) * voxel_mm3 ** (1 / 3),
        "regions": float(regions),
        "mask_entropy": mask_entropy(inside, voxels),
    }


def _mesh(cropped: Mask, spacing: tuple[float, ...]) -> Row:
    # Without the padding, the mesh of a structure at the volume's edge would be open.
    vertices, faces, _, _ = marching_cubes(np.pad(cropped, 1).astype(np.float32), level=0.5, spacing=spacing)
    vertices = vertices.astype(np.float64)
    a, b, c = vertices[faces].transpose(1, 0, 2)
    volume = abs(float(np.einsum("ij,ij->", a, np.cross(b, c)))) / 6
    area = float(mesh_surface_area(vertices, faces))
    ratio = 36 * math.pi * volume**2 / area**3
    sizes = {"mesh_volume_mm3": volume, "mesh_surface_mm2": area}
    return sizes | {"compactness_2": ratio, "sphericity": math.cbrt(ratio)}


def _intensities(name: str, values: Values, total: float, voxels: int, width: float | None) -> Row:
    others = voxels - values.size
    outside = (total - float(values.sum())) / others if others else math.nan
    mean, largest, entropy = float(values.mean()), float(values.max()), _histogram_entropy(values, width)
    row = {"sd": float(values.std()), "contrast": mean - outside, "max": largest, "mean": mean, "entropy": entropy}
    return {f"{name}_{key}": value for key, value in row.items()}


def _histogram_entropy(values: Values, width: float | None) -> float:
    if width is None:
        low, extent = values.min(), np.ptp(values) or 1.0
        bins = np.minimum(np.floor(_BINS * ((values - low) / extent)), _BINS - 1)
    else:
        bins = np.floor(values / width)
    return _entropy(np.unique(bins, return_counts=True)[1]) / math.log(2)


def _entropy(counts: npt.ArrayLike) -> float:
    return float(special.entr(np.asarray(counts) / np.sum(counts)).sum())


def _bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    box: tuple[slice, ...] = ()
    for axis in range(mask.ndim):
        # Cut along the axes before, so that only the first of the three passes reads the whole volume.
        found = np.flatnonzero(mask[box].any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(found):
            return None
        # One voxel more, as far as a filter of 3x3x3 responds; at the volume's edge the crop ends as the volume does.
        box += (slice(max(0, int(found[0]) - 1), int(found[-1]) + 2),)
    return box


def _unit(modality: str) -> str:
    return _UNITS.get(modality.upper(), "image units")


def _bin_widths(modalities: Collection[str], given: Widths | None) -> dict[str, float | None]:
    for name, width in (given or {}).items():
        if name not in modalities or not 0 < width < math.inf:
            raise AnalysisError(
                f"bin_width: found {name} = {width}; expected a positive number for one of {', '.join(modalities)}; "
                f"{suggestion(name, modalities)}correct the name or the width"
            )
    return {name: _BIN_WIDTHS.get(_unit(name)) for name in modalities} | dict(given or {})


def _check_grid(mask: Mask, volumes: Volumes) -> None:
    if mask.ndim != 3 or mask.dtype != np.bool_:
        raise AnalysisError(
            f"mask: found {mask.dtype} of shape {mask.shape}; expected bool (x, y, z); pass label_map == label"
        )
    for name, volume in volumes.items():
        if volume.shape != mask.shape:
            raise AnalysisError(f"volume {name}: found {volume.shape}; expected the mask's {mask.shape}; use one grid")


def _checked_spacing(spacing: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(value) for value in spacing)
    if len(values) != 3 or not all(0 < value < math.inf for value in values):
        raise AnalysisError(f"spacing: found {values}; expected three positive mm, (x, y, z); check the image's header")
    return values


def _checked_sum(name: str, volume: npt.NDArray[Any]) -> float:
    with np.errstate(invalid="ignore"):  # the sum shows what is not finite without a second pass
        total = float(volume.sum(dtype=np.float64))
    if not math.isfinite(total):
        bad = int(np.count_nonzero(~np.isfinite(volume)))
        raise AnalysisError(
            f"volume {name}: {bad} of {volume.size} voxels are not finite; expected numbers; convert the case again"
        )
    return total
