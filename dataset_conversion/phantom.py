"""Write a synthetic head-and-neck PET/CT cohort in the HECKTOR 2022 layout.

It shows that a pipeline works; it is no evidence about any model or patient.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
from scipy import ndimage

from dataset_conversion.anatomy import Array, Patient, contours, draw_patient, hounsfield, uptake
from dataset_conversion.hecktor import SYNTHETIC_MARKER, ConversionError
from dataset_conversion.phantom_clinic import CLINICAL_FILE, clinical_table

_CT_WIDTH_MM = 232.0
_LENGTH_MM = (240.0, 308.0)
# From the top of the head to below the lowest tumour, in a head of scale 1.
_LESION_DEPTH_MM = 250.0
_PSF_FWHM_MM = 6.5
_FWHM_TO_SIGMA = 1 / np.sqrt(8 * np.log(2))
_NOTE = """SYNTHETIC DATA. Nothing in this folder comes from a patient.

{cases} made-up head-and-neck PET/CT cases in the file naming of HECKTOR 2022, drawn by
    nnUNetv2_robustness_convert phantom --cases {cases} --spacing {spacing:g} --seed {seed}
CT in HU, PET in SUV, labels 1 = GTVp and 2 = GTVn on the CT grid. The letters in the case names are those of
HECKTOR's centres; here they only stand for seven scanner settings. Some cases lack one of the two structures.
The clinical table is made up too, missing values included.
Good for trying software. No evidence about any model, scanner or patient: say "synthetic" wherever a figure
made from it is shown.
"""


@dataclass(frozen=True)
class Scanner:
    """How a centre images, relative to the standard: PET voxel in plane and along z, blur, noise."""

    name: str
    pet_in_plane: float
    pet_along: float
    psf: float
    ct_noise: float
    pet_noise: float


SCANNERS = (
    Scanner("CHUM", 1.00, 0.82, 1.00, 1.0, 1.0),
    Scanner("CHUP", 1.02, 0.75, 0.95, 0.9, 1.1),
    Scanner("CHUS", 1.15, 1.00, 1.05, 1.2, 0.9),
    Scanner("CHUV", 0.91, 0.82, 1.00, 1.1, 1.0),
    Scanner("HGJ", 0.95, 0.82, 1.05, 0.8, 1.2),
    Scanner("HMR", 1.10, 1.05, 0.90, 1.0, 0.8),
    Scanner("MDA", 1.00, 0.82, 1.05, 1.0, 1.0),
)


@dataclass(frozen=True)
class CohortRecipe:
    """What a synthetic cohort is made of: number of cases, CT voxel in mm, seed."""

    cases: int = 34
    spacing: float = 4.0
    seed: int = 0


def case_name(index: int) -> str:
    """Return the name of the n-th case, such as CHUM-001: the centres take turns."""
    return f"{SCANNERS[index % len(SCANNERS)].name}-{index // len(SCANNERS) + 1:03d}"


def missing_structure(index: int) -> str | None:
    """Return which structure the n-th case lacks.

    A fixed pattern, so that a small cohort has such cases too: GTVn in every sixth case, GTVp in every
    twelfth. Neither is in step with the seven centres.
    """
    if index % 6 == 4:
        return "GTVn"
    return "GTVp" if index % 12 == 7 else None


def write_cohort(folder: Path, recipe: CohortRecipe, on_case: Callable[[int, int], None] | None = None) -> int:
    """Write a cohort, or what an interrupted call left out.

    Parameters
    ----------
    folder : Path
        New, empty, or holding a cohort of the same recipe.
    recipe : CohortRecipe
        A case depends on spacing, seed and its own number only: a larger cohort begins with the smaller one.
    on_case : callable, optional
        Called after each case with the number of cases done and their total.

    Returns
    -------
    int
        Number of cases written; the others were there.

    Raises
    ------
    ConversionError
        Where the folder holds something else.
    """
    _open_folder(folder, recipe)
    written = 0
    for index in range(recipe.cases):
        places = _places(folder, case_name(index))
        if not all(path.is_file() for path in places):
            _publish(make_case(index, recipe), places, folder)
            written += 1
        if on_case:
            on_case(index + 1, recipe.cases)
    return written


def make_case(index: int, recipe: CohortRecipe) -> tuple[sitk.Image, sitk.Image, sitk.Image]:
    """Return CT (HU, int16), PET (SUV, float32) and label (uint8, on the CT grid) of one case."""
    rng = np.random.default_rng([recipe.seed, index])
    scanner, missing = SCANNERS[index % len(SCANNERS)], missing_structure(index)
    patient = draw_patient(rng, primary=missing != "GTVp", nodes=missing != "GTVn")
    top = rng.uniform(8, 20)
    shortest = max(_LENGTH_MM[0], top + patient.scale * _LESION_DEPTH_MM)
    length = rng.uniform(shortest, max(shortest, _LENGTH_MM[1]))
    isocentre = rng.uniform(-30, 30, size=3)
    ct_grid = _grid(isocentre, (_CT_WIDTH_MM, _CT_WIDTH_MM, length), (recipe.spacing,) * 3)
    # The head is not in the middle of the image, and its top is below the image's.
    crown = isocentre + np.array([*rng.uniform(-8, 8, size=2), length / 2 - top])
    pet_grid = _pet_grid(rng, isocentre, length, recipe.spacing, scanner)
    ct_points, pet_points = (_points(grid, crown, patient) for grid in (ct_grid, pet_grid))
    label = contours(ct_points, patient).reshape(ct_grid.GetSize()[::-1])
    return (
        _ct(rng, ct_grid, ct_points, patient, scanner),
        _pet(rng, pet_grid, pet_points, patient, scanner),
        _image(label, ct_grid),
    )


def _pet_grid(
    rng: np.random.Generator, isocentre: Array, length: float, spacing: float, scanner: Scanner
) -> sitk.Image:
    """Return a grid wider than the CT's, shifted by part of a voxel, ending up to 8 mm above or below it."""
    middle = isocentre + np.array([*rng.uniform(-6, 6, size=2), rng.uniform(-4, 4)])
    extent = (
        _CT_WIDTH_MM + rng.uniform(24, 48),
        _CT_WIDTH_MM + rng.uniform(24, 48),
        length + rng.uniform(-8, 8),
    )
    in_plane, along = spacing * scanner.pet_in_plane, spacing * scanner.pet_along
    return _grid(middle, extent, (in_plane, in_plane, along))


def _ct(rng: np.random.Generator, grid: sitk.Image, points: Array, patient: Patient, scanner: Scanner) -> sitk.Image:
    hu = hounsfield(points, patient).reshape(grid.GetSize()[::-1])
    hu = ndimage.gaussian_filter(hu, sigma=0.5) + rng.normal(0, 15 * scanner.ct_noise, size=hu.shape)
    return _image(np.clip(np.rint(hu), -1024, 3071).astype(np.int16), grid)


def _pet(rng: np.random.Generator, grid: sitk.Image, points: Array, patient: Patient, scanner: Scanner) -> sitk.Image:
    suv = uptake(points, patient).reshape(grid.GetSize()[::-1])
    sigma_mm = _PSF_FWHM_MM * _FWHM_TO_SIGMA * scanner.psf
    suv = ndimage.gaussian_filter(suv, sigma=[sigma_mm / edge for edge in grid.GetSpacing()[::-1]])
    suv += rng.normal(size=suv.shape) * 0.10 * scanner.pet_noise * np.sqrt(suv)
    return _image(np.maximum(suv, 0).astype(np.float32), grid)


def _grid(middle: Array, extent: tuple[float, ...], spacing: tuple[float, ...]) -> sitk.Image:
    """Return an empty image of about an extent (x, y, z) in mm around a point."""
    size = np.rint(np.array(extent) / spacing).astype(int)
    grid = sitk.Image(size.tolist(), sitk.sitkUInt8)
    grid.SetSpacing(spacing)
    grid.SetOrigin((middle - (size - 1) * np.array(spacing) / 2).tolist())
    return grid


def _points(grid: sitk.Image, crown: Array, patient: Patient) -> Array:
    """Return the voxel centres (n, 3) of a grid in the patient's frame, x fastest."""
    sizes, spacings, origins = grid.GetSize(), grid.GetSpacing(), np.array(grid.GetOrigin()) - crown
    x, y, z = (origins[axis] + np.arange(sizes[axis]) * spacings[axis] for axis in range(3))
    cos, sin = np.cos(patient.yaw), np.sin(patient.yaw)
    turned_x, turned_y = cos * x + sin * y[:, None], -sin * x + cos * y[:, None]
    # A column per coordinate in memory: the anatomy is computed column by column.
    points = np.empty((3, *sizes[::-1]))
    points[0], points[1], points[2] = turned_x, turned_y, z[:, None, None]
    return points.reshape(3, -1).T / patient.scale


def _image(array: npt.NDArray[np.generic], grid: sitk.Image) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(grid)
    return image


def _places(folder: Path, case: str) -> tuple[Path, Path, Path]:
    images = folder / "imagesTr"
    return (
        images / f"{case}__CT.nii.gz",
        images / f"{case}__PT.nii.gz",
        folder / "labelsTr" / f"{case}.nii.gz",
    )


def _open_folder(folder: Path, recipe: CohortRecipe) -> None:
    marker = folder / SYNTHETIC_MARKER
    wanted = json.dumps(asdict(recipe))
    if marker.is_file():
        found = marker.read_text(encoding="utf-8")
        if found != wanted:
            raise ConversionError(
                f"{folder} holds a cohort made with {found}, now {wanted}; delete it or choose another -o"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConversionError(
            f"{folder} exists and is no synthetic cohort; expected a new or empty folder; choose another -o"
        )
    for leftover in folder.glob(".partial-*"):
        shutil.rmtree(leftover)
    for place in ("imagesTr", "labelsTr"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "NOTE.txt").write_text(_NOTE.format(**asdict(recipe)), encoding="utf-8")
    numbers = range(recipe.cases)
    nodes = [missing_structure(index) != "GTVn" for index in numbers]
    clinical = clinical_table([case_name(index) for index in numbers], nodes, recipe.seed)
    (folder / CLINICAL_FILE).write_text(clinical, encoding="utf-8")
    marker.write_text(wanted, encoding="utf-8")


def _publish(images: tuple[sitk.Image, ...], places: tuple[Path, ...], folder: Path) -> None:
    """Write the files of a case so that each appears complete or not at all."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as scratch:
        for image, place in zip(images, places, strict=True):
            partial = Path(scratch) / place.name
            sitk.WriteImage(image, str(partial), useCompression=True)
            partial.replace(place)
